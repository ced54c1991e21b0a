"""How often checks are right: outcomes by the probes, counted by hand; and noise that checks and slopes are told of."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.tiny import design, picture

from reasonedit import Query
from reasonedit.checking import Change, Doubt, EditCheck, Finding, Verdict
from reasonedit.codebook import StoredEdit
from reasonedit.experiments import EXPERIMENTS, Experiment, Lab, read_cell, run_cell
from reasonedit.experiments.check_tables import VERDICTS_HEAD, agreement_of, doubt_rows, verdict_rows
from reasonedit.experiments.checks import checked, measure_checks, outcome_of, said_of
from reasonedit.experiments.experiment import Row
from reasonedit.experiments.extra_tables import extra_tables
from reasonedit.experiments.making import editing
from reasonedit.experiments.noise import KINDS, NoisyReasoning
from reasonedit.experiments.slopes import lines_of, slopes_of
from reasonedit.experiments.tables import Table, TableRow, cells_in, table_of
from reasonedit.groups import GENERALITIES
from reasonedit.report import write_page
from reasonedit.types import Answer
from reasonedit.util.dependencies import checksum_of


def measured(edit, verdict, rel=True, harmed=0, right=9, asked=9, sentences=()):
    groups = {group: [0, 0] for group in GENERALITIES} | {"t_gen": [right, asked]}
    return {
        "edit": edit,
        "verdict": verdict.key,
        "asked": int(rel is not None),
        "rel": rel,
        "harmed": harmed,
        "groups": groups,
        "sentences": [list(one) for one in sentences],
    }


def test_what_became_of_an_edit_is_told_by_its_probes():
    for became, values in (
        ("does not take", {"rel": False, "harmed": 3}),
        ("harms", {"harmed": 1, "right": 0}),
        ("holds here only", {"right": 4, "asked": 8}),
        ("holds", {"right": 5, "asked": 8}),
        ("holds", {"right": 0, "asked": 0}),
    ):
        assert outcome_of(measured("a", Verdict.HOLDS, **values)) == became
    said = {verdict: said_of(measured("a", verdict)) for verdict in Verdict}
    assert [said[v] for v in (Verdict.HOLDS, Verdict.HERE_ONLY, Verdict.HARMS)] == ["holds", "holds here only", "harms"]
    assert {said[v] for v in Verdict if not v.takes} == {"does not take"}


def test_checks_are_measured_by_the_probes_at_the_end():
    def probe(edit, group, right, *facts_of, edits=2, number=2):
        return {
            "phase": "probe",
            "edits": edits,
            "round": number,
            "edit": edit,
            "group": group,
            "right": right,
            "accuracy": float(right),
            "facts": [said.get(name, name) for name in facts_of],
        }

    said = {"a": "One.", "b": "Another."}

    rows = [
        probe("a", "rel", False, edits=1, number=1),  # on the way: does not count
        probe("a", "t_gen", False, number=1),  # nor does it where no edit was written since
        probe("a", "rel", True, "a"),
        probe("a", "t_gen", True, "a"),
        probe("a", "t_gen", False, "a"),
        probe("a", "loc", False, "b"),  # not by its facts
        probe("a", "hard_loc", False, "a"),
        probe("b", "rel", False, "a"),  # another edit's question, with its facts
        probe("b", "hard_loc", False, "b"),
        {"phase": "check", "edits": 2, "edit": "a", "group": "", "right": False, "accuracy": 0.0, "facts": []},
    ]
    stored = StoredEdit("a", "What?", "x", ["One.", "Two."])
    own = Change("edit", Query(picture(0), "What?"), answer("y"), answer("x"), right=["x"])
    trial = Change("elsewhere", Query(picture(1), "What?"), answer("y"), answer("x"), shown=0.2)
    check = EditCheck(
        stored, 2, [], [], [], [own], [trial], Finding(Verdict.HARMS), [Doubt("Two.", "not seen", "It is not there.")]
    )
    source = SimpleNamespace(spoilt={"a": [False, True]})
    for given, flags in ((source, [False, False]), (spoilt_source([False, True]), [False, True])):
        (found,) = measure_checks({"a": check}, rows, given)
        assert (found["verdict"], found["rel"], found["fetched"], found["harmed"]) == ("harms", True, True, 2)
        assert found["groups"]["t_gen"] == [1, 2]
        assert found["sentences"] == [[flags[0], ""], [flags[1], "not seen"]]
        (one,) = found["trials"]
        assert (one["origin"], one["changed"], one["harmed"], one["shown"]) == ("elsewhere", True, True, 0.2)
        assert outcome_of(found) == said_of(found) == "harms"
    (found,) = measure_checks(
        {"b": replace(check, edit=StoredEdit("b", "What?", "z", ["One.", "Another."]))}, rows, None
    )
    assert (found["fetched"], found["harmed"]) == (True, 1)  # a sentence that two edits share is of both
    earlier = [{name: value for name, value in row.items() if name != "round"} for row in rows[:1] + rows[2:]]
    assert measure_checks({"a": check}, earlier, source) == measure_checks({"a": check}, rows, source)


def test_an_edit_that_is_not_asked_again_does_not_count():
    check = EditCheck(StoredEdit("e", "q", "a", ["s."]), 1, [], [], [], [], [], Finding(Verdict.HOLDS))
    row = {"phase": "probe", "edits": 5, "round": 1, "edit": "other", "group": "rel", "right": False}
    (found,) = measure_checks({"e": check}, [row | {"facts": [], "accuracy": 0.0}], None)
    assert (found["asked"], found["rel"], outcome_of(found)) == (0, None, None)
    earlier = {name: value for name, value in found.items() if name != "asked"} | {"rel": True}  # as it was written
    assert outcome_of(earlier) is None
    assert outcome_of(earlier | {"fetched": True}) == "holds"
    checks = [measured("a", Verdict.HOLDS), measured("b", Verdict.HARMS), found, earlier]
    table = Table([TableRow("r", "Ours", None, "", [0])], [{"row": "r", "seed": 0, "checks": checks}])
    (first, *_) = verdict_rows(table)
    assert first[:2] == ["Ours: all", "2"]
    assert (agreement_of(table).mean, agreement_of(table).samples) == (0.5, 2)
    assert "2 edits do not count, whose questions were not asked again" in extra_tables(table)[0].text


def answer(text):
    return Answer(text, [], "", 0.0, 0.0)


def spoilt_source(flags):
    source = NoisyReasoning(SimpleNamespace(edits=1), "false", 0.5)
    source.spoilt["a"] = flags
    return source


def test_the_tables_count_by_hand():
    first = [
        measured("a", Verdict.HOLDS, sentences=[(True, "not seen"), (False, "")]),
        measured("b", Verdict.HOLDS, right=0, sentences=[(True, ""), (False, "not seen")]),
        measured("c", Verdict.NOT_FETCHED, rel=False),
    ]
    second = [measured("a", Verdict.HARMS, sentences=[(True, "leads elsewhere")]), measured("d", Verdict.HOLDS)]
    cells = [{"row": "r", "seed": 0, "checks": first}, {"row": "r", "seed": 1, "checks": second}]
    table = Table([TableRow("r", "Ours", None, "", [0, 1]), TableRow("x", "No checks", None, "", [0])], cells)
    rows = {row[0]: row[1:] for row in verdict_rows(table)}
    assert len(VERDICTS_HEAD) == 8
    assert rows["Ours: all"][:5] == ["5", "3", "1", "0", "1"]
    assert rows["Ours: all"][5].startswith("0.60 [")
    assert rows["“holds”"][:5] == ["3", "2", "1", "0", "0"]
    assert rows["“holds”"][5].startswith("0.67 [")
    assert rows["“holds”"][6].startswith("0.67 [")
    assert (rows["“harms”"][0], rows["“harms”"][6]) == ("1", "–")
    assert rows["“does not take”"][5].startswith("1.00")
    ((title, caught, wrongly),) = doubt_rows(table)
    assert (title, caught.split()[0], caught.split()[-1]) == ("Ours", "0.67", "3")
    assert (wrongly.split()[0], wrongly.split()[-1]) == ("0.50", "2")
    assert verdict_rows(Table([TableRow("x", "No checks", None, "", [0])])) == []


def test_every_line_of_noise_begins_in_the_clean_row_of_its_editor():
    def row(plan, share):
        samples = {"rel": {0: {f"e{i}": (share * 10, 10) for i in range(25)}}}
        return TableRow(plan.name, plan.title, plan.x, plan.line, [0], samples=samples)

    plans = EXPERIMENTS["noise"].rows
    table = [row(plan, 0.9 - 0.01 * (plan.x or 0)) for plan in plans]
    lines = lines_of(table)
    assert len(lines) == 3 * len(KINDS)
    for line, rows in lines.items():
        assert [r.x for r in rows] == [0, 10, 30, 50]
        assert line.endswith(rows[0].line.removeprefix("clean"))
    slopes = slopes_of(table)
    assert len(slopes) == len(lines)
    assert [of_line.groups["rel"].mean for of_line in slopes] == pytest.approx([-10.0] * len(lines))
    assert np.isfinite([of_line.groups["rel"].low for of_line in slopes]).all()
    (extra,) = extra_tables(Table(table))
    assert extra.rows[0][1] == "-10.0 [-10.0, -10.0]"


@pytest.fixture
def config(tiny_folder, hash_encoder):
    model = {"model": str(tiny_folder), "dtype": "float32", "max_new_tokens": 3}
    return {
        "model": {"class_path": "reasonedit.VLMModule", "init_args": model},
        "data": {
            "class_path": "reasonedit.EditStream",
            "init_args": {"source": {"class_path": "helpers.toy.SeededToys"}, "batch_size": 4},
        },
    }


@pytest.mark.parametrize("changed", ["experiments/checks.py", "rounds.py"])
def test_what_is_measured_of_checks_belongs_to_the_code_that_measures_it(config, monkeypatch, changed):
    plain = editing(design(k=2, keys="both"))
    rows = (Row("reasonedit", "Ours", checked(plain)), Row("unchecked", "Ours, unchecked", plain))
    cells = Experiment("check", "Checks", "Are they right?", rows).cells([0])

    def codes():
        lab = Lab(config, edits=3)
        made = [cell.make(lab) for cell in cells]
        return [lab.record(cell, one[0], one[1:])["code"] for cell, one in zip(cells, made, strict=True)]

    before, real = codes(), checksum_of
    monkeypatch.setattr(
        "reasonedit.experiments.lab.checksum_of",
        lambda path: "changed" if path.as_posix().endswith(changed) else real(path),
    )
    assert [one == other for one, other in zip(before, codes(), strict=True)] == [False, True]


def test_an_experiment_of_checks_is_run_and_shown(config, tmp_path):
    made = checked(editing(design(k=2, keys="both")))
    rows = (Row("reasonedit", "Ours", made), Row("false-30", "False", made, noise=("false", 0.5)))
    plan = Experiment("check", "Checks", "Are they right?", rows)
    for cell in plan.cells([0]):
        assert run_cell(Lab(config, edits=3), cell, tmp_path / "check")
        assert not run_cell(Lab(config, edits=3), cell, tmp_path / "check")
    for name in ("reasonedit", "false-30"):
        record, _ = read_cell(tmp_path / "check" / "cells" / f"{name}-0.parquet")
        assert len(record["checks"]) == record["edits"] == 3
    assert any(spoilt for check in record["checks"] for spoilt, _ in check["sentences"])
    table = table_of(plan, cells_in(tmp_path / "check"))
    assert [extra.title for extra in extra_tables(table)] == [
        "How often a check is right",
        "Which sentences are doubted",
    ]
    assert "How often a check is right" in write_page(tmp_path, tmp_path / "report.html").read_text()
