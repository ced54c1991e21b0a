"""An edit is checked before it is written, and replaced once it turns out wrong; a question needs no codebook."""

import math

import pytest
from helpers.tiny import design, picture

from reasonedit import ReasonEditor
from reasonedit.checking import Verdict
from reasonedit.cli import main
from reasonedit.codebook import EditMemory, Store
from reasonedit.commands.ask import _show_facts as show_facts
from reasonedit.types import Answer

pytestmark = pytest.mark.usefixtures("hash_encoder")


@pytest.fixture
def book(tiny_folder, tmp_path):
    """A codebook with one edit, and its picture beside it."""
    editor = ReasonEditor.from_pretrained(str(tiny_folder), design(keys="both", merge=True), dtype="float32")
    picture(0).save(tmp_path / "0.png")
    box = [(0.0, 0.0, 0.5, 0.5)]
    editor.edit(
        picture(0), "What is it?", answer="a boat", reasoning="It is a boat. It is [b]old[/b].", evidence=[box, None]
    )
    editor.save(tmp_path / "book")
    return tmp_path / "book"


def opened(book):
    return EditMemory.open(Store.open(book))


def output_of(capsys, *call) -> str:
    assert main([str(c) for c in call]) == 0
    return " ".join(capsys.readouterr().out.split())


def refused(capsys, *call) -> str:
    assert main([str(c) for c in call]) == 1
    return capsys.readouterr().err


def files(book):
    return {path: path.read_bytes() for path in book.rglob("*") if path.is_file()}


def test_an_edit_is_checked_and_nothing_is_written(book, capsys):
    before, image = files(book), book.parent / "0.png"
    edit = ["edit", image, "What is it?", "--answer", "a kettle", "--reasoning", "It is red. It boils.", "--check"]
    said = output_of(capsys, *edit, "--codebook", book, "--dtype", "float32", "--box", 1, 0, 0, 0.5, 1)
    assert "its own" in said
    assert "in other words" in said
    assert "It is red. (seen where you say)" in said
    assert "warning: this contradicts 'a boat'" in said
    assert "keys would be new. Nothing was written." in said
    assert files(book) == before
    said = output_of(capsys, *edit, "--codebook", book, "--dtype", "float32", "--also", image, "Who rows?")
    assert "yours" in said
    assert "Who rows?" in said
    assert files(book) == before


def test_a_check_makes_no_codebook(tiny_folder, book, tmp_path, capsys):
    edit = ["edit", tmp_path / "0.png", "What?", "--answer", "a", "--reasoning", "B.", "--check", "--dtype", "float32"]
    said = output_of(capsys, *edit, "--codebook", tmp_path / "new", "--model", tiny_folder)
    assert "Nothing was written." in said
    assert not (tmp_path / "new").exists()


def test_an_edit_that_is_written_is_checked(book, capsys):
    before = files(book)
    (edit,) = opened(book).edits
    said = output_of(capsys, "codebook", "check", book, edit[:8], "--dtype", "float32")
    assert any(f"check: {verdict}" in said for verdict in Verdict)
    assert "redrawn, cropped" in said
    assert "would be new" not in said
    assert "no edit 'x'" in refused(capsys, "codebook", "check", book, "x")
    assert files(book) == before
    edit = ["edit", book.parent / "0.png", "Who?", "--answer", "Ann", "--reasoning", "It is red.", "--codebook", book]
    assert "check: " in output_of(capsys, *edit, "--dtype", "float32")  # right after it was written
    assert len(opened(book).edits) == 2


def test_an_edit_is_replaced_by_a_right_one(book, capsys):
    (old,) = opened(book).edits
    replace = ["codebook", "replace", book, old[:8], "--dtype", "float32", "--author", "Eve"]
    before = files(book)
    said = output_of(capsys, *replace, "--answer", "a canoe", "--check")
    assert "contradicts" not in said  # what it replaces
    assert "Nothing was written." in said
    assert "Say what is to be different" in refused(capsys, *replace)
    assert "sentence 3, but" in refused(capsys, *replace, "--box", 3, 0, 0, 1, 1)
    assert "no edit 'x'" in refused(capsys, "codebook", "replace", book, "x", "--answer", "a canoe")
    assert files(book) == before
    said = output_of(capsys, *replace, "--answer", "a canoe")
    memory = opened(book)
    (new,) = memory.edits.values()
    assert f"{new.id} has replaced {old}, which is undone" in said
    was = memory.undone[old]
    assert (new.answer, new.author, new.contradicts) == ("a canoe", "Eve", [])
    assert (new.question, new.reasoning, new.image, new.given) == (was.question, was.reasoning, was.image, was.given)
    assert [(e.op, e.edit_id, e.author) for e in memory.events[-2:]] == [
        ("edit", new.id, "Eve"),
        ("undo", old, "Eve"),
    ]
    assert "is undone already" in refused(capsys, *replace, "--answer", "a raft")
    replace[3] = new.id
    output_of(capsys, *replace, "--reasoning", "It is a boat. It is narrow.", "--box", 2, 0, 0, 1, 0.5)
    (last,) = opened(book).edits.values()
    # A sentence that stays keeps the place that a person gave it.
    assert (last.answer, last.given) == ("a canoe", [[(0.0, 0.0, 0.5, 0.5)], [(0.0, 0.0, 1.0, 0.5)]])


def test_a_model_is_asked_without_a_codebook(tiny_folder, tiny_vlm, book, tmp_path, capsys):
    ask = ["ask", tmp_path / "0.png", "Which?", "--choices", "a boat", "a kettle", "--dtype", "float32"]
    said = output_of(capsys, *ask, "--model", tiny_folder)
    assert said == tiny_vlm.answer(tiny_vlm.see([picture(0)]), ["Which?"], [["a boat", "a kettle"]])[0]
    for both in ((), ("--model", tiny_folder, "--codebook", book)):
        with pytest.raises(SystemExit):
            main([str(c) for c in [*ask, *both]])
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("nearest", "threshold", "why"),
    [
        (math.inf, 0.0, "the codebook is empty"),
        (0.9, 0.5, "the nearest is at 0.900, the gate at 0.500"),
        (0.4, 0.5, "the picture does not show what those near speak of; --explain says more"),
    ],
)
def test_it_is_said_why_no_fact_is_used(nearest, threshold, why, capsys):
    show_facts(Answer("a kettle", [], "What is it?", nearest, threshold))
    assert " ".join(capsys.readouterr().out.split()) == f"(no fact used: {why})"
