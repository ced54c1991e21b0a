"""The command line as a user meets it: what it prints, what it writes, and one clear sentence for bad input."""

import errno
import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout
from importlib import metadata
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from helpers.believer import Believer
from helpers.tiny import picture

import reasonedit
from reasonedit.callbacks import StreamProgress
from reasonedit.callbacks.progress import StreamLines
from reasonedit.cli import COMMANDS, main
from reasonedit.commands.results_table import results_table
from reasonedit.errors import UnavailableError
from reasonedit.runs.folder import new_folder, row


def fails(capsys, *arguments, status=1):
    """The one line that a failing call prints."""
    assert main([str(a) for a in arguments]) == status
    lines = [line for line in capsys.readouterr().err.strip().splitlines() if line.startswith("reasonedit:")]
    assert len(lines) == 1
    return lines[0]


def test_help_and_import_are_light():
    code = (
        "import sys, reasonedit, reasonedit.cli\n"
        "try:\n    reasonedit.cli.main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'lightning', 'transformers', 'numpy', 'faiss'}\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")  # none of the heavy packages was imported
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"reasonedit {command}" in capsys.readouterr().out


def test_the_version_is_the_one_that_is_installed(capsys):
    installed = metadata.version("reasonedit")
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"reasonedit {installed}\n"
    assert reasonedit.__version__ == installed
    said = subprocess.run([sys.executable, "-m", "reasonedit", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"reasonedit {installed}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["edit", "x.png", "What?", "--answer", "a", "--reasoning", "It is.", "--codebook", "c", "--model", ""],
        ["ask", "x.png", "What?", "--codebook="],
        ["codebook", "replace", "c", "0", "--question", "Why?", "--answer", ""],
        ["serve", "--codebook", "c", "--api-key", ""],
        ["calibrate", "--pictures", "p", "--out", ""],
    ],
)
def test_an_option_with_an_empty_value_is_not_taken_for_one_that_is_left_out(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    option = arguments[-2] if not arguments[-1] else arguments[-1].rstrip("=")
    assert f"What follows {option} is empty" in fails(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_an_author_may_be_nobody(tmp_path, capsys):
    assert "empty" not in fails(capsys, "codebook", "undo", tmp_path, "0", "--author", "")


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["dmeo"])
    assert stop.value.code == 2
    assert "invalid choice: 'dmeo'" in capsys.readouterr().err


EDITS = 3


@pytest.fixture(scope="module")
def demo(embedded_vlm, tmp_path_factory):
    """One run of the demo, smaller, by the embedded VLM; what it printed and where it wrote."""
    folder, said = tmp_path_factory.mktemp("demo") / "run [b]", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr("reasonedit.vlm.local.load_local", lambda *_, **__: embedded_vlm)  # it is loaded once
        assert main(["demo", "--edits", str(EDITS), "--out", str(folder)]) == 0
    return folder, said.getvalue()


def test_the_demo_tells_a_story_and_a_table(demo):
    folder, said = demo
    for words in (
        "One of the mistakes",
        f"picture      {folder}/story/mistake.png",
        f"picture      {folder}/story/other.png",
        "because",
        "Another picture, corrected by the same reasoning",
        "What to try next",
    ):
        assert words in said
    assert re.search(r"unedited +0\.00", said)
    assert re.search(r"ReasonEdit +[01]\.\d\d", said)
    assert (folder / "story" / "mistake.png").is_file()
    assert (folder / "story" / "other.png").is_file()
    assert (folder / "story" / "story.png").is_file()


@pytest.mark.parametrize(("options", "speaks"), [(["--quiet"], False), ([], True)])
def test_a_quiet_demo_prints_the_table_and_what_belongs_to_it(options, speaks, tmp_path, monkeypatch, capsys):
    from reasonedit.commands import demo_story
    from reasonedit.commands.stream_run import Run

    figures = row({"rel": (0.5, 4)}, {"rel": 0.25}, seconds_per_edit=None, ms_per_query=3.0)
    run = Run(tmp_path, {"reasonedit": figures}, ["Two probes were not asked."], None, None)
    monkeypatch.setattr(demo_story, "begin_run", lambda *_: run)
    monkeypatch.setattr(demo_story, "_story", lambda *_: None)
    assert main(["demo", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "share of right answers" in lines[0 if not speaks else 5]
    assert any("ReasonEdit" in line for line in lines)
    assert (lines[-1] == "Two probes were not asked.") != speaks
    assert any("Written to" in line for line in lines) == speaks
    assert not any("story/" in line for line in lines)  # none was told


def test_the_demo_writes_a_folder_that_says_what_made_it(demo):
    folder, _ = demo
    table = json.loads((folder / "metrics.json").read_text())
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    assert set(table) == {"unedited", "reasonedit"}
    for group in ("rel", "t_gen", "i_gen", "r_gen", "coe_gen", "loc"):
        mine = [r["right"] for r in rows if r["group"] == group and r["edits"] == EDITS]
        assert table["reasonedit"][f"{group}_samples"] == len(mine) == table["unedited"][f"{group}_samples"] > 0
        assert table["reasonedit"][group] == pytest.approx(sum(mine) / len(mine), abs=1e-3)
    assert table["unedited"]["rel"] == 0
    assert table["unedited"]["loc"] == 1
    assert table["unedited"]["seconds_per_edit"] is None
    assert table["reasonedit"]["seconds_per_edit"] > 0
    assert table["reasonedit"]["ms_per_query"] > 0
    versions = json.loads((folder / "versions.json").read_text())
    assert versions["seed"] == 0
    assert "torch" in versions
    assert "EmbeddedWorld" in (folder / "config.yaml").read_text()
    assert list((folder / "tensorboard").glob("events*"))


def test_figures_are_rounded_once_where_they_are_shown():
    """0.37496 is 0.375 in four places, which is 0.38 in two."""
    values = row({"rel": (0.37496, 9)}, {"rel": 1 / 3}, seconds_per_edit=0.123456, ms_per_query=9.87654)
    assert (values["rel"], values["rel_exact_match"], values["seconds_per_edit"]) == (0.37496, 1 / 3, 0.123456)
    table = results_table(
        {
            "unedited": row({"rel": (0.1 + 0.2, 9)}, {"rel": 0.3}, seconds_per_edit=None, ms_per_query=None),
            "reasonedit": values,
        }
    )
    (name,) = [column for column in table.columns if column.header == "Rel\n(9)"]
    assert [*name.cells] == ["0.30", "0.37"]
    assert table.caption.endswith("by exact match: ReasonEdit Rel 0.33")


def test_edits_make_the_embedded_vlm_better(demo):
    table = json.loads((demo[0] / "metrics.json").read_text())
    assert table["reasonedit"]["rel"] >= 0.8
    for group in ("t_gen", "i_gen", "coe_gen", "r_gen"):
        assert table["reasonedit"][group] > table["unedited"][group] + 0.2


@pytest.mark.slow
def test_a_run_is_repeated_from_the_config_it_wrote(demo, tmp_path):
    folder, _ = demo
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert main(["run", "--config", str(folder / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before  # the first run is left alone
    written = {p.name for p in (tmp_path / "again").iterdir()}
    assert written == {p.name for p in folder.iterdir()} - {"story"}
    first, again = (json.loads((f / "metrics.json").read_text()) for f in (folder, tmp_path / "again"))
    for name in ("unedited", "reasonedit"):
        timed = ("seconds_per_edit", "ms_per_query")
        assert {k: v for k, v in first[name].items() if k not in timed} == {
            k: v for k, v in again[name].items() if k not in timed
        }


def test_edit_and_ask_share_a_codebook(speaking_folder, hash_encoder, tmp_path, monkeypatch, capsys):
    believer = Believer.load(speaking_folder, str(speaking_folder))
    monkeypatch.setattr("reasonedit.vlm.local.load_local", lambda *_, **__: believer)
    image, book = tmp_path / "picture.png", tmp_path / "book"
    picture(0).save(image)
    question = "What is the secret name of this picture?"
    call = [
        "edit",
        image,
        question,
        "--answer",
        "Zanzibar",
        "--reasoning",
        "The picture is called Zanzibar. It is old.",
    ]
    assert main([str(a) for a in [*call, "--codebook", book, "--model", speaking_folder]]) == 0
    assert "holds 1 edit;" in capsys.readouterr().out
    assert main(["ask", str(image), question, "--codebook", str(book)]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "Zanzibar"
    assert f"0.000  The answer to '{question}' is Zanzibar." in said
    assert main([str(a) for a in [*call, "--codebook", book]]) == 0
    assert "holds 2 edits" in capsys.readouterr().out
    assert "leave --model out" in fails(capsys, *call, "--codebook", book, "--model", speaking_folder)


def test_bad_input_is_one_clear_sentence(tmp_path, capsys):
    image, empty = tmp_path / "a.png", tmp_path / "empty.png"
    picture(0).save(image)
    empty.write_bytes(b"")
    book = ["--codebook", tmp_path / "book"]
    edit = ["--answer", "a", "--reasoning", "b.", *book]
    assert "no image file" in fails(capsys, "ask", tmp_path / "none.png", "What?", *book)
    assert "is empty (zero bytes)" in fails(capsys, "ask", empty, "What?", *book)
    assert "The question is empty" in fails(capsys, "ask", image, "  ", *book)
    assert "There is no codebook in" in fails(capsys, "ask", image, "What?", *book)
    assert "The question is empty" in fails(capsys, "edit", image, "", *edit)
    assert "'a' is not among the choices" in fails(capsys, "edit", image, "What?", *edit, "--choices", "b", "c")
    assert "The reasoning is empty" in fails(capsys, "edit", image, "What?", "--answer", "a", "--reasoning", " ", *book)
    assert "There is no model 'no/model'" in fails(capsys, "edit", image, "What?", *edit, "--model", "no/model")
    assert not (tmp_path / "book").exists()
    assert "There is no config file 'none.yaml'" in fails(capsys, "run", "--config", "none.yaml")
    assert "There is no config file" in fails(capsys, "run", "--config", "elsewhere/demo.yaml")
    assert "name another one with --out" in fails(capsys, "run", "--config", "configs/demo.yaml", "--out", "/")
    assert "does not exist" in fails(capsys, "world", "show", "--out", tmp_path / "no" / "world.png")
    assert "must be 1 or more" in fails(capsys, "world", "abilities", "--questions", 0)
    gpu = ["--trainer.accelerator", "gpu", "--out", tmp_path / "out"]
    if not torch.cuda.is_available():
        assert "The trainer cannot be made with these settings" in fails(
            capsys, "run", "--config", "configs/demo.yaml", *gpu
        )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("trainer:", "trianer:", "'trianer' that nothing expects. Did you mean 'trainer'?"),
        (
            "batch_size: 8",
            "batch_sise: 8",
            "'batch_sise' that nothing expects. Did you mean 'batch_size'?",
        ),
        ("preset: demo", "presett: demo", "Did you mean 'preset'?"),
        ("percentile: 10.0", "percentil: 10.0", "Did you mean 'percentile'?"),
        ("entries: all", "entries: some", "entries must be one of all, answer, reasoning, not 'some'"),
        ("  devices: 1", "  devises: 1", "Did you mean 'devices'?"),
        ("preset: demo", "preset: demi", "There is no preset 'demi' of the embedded world"),
        ("batch_size: 8", "batch_size: 0", "batch_size must be 1 or more"),
        ("model: embedded", "model: nowhere/at-all", "There is no model 'nowhere/at-all'"),
        ("batch_size: 8", "batch_size: many", "batch_size: Expected a <class 'int'>. Got value: many"),
        (
            "reasonedit.EditStream",
            "reasonedit.EditStrem",
            "'reasonedit.EditStrem': module 'reasonedit' has no attribute",
        ),
    ],
)
def test_a_wrong_config_is_one_clear_sentence(old, new, said, tmp_path, capsys):
    from reasonedit.config.files import config_path

    texts = [config_path(f"configs/{name}.yaml").read_text() for name in ("demo", "paper")]
    text = next(t for t in texts if old in t)
    config = tmp_path / "mine.yaml"
    config.write_text(text.replace(old, new, 1))
    assert said in fails(capsys, "run", "--config", config, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_results_folder_that_exists_is_kept(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "kept.txt").write_text("here")
    assert new_folder(tmp_path / "run") == tmp_path / "run-2"
    assert new_folder(tmp_path / "run") == tmp_path / "run-3"
    assert (tmp_path / "run" / "kept.txt").read_text() == "here"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(("named", "said"), [(["world.png"], "world.png"), ([], "writing")])
def test_a_full_disk_is_one_clear_sentence(number, named, said, tmp_path, capsys, monkeypatch):
    def full(*_args, **_options):
        raise OSError(number, "It is full", *named)

    monkeypatch.setattr("PIL.Image.Image.save", full)
    assert f"No space is left on the disk ({said})" in fails(capsys, "world", "show", "--out", tmp_path / "world.png")


def test_streams_that_were_closed_are_no_terminal(monkeypatch):
    from reasonedit.commands.confirm import confirm
    from reasonedit.commands.stream_run import _replace_bars

    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UnavailableError, match="There is no terminal to ask at: confirm with --yes"):
        confirm("Erase all?")
    monkeypatch.setattr("sys.stderr", None)
    trainer = SimpleNamespace(callbacks=[StreamProgress()])
    _replace_bars(trainer)
    assert [type(callback) for callback in trainer.callbacks] == [StreamLines]


def test_a_row_says_how_many_samples_each_share_has():
    made = row({"rel": (0.5, 4)}, {"rel": 0.25}, seconds_per_edit=None, ms_per_query=3.0)
    assert (made["rel"], made["rel_samples"], made["loc"], made["loc_samples"]) == (0.5, 4, None, 0)
    assert (made["seconds_per_edit"], made["ms_per_query"]) == (None, 3.0)


def test_the_world_is_shown(tmp_path, capsys):
    file = tmp_path / f"{'a long name ' * 10}[1].png"
    assert main(["world", "show", "--out", str(file)]) == 0
    assert file.stat().st_size > 10_000
    assert capsys.readouterr().out == f"Written to {file}\n"


def test_without_wheel_and_hub_the_vlm_says_how_to_get_it(monkeypatch):
    import torch

    from reasonedit import ReasonEditError
    from reasonedit.data.world import base_lm

    monkeypatch.setattr(base_lm, "wheel_folder", lambda: None)
    monkeypatch.setattr(base_lm, "HUB_ID", "no-one/no-model")
    with pytest.raises(ReasonEditError, match="run 'reasonedit world fetch-lm'"):
        base_lm.load_language_model(torch.float32)
