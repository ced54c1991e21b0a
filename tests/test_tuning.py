"""Tuning: as many settings for each editor, the best by one objective, and what is made of that."""

import json
import random

import pytest
from helpers.cells import cell
from helpers.tiny import design, picture

from reasonedit import Edit, ReasonEditError, cli
from reasonedit.callbacks.baselines.ike import WORDINGS, demonstration
from reasonedit.design import DEFAULT
from reasonedit.experiments import EXPERIMENTS, Lab, read_cell, run_cell
from reasonedit.experiments.editors import EDITORS, OURS, _with_tuned
from reasonedit.experiments.making import baseline
from reasonedit.experiments.search_spaces import BUDGET, SPACES, describe_values
from reasonedit.experiments.selected import as_selected, selected_embedding
from reasonedit.experiments.tables import cells_in, table_of
from reasonedit.experiments.tuned import TUNED_FILE, read_tuned
from reasonedit.experiments.tuning import choose
from reasonedit.runs.provenance import describe_callback

TUNE = EXPERIMENTS["tune"]
GROUPS = ("t_gen", "i_gen", "r_gen", "coe_gen", "loc", "hard_loc", "word_loc")


class FakeLab:
    """What editors that need no model ask of a lab."""

    design = DEFAULT


@pytest.fixture
def config(tiny_folder, hash_encoder):
    model = {"model": str(tiny_folder), "dtype": "float32", "max_new_tokens": 3}
    data = {"source": {"class_path": "helpers.toy.SeededToys"}, "batch_size": 4}
    return {
        "model": {"class_path": "reasonedit.VLMModule", "init_args": model},
        "data": {"class_path": "reasonedit.EditStream", "init_args": data},
    }


def test_each_editor_gets_as_many_tries_and_the_first_is_its_own_row():
    assert {*SPACES} == {name for name in EDITORS if name != "none" and not name.endswith(("-told", "-tuned"))}
    for name, space in SPACES.items():
        assert len(space.tries) == BUDGET
        assert len({json.dumps(values) for values in space.tries}) == BUDGET
        if name not in ("mend", "serac"):  # they are read from files
            own, first = (make(FakeLab)[0] for make in (EDITORS[name][1], space.make(space.tries[0])))
            assert describe_callback(own, DEFAULT) == describe_callback(first, DEFAULT)
    assert set(TUNE.seeds) <= set(range(100, 200))
    assert len(TUNE.cells([100], ["grace"])) == BUDGET
    with pytest.raises(ReasonEditError, match="has no row 'nobody'"):
        TUNE.cells([100], ["nobody"])


def test_ours_is_tuned_by_the_same_rule():
    codebook = SPACES[OURS].make({"weight_times": 2.0, "percentile": 25.0})(FakeLab)[0]
    made = codebook.held.design
    assert made.embedding.text_weight == 2 * DEFAULT.embedding.text_weight
    assert made.retrieval.percentile == 25.0
    assert made.writing == DEFAULT.writing


def tries(scores, seeds=(100, 101)):
    """Cells of editors' tries: each with its share of right answers in all groups."""
    return [
        cell(f"{name}-{i}", seed, right=share, groups=GROUPS)
        for name, shares in scores.items()
        for i, share in enumerate(shares)
        for seed in seeds
    ]


def test_the_best_by_the_objective_is_chosen_and_of_equals_the_first():
    scores = {"grace": [0.1, 0.3, 0.9, 0.2, 0.9, 0, 0, 0], "ike": [0.5] * 8, "ft": [0.5] * 7}
    content, notes = choose(table_of(TUNE, tries(scores)))
    assert {name: editor["values"] for name, editor in content["editors"].items()} == {
        "grace": SPACES["grace"].tries[2],
        "ike": SPACES["ike"].tries[0],
    }
    assert content["editors"]["grace"]["all"] == 0.9
    assert [t["all"] for t in content["editors"]["grace"]["tries"]] == scores["grace"]
    assert notes == ["FT is not tuned: 7 of its 8 tries are there on all seeds."]
    assert content["seeds"] == [100, 101]
    # Where all fail at something, and so have an objective of 0, the rest counts.
    failing = tries({"ike": [0.5, 0.5, 0.7, 0.5, 0.7, 0.5, 0.5, 0.5]})
    for _, rows in failing:
        for one in rows:
            one["right"] = one["right"] and one["group"] != "hard_loc"
    editor = choose(table_of(TUNE, failing))[0]["editors"]["ike"]
    assert (editor["values"], editor["all"]) == (SPACES["ike"].tries[2], 0)
    # A try that was not run on all seeds is not compared with others.
    some = [c for c in tries(scores) if (c[0]["row"], c[0]["seed"]) != ("ike-3", 101)]
    assert "ike" not in choose(table_of(TUNE, some))[0]["editors"]


