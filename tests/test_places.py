"""Programs that change their working folder, and terminals of any encoding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pyarrow.parquet as pq
import pytest
from helpers import datasets
from helpers.tiny import design, picture
from torch.utils.data import DataLoader

from reasonedit import EditStream, ReasonEditor, VLMModule
from reasonedit.callbacks import Codebook, PredictionWriter, Retriever
from reasonedit.callbacks.runlog import RunLog
from reasonedit.codebook import Store
from reasonedit.data import EditFile
from reasonedit.data.rationale_vqa import RationaleVQA
from reasonedit.util.cache import cache_folder

pytestmark = pytest.mark.usefixtures("hash_encoder")
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The first call goes from where things were named to an empty folder; calling it again says what is there."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def go() -> list[str]:
        os.chdir(tmp_path / "elsewhere")
        return sorted(p.name for p in (tmp_path / "elsewhere").iterdir())

    return go


def write(editor: ReasonEditor, i: int) -> None:
    editor.edit(picture(i, 64), f"What is number {i}?", answer=f"thing {i}", reasoning=[f"Number {i} is round."])


def test_a_codebook_stays_where_it_was_named(tiny_vlm, elsewhere):
    editor = ReasonEditor(tiny_vlm, design(keys="both"))
    editor.save("book")
    write(editor, 0)
    elsewhere()
    assert editor.ask(picture(0, 64), "What is number 0?").hits
    write(editor, 1)
    os.chdir("../here")
    again = ReasonEditor.load("book", tiny_vlm)
    elsewhere()
    assert len(again.edits) == 2
    write(again, 2)
    again.undo(next(iter(again.edits)))
    assert len(Store.open("../here/book").news().events) == 4
    assert elsewhere() == []


def test_a_run_stays_where_it_was_named(tiny_vlm, elsewhere, monkeypatch):
    datasets.own(Path(), choices=None)
    monkeypatch.setenv("REASONEDIT_CACHE", "kept")
    kept = cache_folder()
    source = EditFile("corrections.jsonl", edits=2)
    codebook = Codebook("book", design(keys="both"))
    callbacks = [RunLog("log"), codebook, Retriever(k=2), PredictionWriter("told.parquet"), PredictionWriter()]
    elsewhere()
    trainer = L.Trainer(accelerator="cpu", callbacks=callbacks, default_root_dir="../here/root", **QUIET)
    module = VLMModule(tiny_vlm, max_new_tokens=2)
    trainer.predict(module, datamodule=EditStream(source), return_predictions=False)
    assert elsewhere() == []
    here = Path("../here")
    assert len(Store.open(here / "book").news().events) == 2
    assert (
        pq.read_table(here / "told.parquet").num_rows == pq.read_table(here / "root" / "predictions.parquet").num_rows
    )
    assert (here / "log.0.jsonl").is_file()
    assert cache_folder() == kept
    assert kept.is_absolute()


def test_a_codebook_of_a_run_is_saved_again_where_it_was(tiny_vlm, elsewhere):
    codebook = Codebook("book", design(keys="both"))
    trainer = L.Trainer(accelerator="cpu", callbacks=[codebook], **QUIET)
    asked = [{"images": [picture(0)], "prompts": ["What?"]}]
    loader = DataLoader(asked, batch_size=None, collate_fn=dict)
    trainer.predict(VLMModule(tiny_vlm, max_new_tokens=2), loader)
    codebook.save("book")
    before = codebook.path
    elsewhere()
    codebook.save()
    assert codebook.path == before
    assert elsewhere() == []


def test_data_sets_stay_where_they_were_named(elsewhere):
    datasets.rationale_vqa_published(Path("data"))
    pool = RationaleVQA("AOKVQA", "data/coco", "data")
    elsewhere()
    assert len(pool.samples) == 8
    assert {p.group for p in pool.probes([pool.samples["s0"].to_edit()])} >= {"t_gen", "r_gen", "coe_gen"}


# ---- terminals

ENCODINGS = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "C": {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
CALLS = """
import sys
from reasonedit.cli import main

calls = " ".join(sys.argv[1:]).split(" , ")  # names come from the shell, in the encoding of the machine
for call in calls:
    try:
        code = main(call.split("|"))
    except SystemExit as stop:
        code = stop.code
    print("code", code)
"""


@pytest.mark.parametrize("name", ["cp1252", pytest.param("C", marks=pytest.mark.slow)])
def test_every_terminal_shows_what_it_can(name, tmp_path, book_of_signs):
    path = datasets.own(tmp_path, 2)
    good, bad = (json.loads(line) for line in path.read_text().splitlines())
    odd = path.with_name("größe ☃.jsonl")
    rows = [good | {"question": "Wo ist der Bär ☃?", "spalte ☃": 1}, bad | {"image": "über ☃.png"}]
    odd.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    calls = [
        ["--help"],
        ["demo", "--help"],
        ["codebook", "--help"],
        ["data", "check", str(odd)],
        ["data", "check", str(tmp_path / "nichts ☃.jsonl")],
        ["codebook", "list", str(book_of_signs)],
        ["codebook", "show", str(book_of_signs), "e1"],
        ["codebook", "verify", str(book_of_signs)],
        ["codebook", "verify", str(tmp_path / "nirgends ☃")],
        ["ask", str(tmp_path / "kein ☃.png"), "Wø ☃?", "--codebook", str(tmp_path / "kein ☃")],
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-c", CALLS, " , ".join("|".join(call) for call in calls)],
        capture_output=True,
        env=environment | ENCODINGS[name] | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    told = done.stdout.decode("latin-1") + done.stderr.decode("latin-1")
    assert "Traceback" not in told, told[-2000:]
    assert done.returncode == 0
    codes = [line.split()[1] for line in done.stdout.decode("latin-1").splitlines() if line.startswith("code ")]
    assert codes == ["0", "0", "0", "1", "1", "0", "0", "0", "1", "1"]
    assert "2 rows, 1 of them good, 1 bad" in told
    assert "There is no data file" in told


@pytest.fixture
def book_of_signs(tiny_vlm, tmp_path):
    editor = ReasonEditor(tiny_vlm, design(keys="both"))
    editor.save(tmp_path / "Büch ☃")
    from reasonedit import Edit

    editor.write(
        Edit(picture(0, 64), "Wo ist der Bär ☃?", "im Wald …", ["Der Bär ☃ ist braun."], id="e1", author="Ædå")
    )
    return tmp_path / "Büch ☃"


def test_sentences_are_folded_between_words_at_a_terminal_and_nowhere_else():
    import io

    from reasonedit.commands.screen import Screen

    text = "  Of the answers that count as wrong, 3 contain a right one, whatever \x1b[31m they say."
    folded, whole = io.StringIO(), io.StringIO()
    Screen(file=folded, width=30, force_terminal=True, color_system=None).tell(text)
    Screen(file=whole, width=30).tell(text)
    lines = folded.getvalue().splitlines()
    assert max(map(len, lines)) <= 30
    assert all(line.startswith("  ") and line[2] != " " for line in lines)
    assert [word for line in lines for word in line.split()] == whole.getvalue().split()
    assert "\x1b" not in folded.getvalue() + whole.getvalue()
    assert len(whole.getvalue().splitlines()) == 1
