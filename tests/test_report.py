"""The page of experiments: what it claims, what fits a narrow screen, and plots of a selection."""

import json
import re
from types import SimpleNamespace

import pytest
from helpers.browsing import PHONE, find_browser, open_browser, visiting
from helpers.cells import cell, save
from helpers.tiny import picture

from reasonedit import Edit, ReasonEditError
from reasonedit.commands import selection_plots
from reasonedit.embedding import EmbeddingConfig
from reasonedit.embedding.selection import LayerScore, Selection, WeightScore
from reasonedit.experiments import EXPERIMENTS
from reasonedit.experiments.editors import OURS
from reasonedit.experiments.gallery import _edits, write_gallery
from reasonedit.experiments.tables import table_of
from reasonedit.groups import LABELS
from reasonedit.report import write_page
from reasonedit.report.findings import judge_claims
from reasonedit.report.page import _is_best
from reasonedit.report.page_charts import charts_of
from reasonedit.report.ties import describe_layer_ties, describe_weight_ties

GROUPS = tuple(g for g in LABELS if not g.startswith(("port", "comp", "text_loc")))
SHARES = {"none": 0.1, "ft": 0.4, "ike": 0.5, "rag": 0.9, OURS: 0.9}


def main_table(shares=SHARES, seeds=(0, 1), edits=20):
    return table_of(EXPERIMENTS["main"], [cell(r, s, right=v, edits=edits) for r, v in shares.items() for s in seeds])


# ---- claims


@pytest.mark.parametrize(
    ("changes", "best"),
    [
        ({}, {"rag", OURS}),  # a tie: both
        ({"seeds": (0,), "edits": 80}, set()),
        ({"edits": 9}, set()),
        ({"shares": {"none": 0.1, "ike": 0.5, OURS: 0.9}}, set()),  # one rival
    ],
)
def test_the_best_of_a_column_is_marked_where_enough_rivals_were_asked_enough(changes, best):
    table = main_table(**changes)
    assert {row.name for row in table if _is_best(row, "r_gen", table)} == best


def test_a_tie_of_partial_answers_is_one_whatever_they_are_added_up_of():
    """Six times a third of an answer add up to a little less than two answers."""
    parts = {"rag": [1 / 3] * 6, OURS: [1.0, 1.0, 0.0, 0.0, 0.0, 0.0], "ike": [0.0] * 6}
    cells = [cell(row, seed, edits=120) for row in parts for seed in (0, 1)]
    for about, rows in cells:
        for i, row in enumerate(rows):  # six probes of a group for each of 20 edits
            row |= {"edit": f"{about['seed']}-{i % 120 // 6}", "accuracy": parts[about["row"]][i % 6]}
    table = table_of(EXPERIMENTS["main"], cells)
    assert {row.name for row in table if _is_best(row, "r_gen", table)} == {"rag", OURS}


def test_no_best_is_marked_among_rows_that_were_asked_about_other_edits():
    shares = {"ike": (0.9, (0, 1)), "rag": (0.5, (0, 1)), "ft": (0.4, (0, 1)), OURS: (0.6, (2, 3))}

    def best(rows):
        cells = [cell(r, s, right=v, edits=20, groups=GROUPS) for r, (v, seeds) in rows.items() for s in seeds]
        table = table_of(EXPERIMENTS["main"], cells)
        return [{row.name for row in table if _is_best(row, m, table)} for m in ("rel", "gen", "all")]

    assert best(shares) == [set()] * 3
    assert best({**shares, OURS: (0.6, (0, 1))}) == [{"ike"}] * 3


def test_without_a_rival_nothing_is_claimed_of_other_editors():
    assert judge_claims({"main": main_table({"none": 0.1, OURS: 0.9})}) == []
    assert judge_claims({"main": main_table({"none": 0.1, "ike": 0.2, OURS: 0.9})})


def test_before_is_the_answer_of_the_unedited_model():
    edit = Edit(picture(0), "What?", "right", ["So it is."], id="e")
    probe = {"edit": "e", "group": "rel", "before": "of the unedited model", "answer": "right"}
    (shown,) = _edits([edit], SimpleNamespace(), [probe])
    assert (shown["before"], shown["after"], shown["right"]) == ("of the unedited model", "right", True)


