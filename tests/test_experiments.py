"""Experiments: cells that are run once, intervals, noise, and the page that shows them."""

import itertools
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.tiny import design
from helpers.toy import SeededToys, ToySource

from reasonedit import Edit, ReasonEditError, cli
from reasonedit.callbacks import Editor
from reasonedit.design import GROUNDED
from reasonedit.experiments import EXPERIMENTS, Experiment, Lab, read_cell, summarise
from reasonedit.experiments.described import said_of
from reasonedit.experiments.gallery import IGNORED, NOTHING, SWAYED, WRONG, cause_of
from reasonedit.experiments.noise import NoisyReasoning
from reasonedit.experiments.plans import OURS, Row, editing, with_editors
from reasonedit.experiments.remember import RememberedEvidence
from reasonedit.experiments.tables import cells_in, table_of, write_summary
from reasonedit.report import write_page
from reasonedit.report.charts import Line, bars, lines, scatter
from reasonedit.report.findings import findings

# ---- intervals


def test_shares_are_over_all_samples_and_intervals_hold_them():
    samples = {0: {"a": (1, 2), "b": (3, 3)}, 1: {"c": (0, 5), "d": (5, 5)}}
    (share, difference) = summarise({"ours": samples})["ours"]
    assert share.mean == pytest.approx(9 / 15)
    assert share.samples == 15
    assert share.seeds == pytest.approx((4 / 5, 5 / 10))
    assert share.low < share.mean < share.high
    assert difference is None


def test_the_interval_is_that_of_a_bootstrap_over_seeds_and_edits():
    """Against resampling in plain loops, with other random numbers."""
    rng = random.Random(3)
    samples = {s: {f"{s}-{e}": (rng.randint(0, 4), 4) for e in range(12)} for s in range(4)}
    found = []
    for _ in range(4000):
        right = total = 0
        for seed in rng.choices(list(samples), k=4):
            for edit in rng.choices(list(samples[seed]), k=12):
                right, total = right + samples[seed][edit][0], total + samples[seed][edit][1]
        found.append(right / total)
    low, high = np.percentile(found, [2.5, 97.5])
    share = summarise({"x": samples})["x"][0]
    assert share.low == pytest.approx(low, abs=0.015)
    assert share.high == pytest.approx(high, abs=0.015)


def test_differences_are_paired():
    rng = random.Random(1)
    hard = {s: {f"{e}": rng.random() < 0.5 for e in range(30)} for s in range(3)}
    ours = {s: {e: (int(not h), 1) for e, h in mine.items()} for s, mine in hard.items()}
    # The other editor fails wherever ours fails, and once more in each seed.
    other = {s: {e: (0 if e == "0" else r, n) for e, (r, n) in mine.items()} for s, mine in ours.items()}
    rows = summarise({"ours": ours, "other": other}, "ours")
    own, difference = rows["other"]
    assert difference is not None
    assert difference.mean == pytest.approx(own.mean - rows["ours"][0].mean)
    assert difference.high - difference.low < (own.high - own.low) / 2  # what is hard for both cancels
    same = summarise({"ours": ours, "other": ours}, "ours")["other"][1]
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    # Editors are compared where both were run.
    part = {0: other[0]}
    assert summarise({"ours": ours, "part": part}, "ours")["part"][1].samples == 30


# ---- noise


@pytest.mark.parametrize("kind", ["replaced", "mixed", "wrong", "missing"])
def test_noise_spoils_the_reasoning_and_nothing_else(kind):
    clean = {e.id: e for e in SeededToys(30).candidates()}
    spoilt = {e.id: e for e in NoisyReasoning(SeededToys(30), kind, 1.0).candidates()}
    assert clean.keys() == spoilt.keys()
    for name, edit in spoilt.items():
        before = clean[name]
        assert (edit.question, edit.answer, edit.choices) == (before.question, before.answer, before.choices)
        assert len(edit.evidence) == len(edit.reasoning)
        kept = [s for s in before.reasoning if s in edit.reasoning]
        if kind == "replaced":
            assert not kept
        if kind == "mixed":
            assert kept == before.reasoning
            assert len(edit.reasoning) == 2 * len(before.reasoning)
        if kind == "wrong":
            assert len(kept) == len(edit.reasoning) - 1 == len(before.reasoning) - 1
        if kind == "missing":
            assert len(edit.reasoning) == len(before.reasoning) - 1 == len(kept)
    none = NoisyReasoning(SeededToys(30), kind, 0.0)
    assert [e.reasoning for e in none.candidates()] == [e.reasoning for e in clean.values()]
    some = [e.reasoning != clean[e.id].reasoning for e in NoisyReasoning(SeededToys(30), kind, 0.5).candidates()]
    assert 0.25 < sum(some) / len(some) < 0.95
    again = [e.reasoning for e in NoisyReasoning(SeededToys(30), kind, 0.5).candidates()]
    assert again == [e.reasoning for e in NoisyReasoning(SeededToys(30), kind, 0.5).candidates()]


