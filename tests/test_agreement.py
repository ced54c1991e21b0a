"""Cells that do not agree never stand in one table, and no claim is more than its figures say."""

import itertools
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.cells import cell, save

from reasonedit import ReasonEditError
from reasonedit.commands.experiment_tables import as_json
from reasonedit.experiments import EXPERIMENTS, summarise, tensorboard_runs
from reasonedit.experiments.agreement import is_same, select_agreeing
from reasonedit.experiments.bootstrap import Estimate
from reasonedit.experiments.editors import OURS, PAPER_ROW
from reasonedit.experiments.tables import TableRow, cells_in, table_of, write_summary
from reasonedit.experiments.tensorboard_runs import LEFT_OUT, begin_run, set_others_aside
from reasonedit.groups import GENERALITIES
from reasonedit.report import page_charts, write_page
from reasonedit.report.findings import judge_claims
from reasonedit.report.verdicts import NO, OPEN, YES

MAIN = EXPERIMENTS["main"]
OLD, NEW = "2026-01-01T10:00:00.000001+00:00", "2026-01-02T10:00:00.000001+00:00"


def shown(table):
    return {(about["row"], about["seed"]) for about in table.cells}


# ---- cells that belong together


OTHERS = {
    "40 edits instead of 20": {"wanted": 40},
    "another data set": {"data": {"class_path": "another.Stream"}},
    r"another content of 'corrections\.jsonl'": {"files": {"corrections.jsonl": "f1"}},
    r"another model \(identity\)": {"model": {"identity": "m1"}},
    "another max_new_tokens of the model": {"model": {"generation": {"max_new_tokens": 32}}},
    "another device of the model": {"model": {"device": "a GPU"}},
    "another sentence encoder 'embedded'": {"encoders": {"embedded": "e1"}},
    r"torch 1\.9 instead of 2\.0": {"libraries": {"torch": "1.9"}},
    r"other code \(reasonedit\.vlm\.base\)": {"code": {"reasonedit.vlm.base": "c1"}},
    r"other code \(reasonedit\.vlm\.base and 1 more\)": {
        "code": {"reasonedit.vlm.base": "1", "reasonedit.pipeline": "1"}
    },
    "other questions with the same seed": {"asked": "something else"},
    "do not say what code": {"code": None},
}


@pytest.mark.parametrize("reason", OTHERS)
def test_older_cells_of_anything_else_are_left_out_and_said(reason):
    new = [cell(row, seed, wanted=20, made=NEW, right=1.0) for row in (OURS, "ike") for seed in (0, 1)]
    old = [cell("grace", seed, **{"wanted": 20, "made": OLD, "right": 0.0, **OTHERS[reason]}) for seed in (0, 1)]
    for cells in itertools.islice(itertools.permutations(new + old), 0, 720, 97):
        table = table_of(MAIN, cells)
        assert shown(table) == {(OURS, 0), (OURS, 1), ("ike", 0), ("ike", 1)}
        (sentence, *_) = table.left_out
        assert re.search(reason, sentence)
        assert "grace (seed" in sentence
        assert sum(int(s.split()[0]) for s in table.left_out) == 2
    # Without the new ones the old ones are a table, where they say what they are of.
    if OTHERS[reason].get("code", {}) is not None:
        assert shown(table_of(MAIN, old)) == {("grace", 0), ("grace", 1)} or reason.startswith("other questions")


def test_seeds_of_one_row_are_never_averaged_over_two_versions():
    cells = [cell(OURS, 0, made=OLD, right=0.0, edits=40), cell(OURS, 1, made=NEW, right=1.0, edits=20, wanted=20)]
    (row,) = table = table_of(MAIN, cells)
    assert (row.seeds, row.metrics["rel"].mean, row.costs["edits"]) == ([1], 1.0, 20)
    assert table.left_out == [f"1 result of {OURS} (seed 0) left out: 40 edits instead of 20."]


