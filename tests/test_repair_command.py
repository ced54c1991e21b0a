"""``reasonedit codebook verify`` and ``repair``: what they say, what they ask, and what is embedded anew."""

import io
import shlex
import sys

import pytest
import torch
from helpers.tiny import design, picture

from reasonedit import ReasonEditor
from reasonedit.cli import main
from reasonedit.codebook import EditMemory, Store
from reasonedit.commands import confirm

pytestmark = pytest.mark.usefixtures("hash_encoder")


@pytest.fixture
def editor(tiny_folder, tmp_path):
    """Three edits, the second undone, in one file of keys."""
    made = ReasonEditor.from_pretrained(str(tiny_folder), design(keys="both", merge=True), dtype="float32")
    made.save(tmp_path / "book")
    for seed, answer in enumerate(["a boat", "a drum", "a kettle"]):
        edit = made.edit(
            picture(seed), f"What is number {seed}?", answer=answer, reasoning=f"It is {answer}.", author="Ada"
        )
    made.undo([*made.edits][1], "Bo")
    made.memory.settle(join=True)
    assert edit.id in made.edits
    return made


@pytest.fixture
def book(editor, tmp_path):
    return tmp_path / "book"


def call(capsys, *words):
    code = main([str(w) for w in words])
    told = capsys.readouterr()
    return code, told.out + told.err


def opened(folder) -> EditMemory:
    return EditMemory.open(Store.open(folder))


def zeroed(folder):
    (path,) = (folder / "keys").iterdir()
    path.write_bytes(bytes(path.stat().st_size))


def test_edits_without_keys_are_embedded_anew_by_the_codebooks_own_vlm(book, editor, capsys):
    before = {name: editor.memory.entries_of(name) for name in [*editor.memory.edits, *editor.memory.undone]}
    events = editor.memory.events
    zeroed(book)
    code, told = call(capsys, "codebook", "verify", book)
    assert code == 1
    assert told.splitlines()[0] == f"{book}: damaged; 3 edits (1 undone), 3 pictures; 3 edits without keys"
    assert told.count("its keys are lost: it does not answer until it is embedded again") == 3
    code, told = call(capsys, "codebook", "repair", book, "--dtype", "float32")
    assert (code, "embedded again: 3 edits" in told) == (0, True), told
    there = opened(book)
    assert [(e.op, e.edit_id, e.author, e.time) for e in there.events] == [
        (e.op, e.edit_id, e.author, e.time) for e in events
    ]
    assert list(there.undone) == list(editor.memory.undone)
    for name, entries in before.items():
        for old, new in zip(entries, there.entries_of(name), strict=True):
            assert old.fact == new.fact
            assert torch.allclose(old.key, new.key, atol=1e-5)
            assert old.radius == pytest.approx(new.radius, abs=1e-4)
    code, told = call(capsys, "codebook", "verify", book)
    assert (code, told.splitlines()) == (0, [f"{book}: whole; 3 edits (1 undone), 3 pictures"])


def test_without_the_vlm_all_else_is_repaired_and_it_is_said(book, tiny_folder, capsys):
    zeroed(book)
    code, told = call(capsys, "codebook", "repair", book, "--model", book.parent / "nowhere")
    assert code == 1
    assert "edits without keys were not embedded again: " in told
    _, _, command = told.partition("do not answer: 3 edits; to embed them again: ")
    assert shlex.split(command.splitlines()[0])[-3:] == ["codebook", "repair", str(book)]
    assert len(opened(book).keyless) == 3
    code, told = call(capsys, "codebook", "verify", book)
    assert (code, told.splitlines()[0]) == (
        0,
        f"{book}: not all of it answers; 3 edits (1 undone), 3 pictures; 3 edits without keys",
    )
    code, told = call(capsys, "codebook", "repair", book, "--no-embed")
    assert (code, len(opened(book).keyless)) == (1, 3)
    code, told = call(capsys, "codebook", "repair", book, "--dtype", "float32")  # later, where the VLM is at hand
    assert (code, opened(book).keyless) == (0, []), told
    assert len(list(book.parent.glob("book.damaged-*"))) == 1


def test_an_edit_without_keys_and_picture_is_named_and_kept(book, editor, capsys):
    name = next(iter(editor.edits))
    zeroed(book)
    (book / "pictures" / f"{editor.edits[name].image}.png").write_bytes(b"no picture")
    code, told = call(capsys, "codebook", "repair", book, "--dtype", "float32")
    assert code == 1
    assert "embedded again: 2 edits" in told
    assert "do not answer: 1 edit, 1 of them because a picture is lost" in told
    assert opened(book).keyless == [name]
    assert opened(book).find(name).reasoning == ["It is a boat."]
    assert f'"id": "{name}"' in (book / "lost-edits.jsonl").read_text()


def test_less_than_was_there_is_written_only_when_somebody_says_so(book, editor, monkeypatch, capsys):
    journal = book / "journal.jsonl"
    data = journal.read_bytes()
    at = data.index(b"a kettle") + 20
    journal.write_bytes(data[:at] + b"#" * 300 + data[at + 300 :])
    *_, name = editor.edits
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, told = call(capsys, "codebook", "repair", book)
    assert code == 1
    assert f"the edit '{name}'" in told
    assert "--yes" in told
    asked = []
    monkeypatch.setattr(confirm.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("reasonedit.commands.repair.confirm", lambda question: bool(asked.append(question)))
    code, told = call(capsys, "codebook", "repair", book)
    assert (code, told.splitlines()[-1]) == (1, "nothing was repaired")
    assert "The damaged folder is kept beside it" in asked[0]
    assert not list(book.parent.glob("*damaged*"))
    code, told = call(capsys, "codebook", "repair", book, "--yes")
    assert code == 0, told
    assert len(opened(book).edits) == 1
    assert len(list(book.parent.glob("book.damaged-*"))) == 1


def test_what_is_printed_of_a_damaged_codebook_reaches_no_terminal_as_a_command(book, capsys):
    data = (book / "journal.jsonl").read_bytes()
    (book / "journal.jsonl").write_bytes(data.replace(b"What is number 2?", b"\\u001b]0;title\\u0007?"))
    code, told = call(capsys, "codebook", "verify", book)
    assert code == 1
    assert "\\x1b]0;title\\x07?" in told
    assert "\x1b" not in told


def test_an_edit_that_contradicted_a_lost_one_is_shown_and_checked(book, editor, capsys):
    first = next(iter(editor.edits))
    second = editor.edit(picture(0), "What is number 0?", answer="a canoe", reasoning="It is a canoe.")
    assert editor.edits[second.id].contradicts == [first]
    data = (book / "journal.jsonl").read_bytes()
    at = data.index(b"a boat") + 20
    (book / "journal.jsonl").write_bytes(data[:at] + b"#" * 300 + data[at + 300 :])
    assert call(capsys, "codebook", "repair", book, "--yes", "--no-embed")[0] == 0
    code, told = call(capsys, "codebook", "show", book, second.id)
    assert (code, f"against:   {first} (it is lost)" in told) == (0, True), told
    assert ReasonEditor.load(book, editor.vlm).check_edit(second.id).contradicts == []
