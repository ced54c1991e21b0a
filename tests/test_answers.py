"""What the page of experiments answers to the question of each."""

import pytest
from helpers.cells import cell

from reasonedit.experiments import EXPERIMENTS
from reasonedit.experiments.bootstrap import combine
from reasonedit.experiments.editors import OURS
from reasonedit.experiments.tables import table_of
from reasonedit.groups import LABELS
from reasonedit.report.answers import answer
from reasonedit.report.page import _row

GROUPS = tuple(g for g in LABELS if not g.startswith(("port", "comp", "text_loc")))


def asked(name, shares, seeds=(0, 1), edits=20, **changes):
    experiment = EXPERIMENTS[name]
    options = {"groups": GROUPS, "edits": edits, **changes}
    return answer(
        experiment, table_of(experiment, [cell(r, s, right=v, **options) for r, v in shares.items() for s in seeds])
    )


@pytest.mark.parametrize(
    ("ours", "other", "who"),
    [(0.9, 0.5, "ReasonEdit is ahead"), (0.5, 0.9, "IKE-CoT is ahead"), (0.5, 0.5, "it is open")],
)
def test_the_main_table_says_who_is_ahead(ours, other, who):
    text = asked("main", {"none": 0.1, "ike-cot": other, "ike-told": 1.0, OURS: ours})
    assert text.count(who) == 2
    assert f"All {ours:.3f} for ReasonEdit, {other:.3f} for IKE-CoT" in text
    assert "2 seeds and 40 edits" in text


def test_of_too_few_edits_nothing_is_concluded():
    text = asked("main", {"ike-cot": 0.2, OURS: 1.0}, edits=5)
    assert text.count("it is open who is ahead") == 2
    assert "too few to conclude anything" in text


def on_seeds(name, rows, **options):
    """A table of rows that were run on seeds of their own: of each its share and its seeds."""
    cells = [cell(r, s, right=v, groups=GROUPS, edits=20, **options) for r, (v, seeds) in rows.items() for s in seeds]
    return table_of(EXPERIMENTS[name], cells)


def test_who_is_ahead_is_told_of_the_edits_that_both_have():
    rows = {"ft": (0.3, (0, 1)), "ike": (0.95, (2, 3)), OURS: (0.9, (0, 1))}
    text = answer(EXPERIMENTS["main"], on_seeds("main", rows))
    assert text.count("ReasonEdit is ahead") == 2
    assert "0.300 for FT" in text
    assert text.endswith("(from 2 seeds and 40 edits; not compared with IKE).")
    assert "both have" not in text
    # Ours does worse on the third seed, which FT was not asked: no difference of the shares that are shown.
    cells = [cell(r, s, right=v, groups=GROUPS, edits=20) for r, v, s in
             [("ft", 0.5, 0), ("ft", 0.5, 1), (OURS, 0.8, 0), (OURS, 0.8, 1), (OURS, 0.2, 2)]]  # fmt: skip
    text = answer(EXPERIMENTS["main"], table_of(EXPERIMENTS["main"], cells))
    assert "ReasonEdit is ahead" in text
    assert "a difference of +0.300" in text
    assert text.count("] on the edits that both have") == 2


def test_ahead_of_the_best_on_average_is_not_ahead_of_everybody():
    text = answer(EXPERIMENTS["main"], on_seeds("main", {"ft": (0.6, (0, 1)), "ike": (0.5, (0,)), OURS: (0.9, (0, 1))}))
    assert text.count("it is open who is ahead") == 2
    assert "0.500 for IKE" in text
    rows = {"ft": (0.6, (0, 1)), "ike": (0.7, (0,)), OURS: (0.4, (0, 1))}
    assert answer(EXPERIMENTS["main"], on_seeds("main", rows)).count("FT is ahead") == 2


def test_tries_on_other_seeds_are_no_gain():
    rows = {"ft-0": (0.3, (100, 101)), "ft-1": (0.9, (102, 103)), "ft-2": (0.4, (100, 101))}
    assert "FT +0.100" in answer(EXPERIMENTS["tune"], on_seeds("tune", rows))


def test_changes_to_a_design_are_counted_by_what_they_do():
    text = asked("design", {OURS: 0.7, "raw": 0.3, "whole": 0.5, "pooled": 0.7, "both": 0.9, "reasonedit-paper": 0.4})
    assert "Of 4 changes to our design (All 0.700), 2 lower it (most: “ours, raw activations”, -0.400" in text
    assert "1 raises it (most: “ours, every sentence by image and patch”, +0.200" in text
    assert "1 leaves it open" in text
    assert "the paper's" not in text  # none of its changes was run


def test_an_editor_of_ones_own_is_no_change_to_a_design():
    text = asked("design", {OURS: 0.7, "raw": 0.3, "mine": 0.9})
    assert text.startswith("Of 1 change to our design (All 0.700), 1 lowers it")


