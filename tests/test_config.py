"""Several config files and options over them: what wins, what is recorded, and which of them a message names."""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import replace

import pytest

from reasonedit import ReasonEditError
from reasonedit.cli import main
from reasonedit.codebook import EditMemory, Store
from reasonedit.commands.configs import parse_with_overrides
from reasonedit.commands.run_parser import parse_run
from reasonedit.config.files import config_path, packaged_configs, read_config
from reasonedit.config.merging import Config
from reasonedit.design import Design
from reasonedit.experiments import Lab
from reasonedit.experiments.cells import Cell

DATA = {"class_path": "reasonedit.EditStream", "init_args": {"batch_size": 8}}
WORLD = {
    "class_path": "reasonedit.data.world.benchmark.EmbeddedWorld",
    "init_args": {"preset": "demo", "edits": 20, "seed": 3},
}


@pytest.fixture
def write(tmp_path):
    """Writes a config, and says where."""

    def to_file(name, **content):
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(content))
        return str(path)

    return to_file


@pytest.fixture
def base(write):
    return write("base", data={**DATA, "init_args": {"batch_size": 8, "interleave": 5, "source": WORLD}})


def resolve_data(*names, overrides=()):
    return Config.read(names, overrides).resolve("data")["data"]["init_args"]


# ---- what wins


def test_a_later_file_wins_value_by_value(base, write):
    later = write("later", data={"init_args": {"batch_size": 4, "source": {"init_args": {"edits": 3}}}})
    values = resolve_data(base, later)
    assert (values["batch_size"], values["interleave"]) == (4, 5)
    assert values["source"]["init_args"] | {"edits": 3, "seed": 3} == values["source"]["init_args"]
    last = write("last", data={"init_args": {"batch_size": 2}})
    assert resolve_data(base, later, last)["batch_size"] == 2
    assert resolve_data(base, last, later)["batch_size"] == 4


def test_null_wins_too(base, write):
    assert resolve_data(base, write("later", data={"init_args": {"interleave": None}}))["interleave"] is None


def test_an_option_wins_over_all_files_wherever_it_stands(base, write):
    later = write("later", data={"init_args": {"batch_size": 4}})
    assert resolve_data(base, later, overrides=["--data.init_args.batch_size", "2"])["batch_size"] == 2
    assert resolve_data(base, later, overrides=["--data.init_args.batch_size=2"])["batch_size"] == 2


def test_another_class_takes_the_place_of_the_one_before_it(base, write):
    later = write(
        "later", data={"init_args": {"source": {"class_path": "reasonedit.data.EditFile", "init_args": {"path": "x"}}}}
    )
    source = resolve_data(base, later)["source"]
    assert source["class_path"].endswith("EditFile")
    assert source["init_args"]["path"] == "x"
    assert "preset" not in source["init_args"]


def test_a_run_is_made_of_the_same_as_any_other_command_takes(write, tmp_path, tiny_folder):
    model = {"class_path": "reasonedit.VLMModule", "init_args": {"model": "nowhere", "dtype": "float32"}}
    first = write("first", model=model, data={**DATA, "init_args": {"source": WORLD}}, trainer={"devices": 2})
    second = write("second", model={"init_args": {"model": str(tiny_folder)}}, trainer={"devices": 1})
    options = ["--data.init_args.batch_size", "3", "--trainer.accelerator", "cpu"]
    config = Config.read([first, second], options)
    (tmp_path / "run").mkdir()
    cli = parse_run(config, tmp_path / "run")
    taken = json.loads(json.dumps(cli.config.as_dict(), default=str))
    assert {name: taken[name] for name in ("model", "data")} == config.resolve("model", "data")
    assert (taken["trainer"]["devices"], taken["trainer"]["accelerator"]) == (1, "cpu")
    assert (cli.datamodule.batch_size, cli.model.vlm.name) == (3, str(tiny_folder))


def test_options_of_the_config_are_told_from_those_of_the_command():
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--model")
    parser.add_argument("--seeds", nargs="+")
    words = [
        "--model.init_args.model",
        "x",
        "main",
        "--data.a=1",
        "--seeds",
        "1",
        "2",
        "--data.b",
        "-1",
        "--model",
        "y",
    ]
    arguments, overrides = parse_with_overrides(parser, words)
    assert vars(arguments) == {"name": "main", "model": "y", "seeds": ["1", "2"]}
    assert overrides == ("--model.init_args.model", "x", "--data.a=1", "--data.b", "-1")
    with pytest.raises(SystemExit):
        parse_with_overrides(parser, ["main", "--trainer.devices", "1"])