def test_a_row_agrees_with_itself_and_shares_code_with_others():
    # A baseline of its own code stands beside others; a row whose own settings or code changed does not.
    other = {"editor": {"class": "GRACE", "epsilon": 2.0}}
    cells = [
        cell(OURS, 0, made=NEW),
        cell("grace", 0, made=NEW, code={"baselines.grace": "g1", "reasonedit.pipeline": "c0"}),
        cell("grace", 1, made=OLD, code={"baselines.grace": "g0"}),
        cell("ike", 0, made=NEW, code={"baselines.ike": "i0"}),
        cell("ike", 1, made=OLD, code={"baselines.ike": "i0"}, **other),
        cell("mend", 0, made=OLD, stream={"interleave": [3]}),
    ]
    table = table_of(MAIN, cells)
    assert shown(table) == {(OURS, 0), ("grace", 0), ("ike", 0), ("mend", 0)}
    assert len(table.left_out) == 2
    assert any("grace (seed 1) left out: other code (baselines.grace)" in s for s in table.left_out)
    assert any("ike (seed 1) left out: other settings of the same editor" in s for s in table.left_out)


def test_what_a_cell_is_called_and_where_its_model_lies_does_not_matter():
    one = cell(OURS, 0, made=OLD)[0]
    again = cell(OURS, 0, made=NEW, title="Another name", x=3.0, model={"name": "elsewhere"})[0]
    assert is_same(one, again)
    table = table_of(MAIN, [cell(OURS, 0, title="An old title"), cell("ike", 0, model={"name": "elsewhere"})])
    assert len(table.cells) == 2
    assert [row.title for row in table] == ["IKE", "ReasonEdit"]  # the plan's
    for change in OTHERS.values():
        if "asked" not in change:
            assert not is_same(
                one, cell(OURS, 0, **{"wanted": 40, **change, **({"wanted": 20} if "wanted" in change else {})})[0]
            )


def test_the_same_result_twice_counts_once(tmp_path):
    for name, made in (("a", OLD), ("b", NEW), ("copy of b", NEW)):
        save(tmp_path, cell(OURS, 0, made=made), name)
    save(tmp_path, cell(OURS, 1, made=OLD))
    (row,) = table = table_of(MAIN, cells_in(tmp_path))
    assert row.seeds == [0, 1]
    assert row.metrics["rel"].samples == 20
    assert table.cells[0]["made"] == NEW
    assert table.left_out == [
        f"2 results of {OURS} (seeds 0, 0) left out: another result of the same row and seed is there."
    ]


def test_seeds_that_ask_the_same_count_once():
    same_questions = {"asked": "the same"}
    (row,) = table = table_of(
        MAIN, [cell(OURS, 1, made=OLD, **same_questions), cell(OURS, 0, made=NEW, **same_questions)]
    )
    assert row.seeds == [0]
    assert "the very questions of seed 0 once more" in table.left_out[0]


def test_two_folders_in_one_are_not_one_table(tmp_path):
    for seed in (0, 1):
        save(tmp_path, cell(OURS, seed, made=OLD, right=1.0))
        save(tmp_path, cell("ike", seed, made=OLD, right=1.0))
        save(tmp_path, cell("ike", seed, made=NEW, right=0.0, model={"identity": "m1"}), f"ike-{seed} (copy)")
    table = table_of(MAIN, cells_in(tmp_path))
    assert shown(table) == {("ike", 0), ("ike", 1)}
    assert table[0].metrics["rel"].mean == 0.0
    assert sum(int(s.split()[0]) for s in table.left_out) == 4


def test_what_cannot_be_told_apart_is_an_error():
    with pytest.raises(ReasonEditError, match="do not say what code, data and model they were made with"):
        table_of(MAIN, [cell(OURS, 0, code=None), cell("ike", 0, made=None)])
    with pytest.raises(
        ReasonEditError, match=r"at the same time .* nobody can tell which count: they are of other code"
    ):
        table_of(MAIN, [cell(OURS, 0, made=NEW), cell("ike", 0, made=NEW, code={"reasonedit.vlm.base": "c1"})])


def test_what_was_just_asked_for_is_shown_though_others_are_newer():
    cells = [cell(OURS, 0, made=OLD), cell("ike", 0, made=NEW, wanted=20)]
    assert shown(table_of(MAIN, cells)) == {("ike", 0)}
    assert shown(table_of(MAIN, cells, lambda about: about["row"] == OURS)) == {(OURS, 0)}
    agreed = select_agreeing(cells, lambda about: about["row"] == OURS)
    assert agreed.left_out == ["1 result of ike (seed 0) left out: 20 edits instead of 40."]


