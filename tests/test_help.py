"""Help answers at once, and a wrong call is one clear sentence."""

import json
import subprocess
import sys
from dataclasses import fields

import pytest

from reasonedit.cli import COMMANDS, main
from reasonedit.commands import build_probes, experiment, generation, serve
from reasonedit.errors import InputError

HEAVY = (
    "torch lightning transformers faiss sklearn jsonargparse matplotlib pyarrow tensorboard torchmetrics yaml fastapi "
    "huggingface_hub open_clip sentence_transformers numpy PIL"
)
_HELP = f"""
import contextlib, io, json, sys
from reasonedit.cli import main
out = io.StringIO()
with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print(json.dumps([sorted(set({HEAVY!r}.split()) & set(sys.modules)), out.getvalue()]))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_takes_no_heavy_package(command):
    call = [sys.executable, "-c", _HELP, command, "--help"]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    imported, said = json.loads(done.stdout)
    assert said.startswith(f"usage: reasonedit {command}")
    assert imported == []


def test_help_is_there_without_the_packages_of_runs(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--help"])
    assert "usage: reasonedit run" in capsys.readouterr().out
    assert main(["run", "--config", "configs/demo.yaml"]) == 1
    assert "pip install 'reasonedit[runs]'" in capsys.readouterr().err


def test_what_help_knows_by_heart_is_so():
    from reasonedit.callbacks.baselines.serac_training import SCOPES
    from reasonedit.commands.train_serac import SCOPES as SCOPES_OF_HELP
    from reasonedit.data.probes import builders
    from reasonedit.experiments import EXPERIMENTS
    from reasonedit.vlm import Generation
    from reasonedit.vlm.generation import CHOICE_RULES

    assert list(experiment.NAMES) == list(EXPERIMENTS)
    assert list(build_probes.GROUPS) == list(builders())
    assert tuple(SCOPES_OF_HELP) == tuple(SCOPES)
    assert generation.CHOICE_RULES == CHOICE_RULES
    defaults = {field.name: field.default for field in fields(Generation)}
    assert defaults["max_new_tokens"] == generation.MAX_NEW_TOKENS
    assert defaults["choice_rule"] == generation.CHOICE_RULES[0]


WRONG = [
    ["--nothing"],
    ["ask"],
    ["ask", "none.png"],
    ["ask", "none.png", "What?"],
    ["ask", "none.png", "What?", "--model", "embedded", "--codebook", "book"],
    ["ask", "none.png", "What?", "--codebook", "book", "--generate-kwargs", "{"],
    ["ask", "none.png", "What?", "--codebook", "book", "--generate-kwargs", "[1]"],
    ["ask", "none.png", "What?", "--codebook", "book", "--max-new-tokens", "0"],
    ["ask", "none.png", "What?", "--codebook", "book", "--max-new-tokens", "many"],
    ["ask", "none.png", "What?", "--codebook", "book", "--json", "--quiet"],
    ["ask", ".", "What?", "--codebook", "book"],
    ["ask", "\0", "What?", "--codebook", "book"],
    ["edit", "none.png", "What?", "--codebook", "book"],
    ["edit", "none.png", "What?", "--codebook", "book", "--answer", "a", "--reasoning", "b.", "--box", "1", "2"],
    ["edit", "none.png", "What?", "--codebook", "book", "--answer", "a", "--reasoning", "b.", "--also", "x"],
    ["edit", "none.png", "Q?", "--codebook", "b", "--answer", "a", "--reasoning", "b.", "--box", *"²0011"],
    ["edits"],
    ["codebook"],
    ["codebook", "list"],
    ["codebook", "list", "no-book"],
    ["codebook", "list", "file.txt", "--json"],
    ["codebook", "show", "no-book", "1"],
    ["codebook", "undo", "no-book"],
    ["codebook", "undo", "no-book", "1"],
    ["codebook", "restore", "no-book", "1"],
    ["codebook", "check", "no-book", "1"],
    ["codebook", "replace", "no-book", "1"],
    ["codebook", "erase", "no-book", "1"],
    ["codebook", "export", "no-book", "out.jsonl"],
    ["codebook", "import", "no-book", "none.jsonl"],
    ["codebook", "info", "no-book"],
    ["codebook", "info", "file.txt", "--json"],
    ["codebook", "verify", "no-book"],
    ["codebook", "repair", "no-book"],
    ["codebook", "compact", "no-book"],
    ["codebook", "backup", "no-book", "copy"],
    ["codebook", "migrate", "no-book"],
    ["codebook", "migrate", "no-book", "--model", "embedded", "--out", "new"],
    ["codebook", "push", "no-book", "owner/name"],
    ["demo", "--edits", "0"],
    ["demo", "--edits", "-3"],
    ["demo", "--seed", "x"],
    ["run"],
    ["run", "--config", "none.yaml"],
    ["run", "--config", "file.txt"],
    ["run", "--config", "."],
    ["run", "--resume", "none"],
    ["run", "--config", "configs/demo.yaml", "--resume", "none"],
    ["run", "--config", "configs/demo.yaml", "--nothing", "1"],
    ["run", "--config", "configs/demo.yaml", "word"],
    ["run", "--config", "configs/demo.yaml", "--data.init_args.batch_size"],
    ["experiment"],
    ["experiment", "mian"],
    ["experiment", "main", "--rows", "nothing"],
    ["experiment", "main", "--editor", "nothing.Mine"],
    ["experiment", "main", "--editor", "Mine"],
    ["experiment", "main", "--editor", "."],
    ["experiment", "main", "--editor", "os.path"],
    ["experiment", "main", "--edits", "0"],
    ["experiment", "main", "--seeds", "x"],
    ["experiment", "main", "--jobs", "0"],
    ["experiment", "main", "--source", "nothing"],
    ["experiment", "main", "--source", "vlkeb:nowhere"],
    ["experiment", "main", "--judge", "nothing"],
    ["experiment", "main", "--config", "none.yaml"],
    ["experiment", "main", "--out", "file.txt"],
    ["report"],
    ["report", "nowhere"],
    ["report", "file.txt"],
    ["report", "."],
    ["train-mend", "--config", "configs/demo.yaml"],
    ["train-mend", "--config", "configs/demo.yaml", "--out", "x", "--steps", "0"],
    ["train-mend", "--config", "configs/demo.yaml", "--out", "."],
    ["train-serac", "--config", "configs/demo.yaml", "--out", "."],
    ["train-serac", "--config", "configs/demo.yaml", "--out", "x", "--scope", "wide"],
    ["select", "--pairs", "none.jsonl"],
    ["select", "--runs", "1"],
    ["select", "--transforms", "nothing"],
    ["select", "--config", "configs/demo.yaml", "--pairs", "file.txt"],
    ["calibrate", "--pictures", "nowhere"],
    ["calibrate", "--pictures", "nowhere", "--out", "new"],
    ["calibrate", "--pictures", ".", "--codebook", "no-book"],
    ["app", "--port", "x"],
    ["app", "--codebook", "file.txt", "--no-browser"],
    ["app", "--keep-questions", "-1", "--codebook", "file.txt", "--no-browser"],
    ["serve"],
    ["serve", "--codebook", "file.txt"],
    ["serve", "--codebook", "no-book", "--design", "none.json"],
    ["build-probes"],
    ["build-probes", "--config", "none.yaml", "--out", "x"],
    ["build-probes", "--config", "configs/demo.yaml", "--out", "x"],
    ["build-probes", "--config", "configs/demo.yaml", "--out", "x", "--groups", "loc"],
    ["data"],
    ["data", "check"],
    ["data", "check", "none.jsonl"],
    ["data", "check", "file.txt"],
    ["data", "check", "."],
    ["data", "check", "nowhere", "--format", "vlkeb"],
    ["world"],
    ["world", "show", "--out", "no/world.png"],
    ["world", "abilities", "--questions", "0"],
    ["world", "abilities", "--model", "nowhere"],
]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_a_wrong_call_is_a_sentence_and_no_traceback(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("nothing of use")
    try:
        status = main(words)
    except SystemExit as stop:  # argparse says how it is called
        status = stop.code
    said = capsys.readouterr()
    assert status in (1, 2), said
    assert "Traceback" not in said.err + said.out
    last = (said.err.strip() or said.out.strip()).splitlines()[-1]
    assert last.startswith("reasonedit") or words[0] == "data", said
    assert {path.name for path in tmp_path.iterdir()} <= {"file.txt", "results", "runs"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["select", "--config", "configs/demo.yaml", "--model", "a/b"], "--config says the model: leave --model out"),
        (["select", "--config", "configs/demo.yaml", "--dtype", "float16"], "--config says the dtype"),
        (["serve", "--codebook", "b", "--model", "a/b", "--base-url", "http://localhost:1/v1"], "'a/b' is loaded here"),
        (["serve", "--codebook", "b", "--model", "a/b", "--body-mb", "0"], "must be between 1 and 1024 MiB, not 0"),
        (["serve", "--codebook", "b", "--model", "a/b", "--upstream-timeout", "9"], "leave --upstream-timeout out"),
        (["serve", "--codebook", "b", "--model", "openai:a/b", "--dtype", "float16"], "'openai:a/b' is served else"),
        (["serve", "--codebook", "b", "--model", "openai:a/b", "--devices", "cuda:0", "cuda:1"], "leave --devices and"),
        (
            ["edit", "x.png", "Q?", "--codebook", "b", "--answer", "a", "--reasoning", "b.", "--also", "y", "R?"],
            "--also",
        ),
        (["data", "check", "file.jsonl", "--split", "val"], "'own' has no --split"),
        (["data", "check", "file.jsonl", "--subset", "FVQA"], "'own' has no --subset"),
        (["data", "check", "x", "--format", "rationalevqa", "--split", "val"], "'rationalevqa' has no --split"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_a_server_behind_is_given_time(seconds):
    from reasonedit.serve.settings import Upstream

    arguments = serve.parser().parse_args(["--codebook", "b", "--upstream-timeout", seconds])
    with pytest.raises(InputError, match="must be given more than 0 seconds"):
        Upstream("http://localhost/v1", "m", "", arguments.upstream_timeout)


def test_commands_are_printed_as_the_users_shell_finds_them(tmp_path, monkeypatch):
    from reasonedit.commands.called import command_line

    programs = tmp_path / "it's here" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "reasonedit"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    line = command_line("reasonedit", "ask", "a b.png", "Whose is the dog's?")
    said = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
    assert said == "reasonedit ask a b.png Whose is the dog's?\n"
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    assert command_line("reasonedit", "app") == "reasonedit app"
    assert command_line("nothing", "x").endswith("-m nothing x")