def test_a_gallery_shows_the_last_round(tmp_path):
    asked = {"id": "q", "edit": "e", "group": "t_gen", "phase": "probe", "edits": 2, "facts": [], "fact_edits": []}
    asked |= {"choices": None, "before": "x", "answer": "y", "target": "z", "targets": ["z"], "distances": []}
    asked |= {"left_out": [], "nearest": None, "threshold": None}
    rows = [{**asked, "round": 1, "right": False}, {**asked, "round": 2, "right": True}]
    query = SimpleNamespace(id="q", image=picture(0), question="What?")
    stream = SimpleNamespace(base=SimpleNamespace(edits=[], probes=[SimpleNamespace(query=query)]))
    write_gallery(tmp_path / "gallery.json", stream, SimpleNamespace(), rows)
    content = json.loads((tmp_path / "gallery.json").read_text())
    assert (content["probes"], content["failures"]) == (1, {})


# ---- the page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for row, share in SHARES.items():
        for seed in (0, 1):
            about, rows = cell(row, seed, right=share, edits=20, groups=GROUPS)
            save(folder / "main", ({**about, "edits": 15 if (row, seed) == ("rag", 1) else 20}, rows))
    return write_page(folder, folder / "report.html")


def test_the_folder_of_one_experiment_is_no_folder_of_results(page):
    with pytest.raises(ReasonEditError, match="holds one experiment: name the folder that it lies in"):
        write_page(page.parent / "main", page.parent / "main.html")


def test_definitions_and_bases_are_text(page):
    html = page.read_text()
    assert not re.search(r"\stitle=", html)
    assert "The same questions in other words" in html
    assert "asked right after its turn, also where nothing was written as it was right by then" in html
    assert "40 answers on 40 edits" in html
    assert "2 seeds; 15 to 20 edits written on each." in html  # RAG found five answered rightly by then


def test_each_column_is_shown_at_any_width(page):
    find_browser()
    columns = ["Rel at once", *(LABELS[g] for g in GROUPS), "Gen", "All", "s / edit", "ms / query", "keys / edit"]
    with open_browser() as browser, visiting(browser) as come:
        for width in (901, 945, 1100):
            visitor = come("", viewport={"width": width, "height": 900})
            visitor.page.goto(page.as_uri())
            heads = visitor.page.locator("#main ~ table.wide thead").first.locator("th:visible")
            assert heads.all_inner_texts()[1:] == columns
            rights = heads.evaluate_all("heads => heads.map(head => head.getBoundingClientRect().right)")
            assert max(rights) <= width
            assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width
        visitor = come("", color_scheme="dark", **PHONE)
        visitor.page.goto(page.as_uri())
        chosen = visitor.page.locator("#main ~ table.wide thead").first.locator("th:visible").all_inner_texts()[1:]
        assert chosen == ["Rel", "Loc", "hard Loc", "Gen"]
        visitor.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        below = visitor.page.locator("details.phone").first.locator("thead th:visible").all_inner_texts()
        assert sorted({*below, *chosen} - {"editor"}) == sorted(columns)
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert visitor.find_barriers() == []


def test_a_table_with_more_columns_than_fit_is_not_cut(tmp_path):
    find_browser()
    rows = [(row, cell(row, seed, right=0.45, groups=tuple(LABELS))) for row in ("none", OURS) for seed in (0, 1)]
    for row, one in rows:
        about, answers = one
        exact = [{**answer, "exact_match": i % 3 == 0} for i, answer in enumerate(answers)]
        save(tmp_path / "portability", ({**about, "title": f"An editor of name {row}"}, exact))
    page = write_page(tmp_path, tmp_path / "report.html")
    with open_browser() as browser, visiting(browser) as come:
        for width in (901, 1150, 1201, 1400):
            visitor = come("", viewport={"width": width, "height": 900})
            visitor.page.goto(page.as_uri())
            assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width
            heads = visitor.page.locator("#portability ~ table.wide thead").first.locator("th:visible").count()
            assert heads == (5 if width <= 1200 else 1 + len(LABELS) + 3 + 3)
            assert visitor.page.locator("details.phone").first.is_visible() is (width <= 1200)