def test_half_a_cell_is_refused(tmp_path):
    about, rows = cell(OURS, 0)
    path = save(tmp_path, ({**about, "answers": len(rows)}, rows[:-1]))
    with pytest.raises(ReasonEditError, match=rf"'{path}' holds {len(rows) - 1} of its {len(rows)} answers"):
        cells_in(tmp_path)


def test_rows_of_an_interrupted_cell_are_no_cell(tmp_path):
    save(tmp_path, cell(OURS, 0))
    for name in (".ike-0.parquet.rows", ".ike-0.parquet.77.rows", ".ike-0.parquet.part"):
        (tmp_path / "cells" / name).write_bytes(b"half")
    assert [about["row"] for about, _ in cells_in(tmp_path)] == [OURS]


# ---- figures


def test_costs_are_of_all_seeds_or_not_given(tmp_path):
    cells = [cell(OURS, 0, ms_per_query=None), cell(OURS, 1, seconds_per_edit=math.nan), cell("ike", 0, edits=0)]
    ours = table_of(MAIN, cells[:2])[0]
    assert set(ours.costs) == {"edits", "keys", "ms_per_query_unedited"}
    table = table_of(MAIN, [*cells[:2], cell("ike", 0, seconds_per_edit=None)])
    assert table.notes == ["Not all rows are of seeds 0, 1: ike (seed 0)."]
    write_summary(tmp_path / "summary.parquet", table)
    kept = {r["row"]: r for r in pq.read_table(tmp_path / "summary.parquet").to_pylist() if r["metric"] == "rel"}
    assert kept[OURS]["seconds_per_edit"] is kept["ike"]["seconds_per_edit"] is None
    assert (kept["ike"]["difference_edits"], kept["ike"]["difference_seeds"]) == (10, 1)


def test_rows_on_other_seeds_are_named():
    shares = {"ike": (0.9, (0, 1)), "grace": (0.5, (0, 1)), "ft": (0.4, (0, 1)), OURS: (0.6, (2, 3))}
    table = table_of(MAIN, [cell(r, s, right=v, edits=20) for r, (v, seeds) in shares.items() for s in seeds])
    assert table.notes == [f"Not all rows are of seeds 0, 1: {OURS} (seeds 2, 3)."]
    assert not any(row.differences for row in table)
    assert not table_of(MAIN, [cell(r, s) for r in shares for s in (0, 1)]).notes


def test_differences_are_of_what_both_have_and_say_of_how_much():
    ours = {0: {"a": (1, 2), "b": (2, 2)}, 1: {"c": (1, 1)}, 2: {"d": (0, 1)}}
    other = {0: {"a": (0, 2), "x": (1, 1)}, 1: {"c": (0, 0)}, 3: {"y": (1, 1)}}
    made = summarise({"ours": ours, "other": other}, "ours")["other"][1]
    assert (made.mean, made.edits, len(made.seeds)) == (-0.5, 1, 1)
    apart = summarise({"ours": ours, "other": {7: {"z": (1, 1)}}}, "ours")["other"][1]
    assert math.isnan(apart.mean)
    assert (apart.edits, apart.seeds) == (0, ())


def test_a_mean_of_shares_has_an_interval_of_its_own(tmp_path):
    cells = [cell(OURS, seed, groups=GENERALITIES) for seed in (0, 1)]
    table = table_of(MAIN, cells)
    gen = table[0].metrics["gen"]
    assert gen.mean == 0.5
    assert gen.low < 0.5 < gen.high
    assert (gen.samples, gen.edits) == (4 * 20, 20)
    assert "all" not in table[0].metrics  # no locality was asked
    write_summary(tmp_path / "summary.parquet", table)
    kept = {r["metric"]: r for r in pq.read_table(tmp_path / "summary.parquet").to_pylist()}
    assert kept["gen"]["low"] == gen.low