def test_a_wrong_sentence_says_that_another_answer_is_right():
    class Named(ToySource):
        def candidates(self):
            for i, edit in enumerate(itertools.islice(super().candidates(), 9)):
                yield replace(edit, answer=f"word{i}", reasoning=["It is round.", f"A thing is used for word{i}."])

    for edit in NoisyReasoning(Named(3), "wrong", 1.0).candidates():
        assert edit.reasoning[0] == "It is round."
        assert re.fullmatch(r"A thing is used for word\d\.", edit.reasoning[1])
        assert edit.answer not in edit.reasoning[1]


def test_noise_that_there_is_not_is_refused():
    with pytest.raises(ReasonEditError, match="kind must be one of"):
        NoisyReasoning(ToySource(), "loud", 0.5)
    with pytest.raises(ReasonEditError, match="share must be between 0 and 1"):
        NoisyReasoning(ToySource(), "mixed", 1.5)


# ---- cells


@pytest.fixture
def lab(tiny_folder, hash_encoder):
    source = {"class_path": "helpers.toy.SeededToys"}
    return Lab(
        {
            "model": {
                "class_path": "reasonedit.VLMModule",
                "init_args": {"model": str(tiny_folder), "dtype": "float32", "max_new_tokens": 3},
            },
            "data": {"class_path": "reasonedit.EditStream", "init_args": {"source": source, "batch_size": 4}},
        },
        edits=3,
    )


def experiment():
    rows = [r for r in EXPERIMENTS["main"].rows if r.name in ("none", "ike")]
    ours = Row(OURS, "ReasonEdit", editing(design(k=2, keys="both")), stream={"interleave": [1, 2], "sample": 1})
    return replace(EXPERIMENTS["main"], rows=(*rows, ours))


def run_all(lab, folder, plan, seeds=(0, 1)):
    return [lab.run(cell, folder) for cell in plan.cells(seeds)]


def test_an_experiment_is_run_once_and_goes_on_where_it_stopped(lab, tmp_path):
    plan, folder = experiment(), tmp_path / "main"
    assert run_all(lab, folder, plan) == [True] * 6
    assert run_all(lab, folder, plan) == [False] * 6  # all there
    (folder / "cells" / "ike-1.parquet").unlink()
    assert run_all(lab, folder, plan) == [False, False, False, False, True, False]
    lab.edits = 2
    assert run_all(lab, folder, plan, (0,)) == [True] * 3  # made by another config: not taken for the same
    assert not list((folder / "cells").glob(".*"))


def test_a_cell_holds_what_made_it_and_what_came_of_it(lab, tmp_path):
    plan, folder = experiment(), tmp_path / "main"
    run_all(lab, folder, plan)
    about, rows = read_cell(folder / "cells" / f"{OURS}-1.parquet")
    assert about["data"]["init_args"]["source"]["init_args"] == {"seed": 1, "edits": 3}
    assert about["seed"] == 1
    assert (about["edits"], about["model"]["max_new_tokens"]) == (3, 3)
    assert about["seconds_per_edit"] > 0
    assert about["keys"] > 0
    assert about["versions"]["torch"]
    assert {r["edit"] for r in rows} == {"toy-10", "toy-11", "toy-12"}
    assert {r["edits"] for r in rows if r["phase"] == "probe"} == {1, 2, 3}
    assert all(r["before"] is not None for r in rows if r["phase"] == "probe")
    none = read_cell(folder / "cells" / "none-1.parquet")[1]
    assert all(r["answer"] == r["before"] for r in none if r["phase"] == "probe")
    broken = folder / "cells" / "broken-1.parquet"
    broken.write_bytes(b"no parquet")
    with pytest.raises(ReasonEditError, match=r"broken-1\.parquet' is no result of an experiment"):
        cells_in(folder)