# ---- what is recorded


@pytest.fixture
def toy(write, tiny_folder, hash_encoder):
    """Two configs of a small run: the second gives the model and the number of edits."""
    callbacks = ["QueryTimer", "Codebook", "Retriever", "EditingMetrics", "PredictionWriter"]
    listed = [{"class_path": f"reasonedit.callbacks.{name}"} for name in callbacks]
    listed[1]["init_args"] = {"design": {"embedding": {"encoder": "hash"}}}
    source = {"class_path": "helpers.toy.ToySource", "init_args": {"edits": 9}}
    model = {"class_path": "reasonedit.VLMModule", "init_args": {"model": "nowhere", "max_new_tokens": 3}}
    first = write(
        "first",
        model=model,
        data={**DATA, "init_args": {"source": source, "batch_size": 2}},
        trainer={"accelerator": "cpu", "callbacks": listed},
    )
    second = write(
        "second",
        model={"init_args": {"model": str(tiny_folder), "dtype": "float32"}},
        data={"init_args": {"source": {"init_args": {"edits": 2}}}},
    )
    return ["--config", first, "--config", second]


def test_a_run_keeps_what_came_of_all_and_is_repeated_from_it(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["run", *toy, "--data.init_args.batch_size", "1"]) == 0
    run = tmp_path / "runs" / "first+second"
    assert len(EditMemory.open(Store.open(run / "codebook")).edits) == 2
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert settings["data.batch_size"] == 1
    assert settings["data.source.edits"] == 2
    assert settings["model.dtype"] == "float32"
    again = tmp_path / "again"
    assert main(["run", "--config", str(run / "config.yaml"), "--out", str(again)]) == 0
    assert json.loads((again / "run.json").read_text())["settings"] == settings


def test_a_run_of_several_configs_goes_on_with_what_came_of_all(toy, tmp_path, monkeypatch, capsys):
    out = tmp_path / "a run's folder"
    with monkeypatch.context() as patch:
        patch.setattr("lightning.Trainer.predict", lambda *_, **__: exit_by_signal())
        assert main(["run", *toy, "--data.init_args.batch_size", "1", "--out", str(out)]) == 130
    [said] = re.findall(r"To go on: (.*)", capsys.readouterr().err)
    assert shlex.split(said)[-3:] == ["run", "--resume", str(out)]  # it can be pasted, whatever the folder is called
    assert main(["run", "--resume", str(out), "--data.init_args.batch_size", "2"]) == 1
    assert "data.batch_size was 1, is 2 now" in capsys.readouterr().err
    assert main(["run", "--resume", str(out)]) == 0
    assert len(EditMemory.open(Store.open(out / "codebook")).edits) == 2


def exit_by_signal():
    raise SystemExit(130)


def test_a_cell_records_what_came_of_all(base, write):
    later = write("later", model={"class_path": "reasonedit.VLMModule"}, data={"init_args": {"batch_size": 4}})
    config = Config.read([base, later], ["--data.init_args.interleave", "7"]).resolve("model", "data")
    options = Lab(config, 2).data_config(Cell("row", "Row", 1, list))["init_args"]
    assert (options["batch_size"], options["interleave"]) == (4, 7)
    assert options["source"]["init_args"] | {"edits": 2, "seed": 1} == options["source"]["init_args"]


# ---- what cannot be used