def test_a_seed_without_a_figure_is_null_for_a_program(tmp_path):
    """As where no R-Gen probe of a seed could be made."""
    cells = [cell(OURS, seed, right=right, groups=GENERALITIES) for seed, right in enumerate((0.5, 0.5, 0.8))]
    cells[1] = (cells[1][0], [row for row in cells[1][1] if row["group"] != "r_gen"])
    table = table_of(MAIN, cells)
    told = json.loads(json.dumps(as_json("main", Path("results"), table, [], []), allow_nan=False))
    shares = told["rows"][0]["metrics"]
    assert shares["gen"]["seeds"] == shares["r_gen"]["seeds"] == [0.5, None, pytest.approx(0.8)]
    assert shares["now"]["seeds"] == [0.5, 0.5, 0.8]
    write_summary(tmp_path / "summary.parquet", table)
    kept = {r["metric"]: r["seeds"] for r in pq.read_table(tmp_path / "summary.parquet").to_pylist()}
    assert kept["r_gen"] == pytest.approx([0.5, math.nan, 0.8], nan_ok=True)


def test_bounds_and_edits_that_stand_alone_are_compared_with_nothing(tmp_path):
    shares = {OURS: 0.9, "ike": 0.5, "ike-told": 0.5, "ft-alone": 0.5}
    groups = (*GENERALITIES, "loc", "hard_loc")
    table = table_of(MAIN, [cell(row, s, right=r, groups=groups) for row, r in shares.items() for s in (0, 1)])
    assert {row.name for row in table if row.differences} == {"ike"}
    write_summary(tmp_path / "summary.parquet", table)
    rows = pq.read_table(tmp_path / "summary.parquet").to_pylist()
    assert {row["row"] for row in rows if row["difference"] is not None} == {"ike"}
    assert {row["row"] for row in rows} == {*shares}


# ---- claims


def everybody(seeds=(0, 1, 2), edits=20, ours=1.0, others=0.3, best=0.3, **changes):
    """A main table in which all editors of the plan were run."""
    shares = {row.name: others for row in MAIN.rows} | {OURS: ours, "ike-cot": best}
    return table_of(MAIN, [cell(row, s, right=r, edits=edits, **changes) for row, r in shares.items() for s in seeds])


def verdicts(**tables):
    return {f.claim.partition(" (by ")[0]: f for f in judge_claims(tables)}


CORRECTS = "ReasonEdit corrects more than any other editor: R-Gen"
NOT_BELOW = "Rel is not below that of the best editor"


def test_a_claim_is_yes_or_no_where_the_intervals_show_it():
    seen = verdicts(main=everybody())
    assert seen[CORRECTS].verdict == seen[NOT_BELOW].verdict == YES
    assert "from 3 seeds and 60 edits" in seen[CORRECTS].figures
    assert seen["Our design does better than the paper's"].verdict == YES
    seen = verdicts(main=everybody(ours=0.3, best=1.0))
    assert seen[CORRECTS].verdict == seen[NOT_BELOW].verdict == NO
    assert seen["Our design does better than the paper's"].verdict == OPEN
    assert verdicts(main=everybody(ours=0.3, others=1.0))["Our design does better than the paper's"].verdict == NO


@pytest.mark.parametrize(
    ("seeds", "edits", "said"),
    [
        ((0,), 100, "from 1 seed and 100 edits"),
        ((0, 1), 9, "from 2 seeds and 18 edits"),
        ((0,), 6, "from 1 seed and 6 edits"),
    ],
)
def test_no_claim_is_made_from_one_seed_or_from_few_edits(seeds, edits, said):
    for ours in (1.0, 0.0):
        for finding in judge_claims({"main": everybody(seeds, edits, ours=ours)}):
            assert finding.verdict == OPEN
            assert f"{said}, too few to conclude anything" in finding.figures


def test_not_to_differ_is_no_proof_of_being_as_good():
    # On 20 edits of two seeds, half right each: equal, and the interval is wide only if edits differ.
    rows = {name: [cell(name, s, right=0.5, edits=10) for s in (0, 1)] for name in (r.name for r in MAIN.rows)}
    for _, answers in rows["ike"]:
        for answer in answers:
            answer["right"] = not answer["right"]  # the same share, on the other edits
    seen = verdicts(main=table_of(MAIN, itertools.chain(*rows.values())))
    assert seen[NOT_BELOW].verdict == OPEN
    assert "least surely ahead of IKE: +0.000 [-" in seen[NOT_BELOW].figures