def test_evidence_is_sought_once(lab, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.experiments.remember.cache_folder", lambda: tmp_path / "cache")
    plan = experiment()
    sought = []
    original = RememberedEvidence.__mro__[1].find_seen
    monkeypatch.setattr(
        "reasonedit.evidence.EvidenceFinder.find_seen",
        lambda self, image, sentences, layers=(): sought.append(1) or original(self, image, sentences, layers),
    )
    folders = [tmp_path / name / "main" for name in ("a", "b")]
    for folder in folders:
        assert run_all(lab, folder, replace(plan, rows=plan.rows[-1:]), (0,)) == [True]
    assert len(sought) == 3  # once for each edit
    first, second = (read_cell(f / "cells" / f"{OURS}-0.parquet") for f in folders)
    for a, b in zip(first[1], second[1], strict=True):
        assert (a["answer"], a["facts"]) == (b["answer"], b["facts"])
        assert a["distances"] == pytest.approx(b["distances"], abs=1e-5)
    # What was not done again counts as if it had been.
    assert second[0]["seconds_per_edit"] > 0.3 * first[0]["seconds_per_edit"]


def test_tables_count_what_the_predictions_say(lab, tmp_path):
    plan, folder = experiment(), tmp_path / "main"
    run_all(lab, folder, plan)
    cells = cells_in(folder)
    table = {row.name: row for row in table_of(plan, cells)}
    assert list(table) == ["none", "ike", OURS]
    for name, row in table.items():
        mine = [r for about, rows in cells for r in rows if about["row"] == name]
        for group in ("rel", "t_gen"):
            right = [r["right"] for r in mine if r["group"] == group and r["edits"] == 3]
            assert row.metrics[group].mean == pytest.approx(sum(right) / len(right))
            assert row.metrics[group].samples == len(right) == 6
        now = [r["right"] for r in mine if r["phase"] == "check"]
        assert row.metrics["now"].mean == pytest.approx(sum(now) / len(now))
    assert sorted(table[OURS].history) == [1, 2, 3]
    assert table[OURS].history[1]["rel"].samples == 2  # one edit of each seed
    assert "rel" in table["none"].differences
    assert not table[OURS].differences
    write_summary(folder / "summary.parquet", list(table.values()))
    kept = {(r["row"], r["metric"]): r for r in pq.read_table(folder / "summary.parquet").to_pylist()}
    assert kept["ike", "rel"]["mean"] == table["ike"].metrics["rel"].mean


@pytest.mark.parametrize(
    ("group", "right", "facts", "of", "cause"),
    [
        ("r_gen", True, ["f"], ["e"], None),
        ("r_gen", False, [], [], NOTHING),
        ("r_gen", False, ["f"], ["other"], WRONG),
        ("r_gen", False, ["g", "f"], ["other", "e"], IGNORED),
        ("hard_loc", False, ["g"], ["other"], SWAYED),
    ],
)
def test_failures_have_a_cause(group, right, facts, of, cause):
    row = {"phase": "probe", "group": group, "right": right, "facts": facts, "fact_edits": of, "edit": "e"}
    assert cause_of(row) == cause


def test_every_plan_names_its_rows_once():
    for plan in EXPERIMENTS.values():
        names = [row.name for row in plan.rows]
        assert len(set(names)) == len(names)
        assert plan.reference in names
        assert len(plan.cells([0, 1])) == 2 * len(names)
        made = SimpleNamespace(  # what the plans ask of a lab
            design=GROUNDED,
            mend_network="mend.safetensors",
            module=SimpleNamespace(vlm=SimpleNamespace(language_layers=["blocks.0", "blocks.1"])),
        )
        said = [
            (said_of(next(c for c in row.make(made) if isinstance(c, Editor)), GROUNDED), row.noise)
            for row in plan.rows
        ]
        assert all(a != b for a, b in itertools.combinations(said, 2)), f"two rows of {plan.name} are the same"
    with pytest.raises(ReasonEditError, match="has no row 'nobody'"):
        EXPERIMENTS["main"].cells([0], ["nobody"])


# ---- the page


def page(lab, tmp_path, **changes) -> str:
    plan = experiment()
    run_all(lab, tmp_path / "main", replace(plan, **changes))
    return write_page(tmp_path, tmp_path / "report.html").read_text()


def test_the_page_is_one_file_that_shows_tables_charts_and_cards(lab, tmp_path):
    (tmp_path / "k" / "cells").mkdir(parents=True)  # one that has only begun
    html = page(lab, tmp_path)
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)  # nothing is fetched from elsewhere
    assert "<script" not in html
    assert html.count("<tr") > 4
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert 'name="viewport"' in html
    assert html.count("<svg") >= 3
    assert html.count('class="card"') >= 3
    assert "#0102" not in html  # colours that stand for those of the page
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_what_people_wrote_is_text_on_the_page(lab, tmp_path, monkeypatch):
    original = SeededToys.candidates

    def hostile(self) -> Iterator[Edit]:
        for edit in original(self):
            yield replace(edit, reasoning=["<script>alert(1)</script> is round.", "It is <b>it</b>."])

    monkeypatch.setattr(SeededToys, "candidates", hostile)
    html = page(lab, tmp_path)
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; is round." in html


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_without_scrolling_sideways(lab, tmp_path, width):
    page(lab, tmp_path)
    probe = tmp_path / "probe.html"
    html = (tmp_path / "report.html").read_text()
    measured = "<script>document.title = 'wide ' + document.documentElement.scrollWidth</script></body>"
    probe.write_text(html.replace("</body>", measured))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    done = subprocess.run(
        [
            "chromium",
            *options,
            f"--user-data-dir={tmp_path}/profile",
            f"--window-size={width},900",
            "--dump-dom",
            probe,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r"<title>wide (\d+)</title>", done.stdout)
    assert found is not None
    assert int(found.group(1)) <= max(width, 500)  # the narrowest window of the browser


def test_a_page_of_nothing_says_what_to_do(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 1
    assert "run reasonedit experiment main" in capsys.readouterr().err


def test_charts_take_their_colours_from_the_page():
    svg = lines({"a": [Line("x", [1, 2], [0.1, 0.2], [0.0, 0.1], [0.2, 0.3])]}, x_label="n")
    for chart in (
        svg,
        scatter({"ReasonEdit": (0.5, 0.5), "IKE": (0.2, 0.9)}, x_label="a", y_label="b"),
        bars({"a": 1.0}, x_label="s"),
    ):
        assert chart.startswith("<svg")
        assert "var(--s" in chart
        assert "currentColor" in chart


def test_findings_are_no_where_the_other_is_ahead(lab, tmp_path):
    plan = experiment()
    run_all(lab, tmp_path / "main", plan)
    table = table_of(plan, cells_in(tmp_path / "main"))
    for row in table:
        if row.name == "ike":
            row.metrics["r_gen"] = row.metrics["rel"] = replace(row.metrics["t_gen"], mean=0.9)
            row.differences["r_gen"] = row.differences["rel"] = replace(
                row.metrics["t_gen"], mean=0.4, low=0.2, high=0.6
            )
        if row.name == OURS:
            row.metrics["r_gen"] = row.metrics["rel"] = replace(row.metrics["t_gen"], mean=0.5)
    found = {f.claim: f for f in findings({"main": table})}
    assert found["ReasonEdit corrects more than any other editor: R-Gen"].verdict == "no"
    assert found["Rel is not below that of the best editor"].verdict == "no"
    assert "ahead by -0.400 [-0.600, -0.200]" in found["ReasonEdit corrects more than any other editor: R-Gen"].seen


# ---- the command


def test_the_command_lists_rows_and_refuses_what_is_not_there(capsys):
    assert cli.main(["experiment", "main", "--list"]) == 0
    assert "grace-cot" in capsys.readouterr().out
    assert cli.main(["experiment", "main", "--config", "nothing.yaml"]) == 1
    assert "no config file 'nothing.yaml'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["experiment", "nothing"])


def test_an_editor_of_ones_own_is_one_more_row():
    plan = with_editors(EXPERIMENTS["main"], ["reasonedit.callbacks.baselines.Unedited"])
    assert plan.rows[-1].name == "unedited"
    assert plan.rows[-1].stream == plan.rows[0].stream
    for path, reason in (("nowhere.Editor", "There is no editor"), ("reasonedit.Edit", "is no editor: derive it")):
        with pytest.raises(ReasonEditError, match=reason):
            with_editors(EXPERIMENTS["main"], [path])


def test_plans_are_experiments():
    assert all(isinstance(e, Experiment) for e in EXPERIMENTS.values())
    assert set(EXPERIMENTS) == {"main", "design", "embedding", "threshold", "k", "keys", "noise", "stress", "probes"}