COMMANDS = {
    "run": ["run"],
    "select": ["select"],
    "build-probes": ["build-probes", "--out", "probes", "--dry-run"],
    "experiment": ["experiment", "main", "--quick"],
    "train-mend": ["train-mend", "--out", "mend.safetensors"],
    "train-serac": ["train-serac", "--out", "serac.safetensors"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": {"init_args": {"batch_sise": 1}}}, "has a key 'batch_sise' that nothing expects. Did you mean"),
        ({"trianer": {"devices": 1}}, "has a key 'trianer' that nothing expects. Did you mean 'trainer'?"),
        ({"data": {"init_args": {"batch_size": "many"}}}, "batch_size: Expected a <class 'int'>. Got value: many"),
        ({"data": {"class_path": "reasonedit.EditStrem"}}, "'reasonedit.EditStrem': module 'reasonedit' has no"),
        ({"data": {"init_args": {"source": {"init_args": {"edits": [1]}}}}}, "edits: Expected a <class 'int'>. Got"),
    ],
    ids=range(5),
)
def test_the_wrong_one_of_several_files_is_named(command, content, message, write, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wrong, good = write("wrong", **content), write("good", data={"init_args": {"batch_size": 2}})
    named = [word for path in ("configs/demo.yaml", wrong, good) for word in ("--config", path)]
    assert main([*COMMANDS[command], *named]) == 1
    told = capsys.readouterr().err
    assert f"The config '{wrong}' {'' if 'nothing expects' in message else 'cannot be used: '}{message}" in told
    assert len(told.splitlines()) == 1
    assert not any(path.is_dir() and path.name != "runs" for path in tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_each_of_several_files_is_checked(command, write, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "large.yaml").write_text("x: " + "y" * (1 << 20))
    (tmp_path / "broken.yaml").write_text("data: [")
    os.mkfifo(tmp_path / "pipe.yaml")
    asking = {"model": {"init_args": {"model_kwargs": {"trust_remote_code": True}}}}
    for path, message in (
        ("large.yaml", "The config 'large.yaml' has more than 1 MiB"),
        ("broken.yaml", "The config 'broken.yaml' cannot be used: not YAML"),
        ("pipe.yaml", "The config 'pipe.yaml' is a pipe or a device"),
        ("missing.yaml", "There is no config file 'missing.yaml'"),
        (write("asking", **asking), "The config sets 'trust_remote_code'"),
        (write("file", data="broken.yaml"), "names another file by 'data'"),
        (write("config", config="broken.yaml"), "names another file by 'config'"),
    ):
        assert main([*COMMANDS[command], "--config", "configs/demo.yaml", "--config", path]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "build-probes"])
def test_an_option_asks_for_code_in_vain_too(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    option = '--model.init_args.model_kwargs={"trust_remote_code": true}'
    assert main([*COMMANDS[command], "--config", "configs/demo.yaml", option]) == 1
    assert "The config sets 'trust_remote_code'" in capsys.readouterr().err


def test_an_option_that_is_wrong_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS.values():
        call = [*command, "--config", "configs/demo.yaml"]
        assert main([*call, "--data.init_args.batch_sise", "2"]) == 1
        assert "The option '--data.init_args.batch_sise' has a key 'batch_sise' that" in capsys.readouterr().err
        assert main([*call, "--data.init_args.batch_size=many"]) == 1
        assert "The option '--data.init_args.batch_size' cannot be used: batch_size: " in capsys.readouterr().err


def test_arguments_without_their_class_are_refused(base, write):
    alone = write("alone", data={"init_args": {"batch_size": 4}})
    for names in ([alone], [alone, base]):
        with pytest.raises(ReasonEditError, match=r"alone.yaml' has 'data' without a class_path: add it, or name"):
            Config.read(names)


def test_a_config_of_no_text_keys_is_refused(tmp_path):
    (tmp_path / "run.yaml").write_text("1: x\n")
    with pytest.raises(ReasonEditError, match="is not a mapping of 'model', 'data' and so on"):
        Config.read([str(tmp_path / "run.yaml")])


def test_options_without_a_config_are_refused(capsys):
    assert main(["select", "--model.init_args.model", "x"]) == 1
    assert "name the config with --config" in capsys.readouterr().err


def test_packaged_configs_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in packaged_configs().glob("*.yaml"):
        assert config_path(f"configs/{path.name}") == path
        assert set(Config.read([f"configs/{path.name}"]).resolve("model", "data")) == {"model", "data"}
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yaml").write_text("{}")
    assert config_path("configs/demo.yaml").resolve() == tmp_path / "configs" / "demo.yaml"  # one's own comes first


def test_the_config_of_the_paper_writes_out_its_design():
    callbacks = read_config("configs/paper.yaml")["trainer"]["callbacks"]
    (options,) = (callback["init_args"] for callback in callbacks if "init_args" in callback)
    design = Design.from_dict(options["design"]["init_args"])
    assert replace(design, embedding=replace(design.embedding, layer="")) == Design()