def test_any_other_editor_means_all_of_them():
    table = [row for row in everybody() if row.name in (OURS, "ike", "none")]
    seen = verdicts(main=table)
    assert seen[CORRECTS].verdict == OPEN
    left_out = seen[CORRECTS].figures.partition("not compared with ")[2]
    assert {"FT", "LoRA", "MEND", "SERAC", "WISE", "GRACE", "BalancEdit", "IKE-CoT", "RAG"} <= {*left_out.split(", ")}
    worse = [row for row in everybody(ours=0.1, others=0.9) if row.name in (OURS, "ike")]
    assert verdicts(main=worse)[CORRECTS].verdict == NO
    # Ahead of the best on average is not ahead of everybody.
    table = everybody(best=0.9)
    for row in table:
        if row.name == "grace":
            row.differences["r_gen"] = replace(row.differences["r_gen"], low=-0.9, high=0.2)
    assert verdicts(main=table)[CORRECTS].verdict == OPEN


@pytest.mark.parametrize(
    ("r_gen", "loc", "verdict"),
    [
        ((0.3, 0.5), (-0.4, -0.2), NO),  # worse by more than the bound, whatever is better
        ((-0.1, 0.2), (-0.04, -0.01), OPEN),  # it may be better in one, and the other is within the bound
        ((0.3, 0.5), (-0.04, -0.01), YES),
        ((-0.04, -0.01), (-0.04, -0.01), NO),  # better in none
    ],
)
def test_better_in_one_and_not_worse_in_any_is_refuted_by_what_contradicts_it(r_gen, loc, verdict):
    table = everybody()
    for row in table:
        if row.name == PAPER_ROW:  # a difference is that of the other row from ours
            row.differences = {
                group: replace(row.differences[group], low=-high, high=-low, mean=-(low + high) / 2)
                for group, (low, high) in {"r_gen": r_gen, "loc": loc}.items()
            }
    assert verdicts(main=table)["Our design does better than the paper's"].verdict == verdict


@pytest.mark.parametrize(
    "broken", [{"low": math.nan}, {"high": math.nan}, {"mean": math.nan}, {"low": math.inf}, {"low": 0.5}]
)
def test_no_claim_is_made_of_what_is_no_number(broken):
    for ours in (1.0, 0.0):
        table = everybody(ours=ours)
        for row in table:
            if row.name in ("ike", PAPER_ROW):
                row.differences = {g: replace(d, **broken) for g, d in row.differences.items()}
        assert {f.verdict for f in judge_claims({"main": table})} == {OPEN}


def test_editors_on_other_seeds_are_named_and_leave_a_claim_open():
    others = [cell(row, s, right=0.3, edits=20) for row in ("ike", "grace") for s in (0, 1)]
    ours = [cell(OURS, s, right=0.9, edits=20) for s in (2, 3)]
    found = verdicts(main=table_of(MAIN, [*others, *ours]))[CORRECTS]
    assert found.verdict == OPEN
    assert {"IKE", "GRACE"} <= set(found.figures.partition("not compared with ")[2].split(", "))


def test_an_editor_of_ones_own_counts_among_all_others():
    """Also one that shares no edit with ours, or the title of another editor."""
    everyone = [
        cell(row.name, s, right=0.9 if row.name == OURS else 0.3, edits=20) for row in MAIN.rows for s in (0, 1)
    ]
    elsewhere = [cell("mine", s, right=1.0, edits=20, title="Mine") for s in (2, 3)]
    found = verdicts(main=table_of(MAIN, [*everyone, *elsewhere]))[CORRECTS]
    assert (found.verdict, found.figures.endswith("; not compared with Mine")) == (OPEN, True)
    without_ft = [one for one in everyone if one[0]["row"] != "ft"]
    namesake = [cell("mine", s, right=0.2, edits=20, title="FT") for s in (0, 1)]
    found = verdicts(main=table_of(MAIN, [*without_ft, *namesake]))[CORRECTS]
    assert (found.verdict, found.figures.endswith("; not compared with FT")) == (OPEN, True)
    worse = [cell("mine", s, right=1.0, edits=20, title="FT") for s in (0, 1)]
    assert verdicts(main=table_of(MAIN, [*worse, *everyone]))[CORRECTS].verdict == NO


