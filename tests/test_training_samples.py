"""What trained editors learn from: other samples of a source than those that are tested, or nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from helpers import benchmarks, datasets

from reasonedit import ReasonEditError
from reasonedit.callbacks.baselines import WISE
from reasonedit.cli import main
from reasonedit.data import AOKVQA, FVQA
from reasonedit.data.benchmarks import CCKEB, EIC, EVQA, MMKE, VLKEB
from reasonedit.data.source import GivesTraining
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.data.world.linked import LinkedWorld
from reasonedit.errors import NotServedError
from reasonedit.experiments import EXPERIMENTS, Lab, run_cell
from reasonedit.experiments.cells import Cell
from reasonedit.experiments.mend_network import TrainedMEND
from reasonedit.experiments.train_once import check_apart, training_config, training_stream

pytestmark = pytest.mark.usefixtures("hash_encoder")
TRAINED = ("mend", "serac", "wise")


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Networks of a few edits and steps."""
    monkeypatch.setattr("reasonedit.callbacks.baselines.mend.BLOCKS", (-2, -1))
    monkeypatch.setattr("reasonedit.experiments.wise_unrelated.InformedWISE.__init__", short)
    monkeypatch.setattr("reasonedit.experiments.mend_network.TRAINING_EDITS", 3)
    monkeypatch.setattr("reasonedit.experiments.serac_network.TRAINING_EDITS", 3)
    monkeypatch.setattr("reasonedit.callbacks.baselines.serac_training.CLASSIFIER_STEPS", 5)
    monkeypatch.setattr("reasonedit.experiments.train_once.cache_folder", lambda: tmp_path / "cache")


def short(self, lab):
    WISE.__init__(self, -1, steps=2)
    self._lab = lab


def config_of(model, path, **arguments):
    source = {"class_path": path, "init_args": arguments}
    model = {"model": str(model), "dtype": "float32", "max_new_tokens": 3}
    return {
        "model": {"class_path": "reasonedit.VLMModule", "init_args": model},
        "data": {"class_path": "reasonedit.EditStream", "init_args": {"source": source}},
    }


def vlkeb(folder):
    """VLKEB in two splits, with other questions and pictures in each."""
    rows = [{**row, "src": f"Who is in frame {i}?"} for i, row in enumerate(benchmarks.mmedit_rows("t.0"))]
    benchmarks.write(folder / "train.json", rows)
    benchmarks.pictures_of(folder / "VLKEB_images" / "mmkb_images", rows)
    return benchmarks.vlkeb(folder)


def test_trained_editors_learn_from_the_training_split(tiny_folder, tmp_path, monkeypatch, quick):
    opened = []
    real = Lab.open_stream
    monkeypatch.setattr(Lab, "open_stream", lambda lab, data: opened.append(real(lab, data)) or opened[-1])
    config = config_of(tiny_folder, "reasonedit.data.benchmarks.VLKEB", root=str(vlkeb(tmp_path / "data")))
    plan = EXPERIMENTS["main"]
    rows = {row.name: replace(row, stream={}) for row in plan.rows if row.name in TRAINED}
    for name in TRAINED:
        opened.clear()
        [cell] = replace(plan, rows=(rows[name],)).cells([0])
        assert run_cell(Lab(config, 2, mend_steps=2), cell, tmp_path / "main")
        sources = {one.source.path.name: one.source for one in opened}
        assert sources.keys() == {"eval_multihop.json", "train.json"}, name
        tested, learnt = sources["eval_multihop.json"], sources["train.json"]
        for what in (lambda sample: sample.image, lambda sample: sample.question):
            assert not {what(s) for s in tested.samples.values()} & {what(s) for s in learnt.samples.values()}


def test_a_network_does_not_depend_on_the_number_of_tested_edits(tiny_folder, tmp_path, quick):
    root = vlkeb(tmp_path / "data")
    config = config_of(tiny_folder, "reasonedit.data.benchmarks.VLKEB", root=str(root))
    first = TrainedMEND(Lab(config, 2))._path
    assert TrainedMEND(Lab(config, 4))._path == first
    assert training_stream(Lab(config, 2), 4).source.edits == 4
    rows = json.loads((root / "train.json").read_text())
    benchmarks.write(root / "train.json", [{**rows[0], "alt": "somebody else"}, *rows[1:]])
    assert TrainedMEND(Lab(config, 2))._path != first