@pytest.mark.parametrize(("name", "row", "shown"), [("main", OURS, 2), ("stress", OURS, 1), ("k", "k5", 0)])
def test_no_chart_is_drawn_of_what_was_not_asked(name, row, shown):
    """As of a data set that has neither hard locality nor generality."""
    table = table_of(EXPERIMENTS[name], [cell(row, 0, groups=("rel",), x=5.0)])
    assert len(charts_of(EXPERIMENTS[name], table)) == shown


def test_editors_of_one_title_that_were_run_in_turn_are_all_in_the_charts():
    cells = [
        cell(row, 0, right=0.5, title="Mine", seconds_per_edit=s, groups=GROUPS) for row, s in (("a", 1.0), ("b", 2.0))
    ]
    table = table_of(EXPERIMENTS["main"], cells)
    assert [row.title for row in table] == ["Mine (a)", "Mine (b)"]
    assert all("(a)" in chart["svg"] and "(b)" in chart["svg"] for chart in charts_of(EXPERIMENTS["main"], table))


def test_a_chart_speaks_of_the_unedited_model_where_it_has_its_row():
    for shares in (SHARES, {name: share for name, share in SHARES.items() if name != "none"}):
        said = any("the row “none”" in chart["text"] for chart in charts_of(EXPERIMENTS["main"], main_table(shares)))
        assert said is ("none" in shares)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"made": "2026-01-01"}'])
def test_a_damaged_file_beside_the_cells_is_named(tmp_path, content):
    save(tmp_path / "main", cell(OURS, 0))
    gallery = tmp_path / "main" / "cells" / f"{OURS}-0.gallery.json"
    gallery.write_text(content)
    if content != "{}":  # that of another cell
        with pytest.raises(ReasonEditError, match=r"reasonedit-0\.gallery\.json' is damaged: delete it"):
            write_page(tmp_path, tmp_path / "report.html")
    gallery.unlink()
    selection = tmp_path / "selection" / "selection.json"
    selection.parent.mkdir()
    selection.write_text(content)
    with pytest.raises(ReasonEditError, match="is not what reasonedit select wrote: delete it"):
        write_page(tmp_path, tmp_path / "report.html")


# ---- the plots of a selection


def layer(name, found, mean, auc=0.9, std=0.02):
    return {"layer": name, "transform": "raw", "mean": mean, "std": std, "found": found, "auc": auc, "margin": 0.1}


def weight(value, balance, std=0.02):
    return {"weight": value, "balance": balance, "balance_std": std} | {
        f"{half}{part}": 0.5 for half in ("vision", "language") for part in ("", "_std")
    }


def test_ties_are_said():
    layers = [layer("a", 1.0, 0.5), layer("b", 1.0, 0.7, auc=0.95), layer("c", 0.9, 0.68)]
    assert describe_layer_ties(layers, "views", "b").startswith("A tie: b and a have the same share of views found")
    assert describe_layer_ties(layers, "modularity", "b").startswith("A tie: b and c have Q within")
    assert describe_layer_ties([layers[1], layers[2]], "views", "b") == ""
    weights = [weight(0.3, 0.47), weight(1.0, 0.5), weight(3.0, 0.4)]
    assert "w = 0.3 and 1 lie within" in describe_weight_ties(weights, 1.0)
    assert describe_weight_ties(weights[1:], 1.0) == ""


def test_axes_of_scores_begin_at_zero(tmp_path):
    layers = [LayerScore(**layer(name, 0.97, mean)) for name, mean in (("a", 0.81), ("b", 0.82))]
    weights = [WeightScore(**weight(w, balance)) for w, balance in ((0.3, 0.81), (1.0, 0.82))]
    embedding = EmbeddingConfig(layer="b", text_weight=1.0)
    selection = Selection(layers, weights, embedding, {}, {"criterion": "views"})
    for draw in (selection_plots._draw_layers, selection_plots._draw_weights):
        figure, axes = selection_plots._figure()
        draw(axes, selection)
        assert [one.get_ylim()[0] for one in figure.axes] == [0.0] * len(figure.axes)
    selection_plots.plot_selection(selection, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"layers.png", "weights.png"}