def test_bare_estimates_support_nothing():
    """Of estimates that do not say of how many edits they are nothing follows."""
    sure = {group: Estimate(-0.5, -0.6, -0.4, 900) for group in ("rel", "r_gen")}
    table = [TableRow(n, n, None, "", [0, 1], metrics=sure, differences=sure) for n in (OURS, "ike")]
    assert {f.verdict for f in judge_claims({"main": table})} == {OPEN}
    assert judge_claims({"main": []}) == judge_claims({"threshold": [], "k": [], "stress": [], "embedding": []}) == []


def sweep(name, shares, seeds=(0, 1), edits=40):
    """A table of a sweep in which each row has a share of its own."""
    plan = EXPERIMENTS[name]
    return table_of(plan, [cell(row, s, right=r, edits=edits) for row, r in shares.items() for s in seeds])


def test_a_range_is_robust_if_no_change_within_it_can_be_large():
    claim = "p between 10 and 50 is robust (ours)"
    level = verdicts(threshold=sweep("threshold", {"p10": 0.5, "p25": 0.5, "p50": 0.5}))[claim]
    assert level.verdict == YES
    assert "from 2 seeds and 80 edits" in level.figures
    assert verdicts(threshold=sweep("threshold", {"p10": 0.9, "p25": 0.5, "p50": 0.5}))[claim].verdict == NO
    # A change whose interval crosses the margin is neither.
    assert verdicts(threshold=sweep("threshold", {"p10": 0.5, "p25": 0.55, "p50": 0.5}))[claim].verdict == OPEN
    missing = verdicts(threshold=sweep("threshold", {"p10": 0.5, "p25": 0.5}))[claim]
    assert missing.verdict == OPEN
    assert "p = 50 was not run" in missing.figures
    assert verdicts(threshold=sweep("threshold", {"p10": 0.5, "p25": 0.5, "p50": 0.5}, (0,)))[claim].verdict == OPEN
    # What lies outside of the range does not bear on it.
    assert verdicts(threshold=sweep("threshold", {"p1": 0.0, "p10": 0.5, "p25": 0.5, "p50": 0.5}))[claim].verdict == YES


def test_some_facts_suffice_if_more_cannot_add_much():
    claim = "K = 5 suffices (ours)"
    assert verdicts(k=sweep("k", {"k3": 0.4, "k5": 0.5, "k8": 0.5, "k12": 0.5}))[claim].verdict == YES
    assert verdicts(k=sweep("k", {"k3": 0.4, "k5": 0.5, "k8": 0.9}))[claim].verdict == NO
    assert verdicts(k=sweep("k", {"k5": 0.5, "k8": 0.525}))[claim].verdict == OPEN
    alone = verdicts(k=sweep("k", {"k3": 0.5, "k5": 0.5}))[claim]
    assert alone.verdict == OPEN
    assert "no K above 5 was run" in alone.figures


def test_the_largest_change_is_one_of_rows_that_were_asked_the_same():
    def of(name, shares):
        cells = [cell(row, s, right=r, edits=20) for row, (r, seeds) in shares.items() for s in seeds]
        return verdicts(**{name: table_of(EXPERIMENTS[name], cells)})

    here, there = (0, 1), (2, 3)
    found = of("k", {"k1": (0.2, there), "k5": (0.5, here), "k8": (0.9, here)})["K = 5 suffices (ours)"]
    assert (found.verdict, "most is gained by K = 8: +0.400 [" in found.figures) == (OPEN, True)
    found = of("threshold", {"p10": (0.2, there), "p25": (0.5, here), "p50": (0.9, here)})
    found = found["p between 10 and 50 is robust (ours)"]
    assert (found.verdict, "R-Gen +0.400 [" in found.figures) == (OPEN, True)
    found = of("k", {"k1": (0.2, there), "k5": (0.5, here)})["K = 5 suffices (ours)"]
    assert "K = 1: –; from 0 seeds and 0 edits" in found.figures