@pytest.mark.parametrize("kind", [VLKEB, EVQA, EIC, MMKE, CCKEB, AOKVQA, EmbeddedWorld, LinkedWorld])
def test_a_class_says_how_it_gives_other_samples(kind):
    assert isinstance(kind, GivesTraining)
    assert dict(kind.training) == ({"seed": 1000} if issubclass(kind, EmbeddedWorld) else {"split": "train"})
    assert not isinstance(FVQA, GivesTraining)


@pytest.mark.parametrize("name", ["benchmark.EmbeddedWorld", "linked.LinkedWorld"])
def test_a_world_of_the_seed_that_is_learnt_is_not_tested(name):
    lab = Lab(config_of("nowhere", f"reasonedit.data.world.{name}", preset="demo"), 5)
    check_apart(lab, Cell("mend", "MEND", 0, list))
    arguments = training_config(lab, 7)["init_args"]["source"]["init_args"]
    assert arguments == {"preset": "demo", "seed": 1000, "edits": 7}
    with pytest.raises(NotServedError, match="with seed 1000, which are those that are tested here: test others"):
        check_apart(lab, Cell("mend", "MEND", 1000, list))
    check_apart(lab, Cell("mend", "MEND", 1000, list, varies="probe_seed"))


def test_what_cannot_be_read_is_named(tmp_path):
    root = vlkeb(tmp_path)
    (root / "train.json").write_text("[]")
    lab = Lab(config_of("nowhere", "reasonedit.data.benchmarks.VLKEB", root=str(root)))
    with pytest.raises(NotServedError, match=r"VLKEB with split 'train', which cannot be used: There is no sample in"):
        training_stream(lab, 3)
    other = Lab(config_of("nowhere", "reasonedit.data.benchmarks.VLKEB", root=str(root / "elsewhere")))
    with pytest.raises(ReasonEditError, match=r"There is no file eval_multihop\.json"):
        other.stream(Cell("none", "none", 0, list))


@pytest.mark.parametrize(
    ("source", "write", "options", "why"),
    [
        ("vlkeb", benchmarks.vlkeb, [], "which cannot be used: There is no file train.json in"),
        ("fvqa", datasets.fvqa, [], "FVQA does not say how it gives others"),
        (
            "aokvqa",
            lambda folder: datasets.aokvqa(folder, "train"),
            ["--data.init_args.source.init_args.split", "train"],
            "AOKVQA with split 'train', which are those that are tested here",
        ),
    ],
)
def test_without_other_samples_these_rows_are_left_out_and_the_experiment_goes_on(
    tiny_folder, tmp_path, capsys, quick, source, write, options, why
):
    folder = write(tmp_path / "data")
    options = [*options, "--model.init_args.model", str(tiny_folder), "--model.init_args.dtype", "float32"]
    command = ["experiment", "main", "--source", f"{source}:{folder}", "--rows", *TRAINED, "none", "--seeds", "0"]
    assert main([*command, *options, "--edits", "2", "--out", str(tmp_path / "out")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for title in ("MEND", "SERAC", "WISE"):
        assert f"{title} is left out: It learns from" in shown
    assert shown.count(why) == 3
    assert [path.name for path in (tmp_path / "out" / "main" / "cells").iterdir()] == ["none-0.parquet"]


def test_where_all_rows_are_left_out_it_is_said_why(tiny_folder, tmp_path, capsys, quick):
    folder, out = datasets.fvqa(tmp_path / "data"), tmp_path / "out"
    model = ["--model.init_args.model", str(tiny_folder), "--model.init_args.dtype", "float32"]
    command = ["experiment", "main", "--source", f"fvqa:{folder}", "--rows", "mend", "serac", "--seeds", "0", *model]
    assert main([*command, "--edits", "2", "--out", str(out)]) != 0
    said = " ".join("".join(capsys.readouterr()).split())
    for title in ("MEND", "SERAC"):
        assert f"{title} is left out: It learns from" in said