def test_a_sweep_says_what_other_values_than_the_designs_own_do():
    text = asked("k", {"k1": 0.4, "k5": 0.7, "k8": 0.7, "k12": 0.9}, x=None)
    assert "Of 3 other values of K (ours at 5: All 0.700), 1 lowers it (most: “ours, K = 1”" in text
    assert "1 raises it (most: “ours, K = 12”, +0.200" in text
    assert "1 leaves it open" in text
    assert "paper" not in text  # none of its rows was run
    assert asked("k", {"k1": 0.4, "k12": 0.6}, x=None) == ""  # the design's own was not run


@pytest.mark.parametrize(
    ("name", "ours", "papers"), [("w", "w1", "paper-w1"), ("k", "k5", "paper-k5"), ("threshold", "p25", "paper-p10")]
)
def test_each_line_of_a_sweep_has_the_design_as_it_is_among_its_rows(name, ours, papers):
    assert [row.name for row in EXPERIMENTS[name].rows if row.own] == [ours, papers]


def test_probes_that_differ_are_told_by_their_widest_span():
    experiment = EXPERIMENTS["probes"]
    cells = [cell(OURS, seed, right=share, edits=20) for seed, share in ((0, 0.5), (1, 0.8), (2, 0.6))]
    assert "Over 3 seeds of probes" in (text := answer(experiment, table_of(experiment, cells)))
    assert "R-Gen by 0.300, CoE-Gen by 0.300 and Loc by 0.300" in text
    cells[1][1][:] = [row for row in cells[1][1] if row["group"] != "r_gen"]  # none could be made of that seed
    text = answer(experiment, table_of(experiment, cells))
    assert text.startswith("Over 3 seeds")
    assert text.endswith("differ at most: CoE-Gen by 0.300 and Loc by 0.300.")


def test_own_reasons_and_walks_stand_beside_the_design():
    text = asked("own", {OURS: 0.9, "mended": 0.8, "raw": 0.4})
    assert "looked through by a person All is 0.800, with the person's 0.900 (-0.100" in text
    assert "as they are All is 0.400" in text
    text = asked("portability", {OURS: 0.5, "walk-2": 0.7}, groups=(*GROUPS, "port_1", "port_2"))
    assert "Two steps of a walk change Port-2 from 0.500 to 0.700 (+0.200" in text
    assert "Port-1 from" in text
    # Ours was run on a third seed, too: the difference is not that of the shares that are shown.
    text = answer(EXPERIMENTS["own"], on_seeds("own", {OURS: (0.9, (0, 1, 2)), "mended": (0.8, (0, 1))}))
    assert "] on the edits that both have, from 2 seeds" in text
    walked = {OURS: (0.5, (0, 1)), "walk-2": (0.7, (0, 1, 2))}
    text = answer(EXPERIMENTS["portability"], on_seeds("portability", walked))
    assert "] on the edits that both have, from 2 seeds" in text


def test_noise_is_told_by_the_kinds_that_lower_r_gen_the_fastest_and_the_slowest():
    experiment = EXPERIMENTS["noise"]
    of_line = {row.name: row.line for row in experiment.rows}
    shares = {
        OURS: 0.9,
        **{f"false-{n}": round(0.9 - n / 100, 2) for n in (10, 30, 50)},
        "vague-10": 0.9,
        "vague-30": 0.9,
    }
    text = asked("noise", shares | {"vague-50": 0.9})
    assert f"{-10:+.1f} [" in text.partition(of_line["false-10"].partition(": ")[0])[0]
    assert text.partition(", and by ")[2].startswith("+0.0 [")
    assert text.endswith(f"] for {of_line['vague-10'].partition(': ')[0]} (from 2 seeds and 40 edits).")
    alike = asked("noise", {OURS: 0.9, "false-10": 0.9, "vague-10": 0.9})
    kinds = [of_line[name].partition(": ")[0] for name in ("false-10", "vague-10")]
    assert [alike.count(kind) for kind in kinds] == [1, 1]
    few = asked("noise", {OURS: 0.9, "false-10": 0.8}, seeds=(0,), edits=5)
    assert few.endswith("(from 1 seed and 5 edits, too few to conclude anything).")
    strange = [cell("of another version", s, right=0.5, x=10.0, settings={"line": "no colon"}) for s in (0, 1)]
    clean = [cell(OURS, s, right=0.9) for s in (0, 1)]
    assert answer(experiment, table_of(experiment, [*clean, *strange])) == ""


def test_noise_is_told_of_lines_whose_rows_were_asked_the_same():
    rows = {OURS: (0.9, (0, 1)), "false-10": (0.4, (2, 3)), "vague-10": (0.8, (0, 1))}
    vague = {row.name: row.line for row in EXPERIMENTS["noise"].rows}["vague-10"].partition(": ")[0]
    text = answer(EXPERIMENTS["noise"], on_seeds("noise", rows))
    assert text.startswith("R-Gen of ReasonEdit changes by -10.0 [")
    assert text.endswith(f"more {vague} (from 2 seeds and 40 edits).")