def stressed(lost, seeds=(0, 1), edits=30):
    """A stream whose probes are asked after 30 edits and after 60."""
    cells = []
    for seed in seeds:
        about, early = cell(OURS, seed, right=1.0, edits=edits)
        late = [dict(r, edits=2 * edits, right=i % edits >= lost) for i, r in enumerate(early) if r["phase"] == "probe"]
        cells.append((about, early + late))
    return table_of(EXPERIMENTS["stress"], cells)


def test_drift_is_what_the_same_probes_lose():
    claim = "Sequential editing does not drift"
    seen = verdicts(stress=stressed(0))[claim]
    assert seen.verdict == YES
    assert "from 30 to 60 edits, of the same probes: Rel +0.000" in seen.figures
    assert verdicts(stress=stressed(20))[claim].verdict == NO
    assert verdicts(stress=stressed(2))[claim].verdict == OPEN
    assert verdicts(stress=stressed(0, seeds=(0,)))[claim].verdict == OPEN


def stressed_unevenly(stops, rounds=True, lost=0):
    """Seeds whose rounds come after other numbers of edits, as some were not written: 30 are probed in each."""
    cells = []
    for seed, of_seed in stops.items():
        about, rows = cell(OURS, seed, right=1.0, edits=30, made=f"2026-01-0{seed + 1}")
        probes = [row for row in rows if row["phase"] == "probe"]
        asked = [
            {**row, "edits": edits, **({"round": number} if rounds else {}), "right": number == 1 or i % 30 >= lost}
            for number, edits in enumerate(of_seed, 1)
            for i, row in enumerate(probes)
        ]
        cells.append((about, asked))
    return table_of(EXPERIMENTS["stress"], cells)


@pytest.mark.parametrize("rounds", [True, False])
def test_rounds_of_several_seeds_are_one_stop_whatever_was_written(rounds, monkeypatch):
    claim = "Sequential editing does not drift"
    table = stressed_unevenly({0: (29, 95), 1: (28, 97)}, rounds)
    (row,) = table
    assert {n: sorted(of["rel"]) for n, of in row.earlier.items()} == {1: [0, 1], 2: [0, 1]}
    assert row.stops == {1: 28.5, 2: 96}
    assert {n: of["rel"].samples for n, of in row.history.items()} == {1: 60, 2: 60}
    seen = verdicts(stress=table)[claim]
    assert seen.verdict == YES
    assert "from 28.5 to 96 edits" in seen.figures
    assert "from 2 seeds and 60 edits" in seen.figures
    assert verdicts(stress=stressed_unevenly({0: (29, 95), 1: (28, 97)}, rounds, lost=20))[claim].verdict == NO
    drawn = []
    monkeypatch.setattr(page_charts, "draw_lines", lambda panels, **_: drawn.append(panels) or "")
    page_charts.charts_of(EXPERIMENTS["stress"], table)
    assert [(line.x, line.y) for line in drawn[0]["Rel"]] == [([28.5, 96], [1, 1])]


def test_the_end_of_each_seed_is_one_stop_however_many_rounds_came_before_it():
    (row,) = stressed_unevenly({0: (30, 60, 65), 1: (30, 60, 90, 110)})
    assert row.stops == {1: 30, 2: 60, 4: 87.5}
    assert all(sorted(of["rel"]) == [0, 1] for of in row.earlier.values())
    assert row.history[4]["rel"].mean == row.metrics["rel"].mean


def in_rounds(*rounds):
    """A cell whose probes are asked in rounds: after how many edits each, and which share of them is right then."""
    cells = []
    for seed in (0, 1):
        about, rows = cell(OURS, seed, edits=10)
        rows = [
            dict(row, edits=edits, right=int(row["edit"].split("-")[1]) < 10 * right, round=number)
            for number, (edits, right) in enumerate(rounds, 1)
            for row in rows
            if row["phase"] == "probe"
        ]
        cells.append((about, rows))
    return cells


def test_a_table_counts_the_last_round_whether_or_not_edits_came_before_it():
    (row,) = table_of(EXPERIMENTS["stress"], in_rounds((4, 0.1), (8, 0.3), (8, 0.9)))
    assert (row.metrics["rel"].mean, row.metrics["rel"].samples) == (pytest.approx(0.9), 20)
    assert {stop: (of["rel"].mean, of["rel"].samples) for stop, of in row.history.items()} == {
        1: (pytest.approx(0.1), 20),
        2: (pytest.approx(0.3), 20),
        3: (pytest.approx(0.9), 20),
    }
    assert row.stops == {1: 4, 2: 8, 3: 8}