def test_what_was_chosen_is_one_more_row_where_it_is_another_setting(tmp_path, monkeypatch):
    path = tmp_path / "tuned.json"
    monkeypatch.setattr("reasonedit.experiments.editors.TUNED_FILE", path)
    plain = {"grace": ("GRACE", baseline(".grace.GRACE")), "ike": ("IKE", baseline(".ike.IKE"))}
    assert list(_with_tuned(plain)) == ["grace", "ike"]
    chosen = {"grace": SPACES["grace"].tries[2], "ike": SPACES["ike"].tries[0]}
    path.write_text(json.dumps({"editors": {name: {"values": values} for name, values in chosen.items()}}))
    rows = _with_tuned(plain)
    assert list(rows) == ["grace", "grace-tuned", "ike"]
    title, make = rows["grace-tuned"]
    assert title == "GRACE (tuned)"
    assert make(FakeLab)[0].epsilon == chosen["grace"]["epsilon"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "does not hold what tuning chose"),
        ('{"editors": {"ike": {"values": {"k": 2}}}}', "values of 'ike' that are not tried"),
    ],
)
def test_a_file_that_tuning_did_not_write_is_refused(tmp_path, content, message):
    path = tmp_path / "tuned.json"
    path.write_text(content)
    with pytest.raises(ReasonEditError, match=message):
        read_tuned(path)


def test_what_comes_with_the_package_can_be_read():
    assert all(values in SPACES[name].tries for name, values in read_tuned(TUNED_FILE).items())


def test_values_are_said_in_words():
    assert describe_values({"layer": -6, "epsilon": 20.0}) == "layer -6, epsilon 20"
    assert describe_values({"wording": "new fact", "edit_weight": 0.1}) == "wording 'new fact', edit weight 0.1"


def test_tuning_goes_on_where_it_was_and_writes_what_it_chose(config, tmp_path, capsys):
    path, out = tmp_path / "config.yaml", tmp_path / "results"
    path.write_text(json.dumps(config))
    call = ["experiment", "tune", "--config", path, "--out", out, "--seeds", 100, "--edits", 2, "--rows", "ike"]
    assert cli.main([*map(str, call)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    # Toys ask neither for generality nor for hard locality: nothing to choose by.
    assert "IKE is not tuned: 0 of its 8 tries are there on all seeds." in said
    assert json.loads((out / "tune" / "tuned.json").read_text())["editors"] == {}
    # Probes that there are not stand below the table, and in the record.
    assert "Loc: 2 of 2 probes are not counted, as the unedited model gets them wrong." in said
    record, _ = read_cell(out / "tune" / "cells" / "ike-0-100.parquet")
    assert record["probes"]["loc"] == {"expected": 2, "not_made": 0, "wrong_before": 2}
    assert cli.main([*map(str, call)]) == 0
    assert capsys.readouterr().out.count("there already") == BUDGET


# ---- wordings


def test_ike_words_its_demonstrations_as_it_is_told():
    edit = Edit.of(picture(0), "Who owns it?", "Ada", ["It is a cup.", "A cup belongs to Ada."])
    assert demonstration(edit, reasoning=False) == "New Fact: Who owns it? Ada."
    told = demonstration(edit, reasoning=True, wording="statement")
    assert told == "The answer to 'Who owns it?' is Ada. It is a cup. A cup belongs to Ada."
    with pytest.raises(ReasonEditError, match="wording must be one of new fact, statement, not 'loud'"):
        baseline(".ike.IKE", wording="loud")(FakeLab)


def test_the_embedded_vlm_is_trained_on_the_wordings_of_demonstrations():
    from wordings import state_answer

    trained = {state_answer(random.Random(i), "Who owns it?", "Ada") for i in range(200)}
    assert {put.format(question="Who owns it?", answer="Ada") for put in WORDINGS.values()} <= trained


# ---- editors whose edits stand alone


def test_all_probes_of_edits_that_stand_alone_are_in_the_table(config, tmp_path):
    main = EXPERIMENTS["main"]
    # Configs of the command line have all defaults in them.
    config["data"]["init_args"] |= {"interleave": None, "sample": None, "probed": None, "alone": False}
    for one in main.cells([0], ["ft", "ft-alone"]):
        assert run_cell(Lab(config, 3), one, tmp_path / "main")
    table = table_of(main, cells_in(tmp_path / "main"))
    assert not table.left_out
    rows = {row.name: row for row in table}
    assert rows["ft-alone"].title == "FT (one at a time)"
    assert [rows[name].metrics["rel"].samples for name in ("ft", "ft-alone")] == [3, 3]
    assert not rows["ft-alone"].history


# ---- what select picks


def test_what_select_picks_is_sought_once_and_changes_what_its_row_says(config, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.experiments.selected.cache_folder", lambda: tmp_path)
    own, lab = design(), Lab(config)
    picked = selected_embedding(lab, own.embedding, "views")
    monkeypatch.setattr("reasonedit.embedding.select.select", None)  # not asked again
    assert selected_embedding(Lab(config), own.embedding, "views") == picked
    assert picked.layer in lab.module.vlm.vision_layers
    for layer, weight in ((True, False), (False, True), (True, True)):
        codebook = as_selected(lambda _: own, criterion="views", layer=layer, weight=weight)(lab)[0]
        made = codebook.held.design.embedding
        assert made.layer == (picked.layer if layer else own.embedding.layer)
        assert made.text_weight == (picked.text_weight if weight else own.embedding.text_weight)


def test_a_table_says_where_settings_were_tuned_on_another_model():
    def notes(row, model):
        return table_of(EXPERIMENTS["main"], [cell(row, 0, model={"name": model})]).notes

    (said,) = notes("grace-tuned", "org/mine")
    assert said.startswith("The settings of the rows '(tuned)' were chosen on embedded, and not on org/mine: ")
    assert notes("grace-tuned", "embedded") == notes("grace", "org/mine") == []
