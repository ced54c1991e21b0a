"""Data sets by name and folder: those of the package, and those of a plugin."""

from __future__ import annotations

import json
import sys
import types
from importlib.metadata import EntryPoint

import pytest
from helpers import benchmarks, datasets

import reasonedit.registry
from reasonedit import EditStream, ReasonEditError
from reasonedit.cli import main
from reasonedit.commands.configs import source_options
from reasonedit.config.merging import Config
from reasonedit.data import AOKVQA, FVQA
from reasonedit.data.benchmarks import CCKEB, EIC, EVQA, MMKE, VLKEB
from reasonedit.data.editfile import EditFile
from reasonedit.data.named import open_source
from reasonedit.data.world.benchmark import EmbeddedWorld

pytestmark = pytest.mark.usefixtures("hash_encoder")

WRITTEN = {
    "vlkeb": (benchmarks.vlkeb, VLKEB),
    "e-vqa": (benchmarks.e_vqa, EVQA),
    "e-ic": (benchmarks.e_ic, EIC),
    "mmke": (benchmarks.mmke, MMKE),
    "cckeb": (benchmarks.cckeb, CCKEB),
    "fvqa": (datasets.fvqa, FVQA),
    "aokvqa": (datasets.aokvqa, AOKVQA),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_each_is_opened_by_its_name_and_folder(name, tmp_path):
    write, kind = WRITTEN[name]
    folder = write(tmp_path)
    source = open_source(f"{name}:{folder}", edits=2)
    assert type(source) is kind
    assert source.edits == 2
    assert type(EditStream(f"{name}:{folder}").source) is kind
    config = Config.read(["configs/experiment.yaml"], source_options(f"{name}:{folder}")).resolve("data")["data"]
    made = config["init_args"]["source"]
    assert made["class_path"].rsplit(".", 1)[1] == kind.__name__
    assert made["init_args"]["root"] == str(folder)
    assert config["init_args"]["batch_size"] == 16  # the rest stays the config's


def test_the_world_needs_no_folder():
    assert type(open_source("world", seed=600 - 499)) is EmbeddedWorld
    for wrong, message in (
        ("world:there", "The data set 'world' reads no folder: write 'world' alone."),
        ("vlkeb", "The data set 'vlkeb' is read from a folder or file: write vlkeb:FOLDER."),
        ("vlkeb:", "write vlkeb:FOLDER."),
        ("vlkep:x", "There is no data set 'vlkep': use aokvqa, cckeb, e-ic, e-vqa, fvqa, .*mmke, vlkeb, world"),
    ):
        with pytest.raises(ReasonEditError, match=message):
            open_source(wrong)


def offer(monkeypatch, name, made):
    """As an installed package does by an entry point."""
    module = types.ModuleType("their_plugin")
    module.made = made
    monkeypatch.setitem(sys.modules, "their_plugin", module)
    theirs = EntryPoint(name, "their_plugin:made", "reasonedit.datasets")
    monkeypatch.setattr(
        reasonedit.registry, "entry_points", lambda group, name=None: [theirs] if name == theirs.name else []
    )
    reasonedit.registry.lookup.cache_clear()


def test_that_of_a_plugin_works_in_the_same_way(tmp_path, monkeypatch):
    try:
        offer(monkeypatch, "theirs", EditFile)
        path = datasets.own(tmp_path)
        source = open_source(f"theirs:{path}", edits=3)
        assert (type(source), source.edits) == (EditFile, 3)
        overrides = (*source_options(f"theirs:{path}"), "--data.init_args.source.init_args.locality", "2")
        config = Config.read(["configs/experiment.yaml"], overrides).resolve("data")["data"]
        made = config["init_args"]["source"]["init_args"]
        assert (made["path"], made["locality"]) == (str(path), 2)
        offer(monkeypatch, "theirs", lambda path: EditFile(path))
        with pytest.raises(ReasonEditError, match="is not made by a class: an experiment cannot give it a seed"):
            source_options(f"theirs:{path}")
    finally:
        monkeypatch.undo()
        reasonedit.registry.lookup.cache_clear()


def test_the_rows_of_each_are_checked_by_its_name(tmp_path, capsys):
    folder = benchmarks.vlkeb(tmp_path / "vlkeb")
    assert main(["data", "check", str(folder), "--format", "vlkeb", "--split", "eval_multihop"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "5 rows, 5 of them good, 0 bad." in shown
    assert "has no reasoning" in shown
    (folder / "VLKEB_images" / "mmkb_images" / "m.0" / "3.jpg").write_bytes(b"no picture")
    assert main(["data", "check", str(folder), "--format", "vlkeb"]) == 1
    assert "5 rows, 4 of them good, 1 bad." in " ".join(capsys.readouterr().out.split())
    assert (
        main(["data", "check", str(benchmarks.mmke(tmp_path / "m", "user")), "--format", "mmke", "--subset", "user"])
        == 0
    )
    assert main(["data", "check", str(datasets.fvqa(tmp_path / "f")), "--format", "fvqa", "--split", "val"]) == 1
    assert "takes no such argument" in capsys.readouterr().err


def test_one_command_runs_an_experiment_on_one(tmp_path, tiny_folder, capsys):
    folder = benchmarks.vlkeb(tmp_path / "vlkeb")
    model = ["--model.init_args.model", str(tiny_folder), "--model.init_args.dtype", "float32"]
    command = ["experiment", "main", "--source", f"vlkeb:{folder}", "--rows", "none", "ike", "--seeds", "0", "1"]
    assert main([*command, *model, "--edits", "4", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    for label in ("Port-", "T-Gen", "I-Gen"):
        assert label in shown
    assert "R-Gen" not in shown  # VLKEB has none
    import pyarrow.parquet as pq

    for seed in (0, 1):
        table = pq.read_table(tmp_path / "out" / "main" / "cells" / f"ike-{seed}.parquet")
        record = json.loads(table.schema.metadata[b"reasonedit"])
        source = record["data"]["init_args"]["source"]
        assert source["init_args"] | {"seed": seed, "edits": 4, "root": str(folder)} == source["init_args"]
        assert str(folder) in record["files"]
    rows = pq.read_table(tmp_path / "out" / "main" / "summary.parquet").to_pylist()
    counted = {row["metric"]: row["samples"] for row in rows if row["row"] == "none"}
    edits = 2 * 4  # of two seeds; of the five rows each leaves another one out
    assert counted["t_gen"] == counted["i_gen"] == counted["rel"] == edits
    assert counted["port_1"] >= counted["port_2"] >= counted["port_3"] >= counted["port_4"] >= 1