def test_cells_whose_rounds_have_no_numbers_are_read_as_before():
    cells = in_rounds((4, 0.1), (8, 0.9))
    earlier = [(about, [{k: v for k, v in row.items() if k != "round"} for row in rows]) for about, rows in cells]
    now, before = (table_of(EXPERIMENTS["stress"], some)[0] for some in (cells, earlier))
    assert now.metrics == before.metrics
    assert now.history == before.history
    for about, _ in earlier:
        about["data"]["init_args"]["alone"] = True
    assert table_of(EXPERIMENTS["stress"], earlier)[0].metrics["rel"].samples == 40


# ---- what else shows results


def test_the_page_says_what_it_leaves_out_and_shows_no_stale_gallery(tmp_path):
    folder = tmp_path / "main"
    for seed in (0, 1):
        save(folder, cell(OURS, seed, made=NEW, code={"reasonedit.pipeline": "c1"}, versions={"torch": "2.0"}))
        save(folder, cell("ike", seed, made=OLD, versions={"torch": "1.0"}, code={"reasonedit.pipeline": "c0"}))
    stale = {"made": OLD, "edits": [], "put_right": [], "failures": {}, "probes": 77077}
    (folder / "cells" / f"{OURS}-0.gallery.json").write_text(json.dumps(stale))
    html = write_page(tmp_path, tmp_path / "report.html").read_text()
    assert (
        "Not in this table:</strong> 2 results of ike (seeds 0, 1) left out: other code (reasonedit.pipeline)." in html
    )
    assert "77077" not in html
    assert "torch 2.0" in html
    assert "torch 1.0" not in html
    (folder / "cells" / f"{OURS}-0.gallery.json").write_text(json.dumps({**stale, "made": NEW}))
    html = write_page(tmp_path, tmp_path / "report.html").read_text()
    assert "Of the 77077 questions of seed 0 that ReasonEdit was asked." in html  # not of all seeds, as the table is


def test_a_run_comes_back_where_the_folder_of_the_others_was_deleted(tmp_path):
    boards = tmp_path / "tensorboard"
    begin_run(boards / "ike-0", cell("ike", 0, wanted=20)[0])
    set_others_aside(boards, cell("ike", 0, wanted=40)[0])
    shutil.rmtree(boards)
    set_others_aside(boards, cell("ike", 0, wanted=20)[0])
    assert [path.name for path in boards.iterdir()] == ["ike-0"]


def test_a_run_is_begun_anew_while_nobody_looks_at_it(tmp_path, monkeypatch):
    """Cells that run at once look at each other's runs: one that is half gone seemed to be of another cell."""
    run, about = tmp_path / "tensorboard" / "ike-0", cell("ike", 0)[0]
    begin_run(run, about)
    (run / "events").touch()
    lock, held = tensorboard_runs._lock, []

    def watched(folder):
        held.append(sorted(path.name for path in run.iterdir()))
        return lock(folder)

    monkeypatch.setattr(tensorboard_runs, "_lock", watched)
    begin_run(run, about)
    assert held == [["cell.json", "events"]]
    assert [path.name for path in run.iterdir()] == ["cell.json"]


def test_tensorboard_holds_runs_that_agree(tmp_path):
    boards = tmp_path / "tensorboard"
    for row, wanted in (("a", 40), ("b", 20), ("c", 40)):
        begin_run(boards / f"{row}-0", cell(row, 0, wanted=wanted)[0])
    (boards / "unmarked-0").mkdir()
    set_others_aside(boards, cell("a", 1)[0])
    assert {p.name for p in boards.iterdir()} == {"a-0", "c-0"}
    assert {p.name for p in (tmp_path / LEFT_OUT).iterdir()} == {"b-0", "unmarked-0"}
    set_others_aside(boards, cell("b", 1, wanted=20)[0])
    assert {p.name for p in boards.iterdir()} == {"b-0"}
    set_others_aside(tmp_path / "none" / "tensorboard", cell("a", 0)[0])  # nothing there yet