def test_a_difference_without_an_interval_is_told_without_one():
    """Of few questions a resample may have none."""
    cells = [cell(row, 0, right=share, groups=GROUPS) for row, share in (("ike", 0.5), (OURS, 0.9))]
    for _, rows in cells:
        rows[:] = [row for row in rows if row["group"] != "r_gen" or row["edit"] in ("0-0", "0-1")]
    table = table_of(EXPERIMENTS["main"], cells)
    text = answer(EXPERIMENTS["main"], table)
    assert "a difference of +0.352 (from 1 seed and 10 edits, too few to conclude anything)." in text
    assert _row(table[0], table)["metrics"]["gen"]["difference"] == "-0.352"


def test_checks_are_told_by_how_often_they_agree_and_what_they_doubt():
    def check(edit, rel, sentences):
        here = {"verdict": "holds", "trials": [], "sentences": sentences, "rel": rel, "fetched": True, "harmed": 0}
        return {"edit": edit, "groups": {g: [1, 1] for g in ("t_gen", "i_gen", "r_gen", "coe_gen")}, "local": 0, **here}

    checks = [check("a", True, [[True, "doubted"], [False, ""]]), check("b", False, [[True, ""], [False, "doubted"]])]
    experiment = EXPERIMENTS["check"]
    text = answer(experiment, table_of(experiment, [cell(OURS, 0, checks=checks)]))
    assert "in 0.50 [0.00, 1.00] of 2 cases (from 1 seed and 2 edits, too few to conclude anything)." in text
    assert "It doubts 0.50 [0.00, 1.00] of 2 spoilt sentences, and 0.50 [0.00, 1.00] of 2 others." in text


def test_what_tuning_gains_is_told_for_each_editor():
    text = asked("tune", {"ft-0": 0.3, "ft-1": 0.5, "reasonedit-0": 0.8, "reasonedit-1": 0.6}, seeds=(100,))
    assert "FT +0.200, ReasonEdit +0.000" in text


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_with_too_few_rows_answers_nothing_or_a_sentence(name):
    text = asked(name, {EXPERIMENTS[name].rows[0].name: 0.5}, seeds=(0,), edits=3)
    assert text == "" or text.endswith(".")


def test_a_formula_of_groups_is_resampled_with_all_probes_of_an_edit_together():
    """Against resampling in plain loops, with other random numbers."""
    import random

    import numpy as np

    rng = random.Random(5)
    edits = {s: [f"{s}-{e}" for e in range(15)] for s in range(3)}
    groups = {
        g: {
            s: {e: (rng.randint(1, 4), 4) for e in names if g == "a" or rng.random() < 0.8}
            for s, names in edits.items()
        }
        for g in ("a", "b")
    }
    other = {
        g: {s: {e: (max(r - 1, 0), n) for e, (r, n) in m.items()} for s, m in of.items()} for g, of in groups.items()
    }

    def formula(shares):
        return 2 / (1 / shares["a"] + 1 / shares["b"])

    def figure(side, drawn):
        sums = {g: np.sum([side[g][s][e] for s, e in drawn if e in side[g][s]], axis=0) for g in side}
        return formula({g: right / total for g, (right, total) in sums.items()})

    every = [(s, e) for s, names in edits.items() for e in names]
    draws = []
    for _ in range(3000):
        draws.append([(s, e) for s in rng.choices(list(edits), k=3) for e in rng.choices(edits[s], k=15)])
    share = combine(groups, formula)
    assert share.mean == pytest.approx(figure(groups, every))
    assert share.edits == 45
    low, high = np.percentile([figure(groups, d) for d in draws], [2.5, 97.5])
    assert (share.low, share.high) == pytest.approx((low, high), abs=0.02)
    gap = combine(groups, formula, other)
    assert gap.mean == pytest.approx(figure(groups, every) - figure(other, every))
    low, high = np.percentile([figure(groups, d) - figure(other, d) for d in draws], [2.5, 97.5])
    assert (gap.low, gap.high) == pytest.approx((low, high), abs=0.02)
    assert combine(groups, formula, {"a": {7: {"z": (1, 1)}}, "b": {}}).edits == 0


def test_figures_that_are_made_of_other_groups_are_not_compared():
    experiment = EXPERIMENTS["main"]
    whole = [cell(OURS, s, right=0.9, edits=20, groups=GROUPS) for s in (0, 1)]
    part = [cell("ike", s, right=0.5, edits=20, groups=tuple(g for g in GROUPS if g != "coe_gen")) for s in (0, 1)]
    table = table_of(experiment, [*whole, *part])
    ike = next(row for row in table if row.name == "ike")
    assert ike.metrics["gen"].mean == pytest.approx(0.5)
    assert "gen" not in ike.differences
    assert "r_gen" in ike.differences
    assert answer(experiment, table) == ""
