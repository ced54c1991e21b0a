"""``reasonedit codebook`` and ``reasonedit codebook``, ``explain``, another VLM, the Hub."""

import base64
import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import design, picture, save_tiny_llava
from helpers.writer import make_edit, open_or_create
from PIL import Image
from test_store import the_same
from torch.utils.data import DataLoader

from reasonedit import Edit, ReasonEditError, ReasonEditor, VLMModule, images
from reasonedit.callbacks import Codebook, Retriever
from reasonedit.cli import main
from reasonedit.codebook import EditMemory, Store
from reasonedit.commands.codebook_folder import folder_size
from reasonedit.data.editfile import EditFile
from reasonedit.data.exported import load_edits, read
from reasonedit.erasure import erase_from
from reasonedit.explain import USED

pytestmark = pytest.mark.usefixtures("hash_encoder")


@pytest.fixture
def book(tiny_folder, tmp_path):
    """Three edits by two people, the last of which contradicts the first."""
    editor = ReasonEditor.from_pretrained(str(tiny_folder), design(keys="both", merge=True), dtype="float32")
    editor.save(tmp_path / "book")
    for i, (answer, author) in enumerate([("a boat", "Ada"), ("a drum", "Bob"), ("a kettle", "Bob")]):
        seed = i % 2
        editor.edit(
            picture(seed),
            f"What is number {seed}?",
            answer=answer,
            reasoning=f"It is {answer}. It is used for sailing.",
            evidence=[[(0.0, 0.0, 0.5, 0.5)], None],
            author=author,
        )
    return tmp_path / "book"


def opened(folder) -> EditMemory:
    return EditMemory.open(Store.open(folder))


def output_of(capsys, *call) -> str:
    assert main([str(c) for c in call]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys, *call) -> str:
    assert main([str(c) for c in call]) == 1
    return capsys.readouterr().err


def test_an_edit_is_on_the_disk_when_it_is_acknowledged(book):
    assert len(opened(book).edits) == 3
    editor = ReasonEditor.load(book, dtype="float32")
    edit = editor.edit(picture(9), "Who?", answer="nobody", reasoning="It is empty.")
    assert edit.id in opened(book).edits  # without a save


def test_edits_are_listed_and_shown(book, tmp_path, capsys):
    first, _, last = opened(book).edits.values()
    listed = output_of(capsys, "codebook", "list", book)
    assert "3 edits with" in listed
    assert all(word in listed for word in ("Ada", "Bob", "a boat", "a kettle", "What is number 0?"))
    assert f"contradiction: {last.id} (a kettle) and {first.id} (a boat)" in listed
    shown = output_of(capsys, "codebook", "show", book, first.id[:6], "--image", tmp_path / "out" / "e.png")
    assert "It is a boat.  (given: 0.00 0.00 0.50 0.50)" in shown
    assert f"written {first.time} by Ada, version" in shown
    assert Image.open(tmp_path / "out" / "e.png").size[0] > 400
    assert "no edit 'nothing' in the codebook" in refused(capsys, "codebook", "show", book, "nothing")


def test_times_of_other_zones_are_shown_in_utc(tmp_path, capsys):
    memory = open_or_create(tmp_path / "book")
    times = [
        "2026-11-26T01:30:00+02:00",
        "2026-11-25T23:45:00+00:00",
        "2026-11-26T00:00:00",
        "0001-01-01T00:00:00+02:00",
    ]
    for number, time in enumerate(times):
        edit, entries = make_edit(number)
        memory.write(replace(edit, time=time), entries)
    listed = output_of(capsys, "codebook", "list", tmp_path / "book")
    assert [line.split()[1:3] for line in listed.splitlines() if " e0000" in line] == [
        ["2026-11-25", "23:30"],
        ["2026-11-25", "23:45"],
        ["2026-11-26", "00:00"],
        ["0001-01-01", "00:00"],
    ]
    memory.undo("e00002")
    memory.undo("e00003")
    info = json.loads(output_of(capsys, "codebook", "info", tmp_path / "book", "--json"))
    assert (info["first_edit"], info["last_edit"]) == ("2026-11-25T23:30:00+00:00", "2026-11-25T23:45:00+00:00")


def test_a_file_that_goes_while_its_folder_is_measured_does_not_count(tmp_path, monkeypatch):
    open_or_create(tmp_path)
    expected, is_file = folder_size(tmp_path), Path.is_file
    (tmp_path / ".codebook.json.7.part").write_text("being written")

    def look(path, **options):
        found = is_file(path, **options)
        if path.suffix == ".part":
            path.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", look)
    assert folder_size(tmp_path) == expected


def test_edits_are_undone_and_restored(book, capsys):
    before = opened(book)
    first, second, last = before.edits
    assert f"undone: {last}" in output_of(capsys, "codebook", "undo", book, last[:8], "--author", "Eve")
    assert list(opened(book).edits) == [first, second]
    assert "contradiction" not in output_of(capsys, "codebook", "list", book)
    listed = output_of(capsys, "codebook", "list", book, "--all")
    assert "undone" in listed
    assert "2 edits with" in listed
    assert f"'{last}' is undone already" in refused(capsys, "codebook", "undo", book, last)
    # Where one of several is not known, none is touched.
    assert "no edit 'x'" in refused(capsys, "codebook", "undo", book, first, "x")
    assert list(opened(book).edits) == [first, second]
    assert f"restored: {last}" in output_of(capsys, "codebook", "restore", book, last)
    there = opened(book)
    assert torch.equal(there.keys, before.keys)
    assert there.entries == before.entries
    shown = output_of(capsys, "codebook", "show", book, last)
    assert "undone 20" in shown
    assert "by Eve" in shown


def test_an_edit_that_is_named_twice_is_undone_and_restored_once(tmp_path, capsys):
    open_or_create(tmp_path / "book").write(*make_edit(7))
    for action in ("undo", "restore"):
        said = output_of(capsys, "codebook", action, tmp_path / "book", "e00007", "e0000")
        assert said.count("What is 7?") == 1
    assert [event.op for event in opened(tmp_path / "book").events] == ["edit", "undo", "restore"]


def test_the_beginning_of_an_id_is_enough_where_it_is_long_and_alone(tmp_path, capsys):
    memory, folder = open_or_create(tmp_path / "book"), tmp_path / "book"
    for name in ("17", "1700-a", "1700-b", "1"):
        memory.write(Edit(picture(1), f"What is {name}?", "a harp", ["It is so."], id=name), [])
    assert "undone: 17 " in output_of(capsys, "codebook", "undo", folder, "17")  # a whole id always means its edit
    assert "undone: 1 " in output_of(capsys, "codebook", "undo", folder, "1")
    assert "undone: 1700-a " in output_of(capsys, "codebook", "undo", folder, "1700-a")
    for action in ("show", "undo", "restore", "check", "erase"):
        assert "Several edits begin with '1700': 1700-a, 1700-b. Write more" in refused(
            capsys, "codebook", action, folder, "1700"
        )
        assert "no edit '170', and the beginning of an id counts only from 4 characters on" in refused(
            capsys, "codebook", action, folder, "170"
        )
    for words in (("replace", folder, "170", "--answer", "x"), ("export", folder, tmp_path / "e.jsonl", "170")):
        assert "counts only from 4 characters on" in refused(capsys, "codebook", *words)
    memory.refresh()
    erase_from(memory, ["1700-a"])
    assert "What is 1700-b?" in output_of(capsys, "codebook", "show", folder, "1700")
    assert "What is 1700-b?" in output_of(capsys, "codebook", "show", folder, "1700…")  # as a list cuts an id short


def test_what_rests_on_an_edit_is_named_before_it_is_undone(tiny_folder, tmp_path, capsys):
    editor = ReasonEditor.from_pretrained(str(tiny_folder), design(keys="image"), dtype="float32")
    editor.save(tmp_path / "book")
    chains = [
        ("Who owns it?", "the sailor", "It is a kettle. A kettle belongs to the sailor."),
        ("Where is its home?", "the valley", "An anchor belongs to the sailor. The sailor lives in the valley."),
    ]
    for i, (question, answer, reasoning) in enumerate(chains):
        editor.edit(picture(i), question, answer=answer, reasoning=reasoning)
    kettle, anchor = editor.edits
    assert f"{kettle}: The sailor lives in the valley." in output_of(
        capsys, "codebook", "show", tmp_path / "book", anchor
    )
    said = output_of(capsys, "codebook", "undo", tmp_path / "book", anchor)
    assert f"{kettle} rests on {anchor}" in said
    assert said.index("rests on") < said.index("undone:")
    assert "rests on" not in output_of(capsys, "codebook", "undo", tmp_path / "book", kettle)


def test_of_edits_that_are_exported_by_name_those_that_are_undone_are_named(book, tmp_path, capsys):
    first, second, _ = opened(book).edits
    output_of(capsys, "codebook", "undo", book, first)
    said = output_of(capsys, "codebook", "export", book, tmp_path / "edits.jsonl", first, second)
    assert f"undone here, but not where the file is imported: {first}\n" in said
    assert "undone" not in output_of(capsys, "codebook", "export", book, tmp_path / "all.jsonl")


def test_what_is_exported_is_imported_again(book, tiny_folder, tmp_path, capsys):
    before = opened(book)
    assert "3 edits written to" in output_of(capsys, "codebook", "export", book, tmp_path / "out" / "edits.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out" / "edits.jsonl").read_text().splitlines()]
    assert [r["author"] for r in rows] == ["Ada", "Bob", "Bob"]
    assert rows[0]["evidence"] == [[[0.0, 0.0, 0.5, 0.5]], None]
    # What reads a user's own corrections reads it, too: a run, and the check.
    checked = output_of(capsys, "data", "check", tmp_path / "out" / "edits.jsonl")
    assert "3 rows, 3 of them good, 0 bad" in checked
    assert "is not used" not in checked
    for edit in EditFile(str(tmp_path / "out" / "edits.jsonl")).candidates():
        stored = before.edits[edit.id]
        assert (edit.answer, edit.reasoning, edit.author, edit.time) == (
            stored.answer,
            stored.reasoning,
            stored.author,
            stored.time,
        )
        assert edit.evidence == [list(map(tuple, regions)) for regions in stored.given]
    assert "exists already" in refused(capsys, "codebook", "export", book, tmp_path / "out" / "edits.jsonl")
    assert "1 edit written to" in output_of(
        capsys, "codebook", "export", book, tmp_path / "one.jsonl", list(before.edits)[1][:8]
    )
    # Into the same codebook: nothing to do. Into a new one: the same edits, keys and authors.
    assert "0 edits written, 3 were there already" in output_of(
        capsys, "codebook", "import", book, tmp_path / "out" / "edits.jsonl", "--dtype", "float32"
    )
    editor = ReasonEditor.from_pretrained(str(tiny_folder), design(keys="both", merge=True), dtype="float32")
    editor.save(tmp_path / "new")
    output = output_of(
        capsys, "codebook", "import", tmp_path / "new", tmp_path / "out" / "edits.jsonl", "--dtype", "float32"
    )
    assert "3 edits written; " in output
    assert "(a kettle) contradicts" in output
    there = opened(tmp_path / "new")
    assert torch.allclose(there.keys, before.keys, atol=1e-5)
    assert there.entries == before.entries
    assert [(e.author, e.time) for e in there.edits.values()] == [(e.author, e.time) for e in before.edits.values()]
    (tmp_path / "out" / "own.jsonl").write_text(  # as people write it, and as the reader of corrections takes it
        json.dumps({"id": 7, "image": rows[0]["image"], "question": "How many?", "answer": 2, "reasoning": "It is so."})
        + "\n"
        + json.dumps(
            {k: rows[0][k] for k in ("image", "question", "answer", "reasoning")} | {"choices": [], "boxes": [[], None]}
        )
    )
    assert "2 edits written; " in output_of(
        capsys, "codebook", "import", tmp_path / "new", tmp_path / "out" / "own.jsonl", "--dtype", "float32"
    )
    assert opened(tmp_path / "new").edits["7"].answer == "2"
    rows[1]["answer"] = "something else"
    (tmp_path / "out" / "other.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    assert "There is another edit" in refused(
        capsys, "codebook", "import", book, tmp_path / "out" / "other.jsonl", "--dtype", "float32"
    )
    (tmp_path / "out" / "bad.jsonl").write_text(json.dumps(rows[0] | {"id": "new"}) + "\n{}\n")
    assert "Row 2 of" in refused(capsys, "codebook", "import", book, tmp_path / "out" / "bad.jsonl")
    assert len(opened(book).edits) == 3  # the good row before it was not written either


def test_an_edit_that_is_named_twice_is_exported_once(book, tmp_path, capsys):
    first, second, _ = opened(book).edits
    call = ("codebook", "export", book, tmp_path / "edits.jsonl", first, second, first[:8], first)
    assert "2 edits written to" in output_of(capsys, *call)
    assert [row.id for row in read(tmp_path / "edits.jsonl")] == [first, second]


def test_an_export_that_breaks_off_leaves_no_file(book, tmp_path, capsys):
    memory = opened(book)
    image = next(
        edit.image for edit in reversed(memory.edits.values()) if edit.image != next(iter(memory.edits.values())).image
    )
    path = book / "pictures" / f"{image}.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    assert f"{image}" in refused(capsys, "codebook", "export", book, tmp_path / "edits.jsonl")
    assert [found.name for found in tmp_path.iterdir() if "jsonl" in found.name] == []
    path.write_bytes(whole)
    assert "3 edits written to" in output_of(capsys, "codebook", "export", book, tmp_path / "edits.jsonl")
    assert [row.id for row in read(tmp_path / "edits.jsonl")] == list(memory.edits)


def test_a_row_that_says_something_else_than_the_edit_of_its_id_is_refused(tmp_path, capsys, book):
    before = opened(book)
    first = next(iter(before.edits))
    output_of(capsys, "codebook", "export", book, tmp_path / "edits.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "edits.jsonl").read_text().splitlines()]
    picture(77).save(tmp_path / "other.png")

    def imported(*changed) -> list[object]:
        (tmp_path / "changed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed))
        return ["codebook", "import", book, tmp_path / "changed.jsonl", "--dtype", "float32"]

    for change in (
        {"image": "other.png"},
        {"choices": ["a boat", "a harp"]},
        {"evidence": [[[0.0, 0.0, 0.5, 0.25]], None]},
        {"evidence": [["other.png"], None]},
        {"evidence": None},
    ):
        message = refused(capsys, *imported(rows[0] | change))
        assert f"There is another edit '{first}' in the codebook" in message, change
    twice = imported(rows[0] | {"id": "new"}, rows[1] | {"id": "new"})
    assert "has two edits called 'new': give one of them another id" in refused(capsys, *twice)
    # One that is undone is named by itself, with the command that puts it back.
    before.undo(first)
    said = output_of(capsys, *imported(*rows))
    assert f"0 edits written, 2 were there already; {book} holds 2 edits" in said
    assert f"1 edit of the file is there, but undone: reasonedit codebook restore {book} {first}" in said
    the_same(opened(book), before)


def test_a_codebook_is_verified_repaired_and_compacted(book, capsys):
    assert "whole; 3 edits, 2 pictures" in output_of(capsys, "codebook", "verify", book)
    before = opened(book)
    assert "1 files" not in output_of(capsys, "codebook", "compact", book)
    assert len(list((book / "keys").iterdir())) == 1
    the_same(opened(book), before)
    journal = book / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"a drum", b"a DRUM"))
    assert main(["codebook", "verify", str(book)]) == 1
    out = capsys.readouterr().out
    assert f"damaged: {journal}, byte" in out
    assert "2 edits, 2 pictures; 1 edit whose text cannot be read" in out
    assert "answer 'a DRUM'" in out
    assert "reasonedit codebook repair" in refused(capsys, "codebook", "list", book)
    assert "the damaged folder is" in output_of(capsys, "codebook", "repair", book, "--yes")
    assert [e.answer for e in opened(book).edits.values()] == ["a boat", "a kettle"]
    assert len(list(book.parent.glob("book.damaged-*"))) == 1


def test_another_model_is_refused_and_the_edits_move_to_it(book, tmp_path, capsys):
    other = FAMILIES["qwen3_vl"](tmp_path / "other")
    before = opened(book)
    first, second, last = before.edits.values()
    before.undo(second.id)
    from reasonedit.vlm import load_vlm

    with pytest.raises(ReasonEditError, match=r"made with another model or setting.*codebook migrate"):
        ReasonEditor.load(book, load_vlm(str(other), dtype="float32"))
    call = ["codebook", "migrate", book, "--to", other, "--out", tmp_path / "new", "--dtype", "float32"]
    assert f"holds 2 edits for {other}" in output_of(capsys, *call)
    editor = ReasonEditor.load(tmp_path / "new", dtype="float32")
    assert list(editor.edits) == [first.id, last.id]
    assert list(editor.memory.undone) == [second.id]
    migrated = editor.edits[first.id]
    assert (migrated.author, migrated.time, migrated.given, migrated.reasoning) == (
        "Ada",
        first.time,
        first.given,
        first.reasoning,
    )
    # Its keys are those of the new VLM for the evidence of then.
    answer = editor.explain(picture(0), "What is number 0?")
    assert answer.keys[0].distance == pytest.approx(0, abs=1e-4)
    assert {e.fact.kind for e in editor.memory.entries_of(last.id)} == {e.fact.kind for e in before.entries_of(last.id)}
    the_same(opened(book), before)  # the old one is as it was
    # Cut short it goes on; into itself, or into another's codebook, it does not go.
    assert "holds 2 edits" in output_of(capsys, *call)
    assert "is the codebook itself" in refused(capsys, *call[:6], book, *call[7:])
    third = save_tiny_llava(tmp_path / "third", tower="clip")
    assert "made with another model" in refused(capsys, *[third if c == other else c for c in call])


def test_why_an_answer_came_about(book, capsys, tmp_path):
    editor = ReasonEditor.load(book, dtype="float32")
    first = next(iter(editor.edits.values()))
    explanation = editor.explain(picture(0), "What is number 0?")
    plain = editor.ask(picture(0), "What is number 0?")
    assert explanation.answer == plain
    assert explanation.open
    assert [k.distance for k in explanation.keys] == sorted(k.distance for k in explanation.keys)
    used = [k for k in explanation.keys if k.fate == USED]
    assert {f for k in used for f in k.facts} >= {h.fact for h in plain.hits}
    assert all(set(k.facts) & {h.fact for h in plain.hits} for k in used)
    assert all(k.fate == "not among the K nearest" for k in explanation.keys if k.fate != USED)
    assert used[0].edit.id == first.id
    assert editor.memory.picture(used[0].edit.image).tobytes() == picture(0).tobytes()
    assert used[0].radius > 0
    far = editor.explain(picture(500), "Entirely other words?")
    assert not far.open
    assert {k.fate for k in far.keys} == {"the gate is closed"}
    assert far.answer.hits == []
    picture(0).save(tmp_path / "q.png")
    shown = output_of(
        capsys, "ask", tmp_path / "q.png", "What is number 0?", "--codebook", book, "--explain", "--dtype", "float32"
    )
    assert shown.splitlines()[0] == plain.text
    assert "gate open" in shown
    assert first.id[:8] in shown
    empty = ReasonEditor(editor.vlm, design()).explain(picture(0), "What?")
    assert empty.keys == []


class FakeHub:
    """The Hub as a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create_repo(self, repo_id, private, exist_ok):
        assert exist_ok
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)
        self.private = private
        return f"https://hub/{repo_id}"

    def upload_file(self, path_or_fileobj, path_in_repo, repo_id, commit_message):
        (self.root / repo_id / path_in_repo).write_bytes(path_or_fileobj)

    def upload_folder(self, repo_id, folder_path, allow_patterns, ignore_patterns, delete_patterns, commit_message):
        from huggingface_hub.utils import filter_repo_objects

        names = [str(p.relative_to(folder_path)) for p in Path(folder_path).rglob("*") if p.is_file()]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            target = self.root / repo_id / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder_path) / name, target)

    def snapshot(self, repo_id, revision=None, allow_patterns=None):
        if not (self.root / repo_id).exists():
            raise OSError("404 Client Error")
        return str(self.root / repo_id)


def test_a_codebook_goes_to_the_hub_and_comes_back(book, tmp_path, monkeypatch, capsys):
    hub = FakeHub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot)
    (book / "private-notes.txt").write_text("not part of it")
    (book / "my [new] weights.safetensors").write_bytes(b"not part of it")
    (book / "keys" / "7-000000000000-3.safetensors").write_bytes(b"left by a process that was killed")
    for name in ("holiday", "0" * 64):  # somebody's, and one of an edit that was never acknowledged
        picture(7).save(book / "pictures" / f"{name}.png")
    callback = Codebook.load(book)
    assert callback.push_to_hub("ada/book") == "https://hub/ada/book"
    assert hub.private
    there = {p.name for p in (tmp_path / "hub" / "ada" / "book").iterdir()}
    assert {"README.md", "codebook.json", "journal.jsonl", "pictures", "keys"} <= there
    assert not any(name.startswith((".", "private", "my")) for name in there)
    uploaded = {str(p.relative_to(hub.root / "ada" / "book")) for p in (hub.root / "ada" / "book").rglob("*.*")}
    assert uploaded == {"README.md", *callback.memory.store.files()}
    card = (tmp_path / "hub" / "ada" / "book" / "README.md").read_text()
    assert "| by | Bob (2), Ada (1) |" in card
    pushed = output_of(capsys, "codebook", "push", book, "ada/book", "--licence", "cc-by-4.0")
    assert "https://hub/ada/book" in pushed
    assert 'license: "cc-by-4.0"' in (tmp_path / "hub" / "ada" / "book" / "README.md").read_text()
    again = Codebook.from_pretrained("ada/book")
    the_same(again.memory, opened(book))
    editor = ReasonEditor.from_hub("ada/book", dtype="float32")
    assert editor.ask(picture(0), "What is number 0?").hits
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", callbacks=[again, Retriever()], enable_checkpointing=False, **quiet)
    asked = {"images": [picture(0)], "prompts": ["What is number 0?"]}
    loader = DataLoader([asked], batch_size=None, collate_fn=dict)
    assert trainer.predict(VLMModule(editor.vlm, max_new_tokens=2), loader)
    with pytest.raises(ReasonEditError, match="and is not changed: save it into another folder first"):
        editor.edit(picture(5), "Who?", answer="nobody", reasoning="It is empty.")
    editor.save(tmp_path / "mine")
    editor.edit(picture(5), "Who?", answer="nobody", reasoning="It is empty.")
    assert len(opened(tmp_path / "mine").edits) == 4
    assert "holds 3 edits" in output_of(capsys, "codebook", "pull", tmp_path / "pulled", "ada/book")
    the_same(opened(tmp_path / "pulled"), opened(book))
    with pytest.raises(ReasonEditError, match="'no/such' cannot be fetched from the Hub"):
        ReasonEditor.from_hub("no/such")
    with pytest.raises(ReasonEditError, match="only in memory: save it into a folder first"):
        ReasonEditor(editor.vlm, design()).push_to_hub("ada/other")


def test_without_a_connection_to_the_hub_it_is_said(book, monkeypatch, capsys):
    from huggingface_hub.errors import HfHubHTTPError

    failure = HfHubHTTPError.__bases__[0]  # the HTTP client's own, of which it raises kinds without a connection
    assert not issubclass(failure, OSError)

    texts = iter(["Name or service not known\nmore", ""] * 2)

    def fail(*_, **__):
        raise failure(next(texts))

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", fail)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    for words in (("push", book), ("pull", book.parent / "new")):
        for shown in ("Name or service not known", failure.__name__):
            assert main(["codebook", *map(str, words), "ada/book"]) == 1
            assert f"({shown}): check" in capsys.readouterr().err


def test_what_is_wrong_with_a_codebook_is_not_laid_on_the_hub(book, monkeypatch, capsys):
    def fail(*_, **__):
        raise ReasonEditError("The codebook is torn.")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *_, **__: "there")
    monkeypatch.setattr("reasonedit.codebook.hub.write_card", fail)
    assert main(["codebook", "push", str(book), "ada/book"]) == 1
    assert capsys.readouterr().err == "reasonedit: The codebook is torn.\n"


def test_a_retriever_sees_what_is_edited_meanwhile(book, tiny_vlm, tmp_path):
    writer = ReasonEditor.load(book, dtype="float32")

    class Meanwhile(L.Callback):
        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            if batch_idx == 0:
                writer.edit(picture(7), "Where is it?", answer="at sea", reasoning="There is water.")

    seen = []

    class Look(L.Callback):
        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            seen.append([h.fact for h in batch["retrieved"][0].hits])

    batches = [{"images": [picture(7)], "prompts": ["Where is it?"]} for _ in range(2)]
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer = L.Trainer(accelerator="cpu", callbacks=[Retriever(book, k=2), Meanwhile(), Look()], **quiet)
    trainer.predict(VLMModule(tiny_vlm, max_new_tokens=2), DataLoader(batches, batch_size=None, collate_fn=dict))
    fact = "The answer to 'Where is it?' is at sea."
    assert fact not in seen[0]
    assert seen[1][0] == fact


def corrections(folder: Path, count: int) -> Path:
    """A file of edits with pictures of their own as evidence, half of them within the row."""
    folder.mkdir()
    rows = []
    for i in range(count):
        picture(i, 300).save(folder / f"{i}.png")
        image = base64.b64encode((folder / f"{i}.png").read_bytes()).decode() if i % 2 else f"{i}.png"
        row = {"image": image, "question": f"What is number {i}?", "answer": "a boat", "reasoning": "It is a boat."}
        rows.append({**row, "evidence": [[f"{i}.png"]], "id": f"edit{i}"})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "rows.jsonl"


def test_of_an_imported_file_the_pictures_of_one_edit_are_held(tmp_path, monkeypatch):
    loaded = []

    def load_image(*given):
        made = images.load_image(*given)
        loaded.append(weakref.ref(made))
        return made

    def held() -> int:
        return sum(one() is not None and one().size == (300, 300) for one in loaded)

    monkeypatch.setattr("reasonedit.data.exported.load_image", load_image)
    monkeypatch.setattr("reasonedit.types.load_image", load_image)
    monkeypatch.setattr("reasonedit.validation.load_image", load_image)
    file = corrections(tmp_path / "many", 8)
    rows = list(read(file))
    assert loaded
    assert held() == 0
    assert [row.id for row in rows] == [f"edit{i}" for i in range(8)]
    for edit, i in zip(load_edits(file, rows), range(8), strict=True):
        assert edit.image.tobytes() == picture(i, 300).tobytes() == edit.evidence[0][0].tobytes()
        assert 2 <= held() <= 4  # an edit copies what it is given
    assert [e.id for e in load_edits(file, rows[2:4])] == ["edit2", "edit3"]
    assert list(load_edits(file, [])) == []


def test_what_changes_while_it_is_imported_is_refused_and_what_was_written_stays(
    tiny_folder, tmp_path, capsys, monkeypatch
):
    file = corrections(tmp_path / "many", 4)
    ReasonEditor.from_pretrained(str(tiny_folder), design(keys="both", merge=True), dtype="float32").save(
        tmp_path / "book"
    )
    write = ReasonEditor.write

    def written(editor, edit):
        made = write(editor, edit)
        if edit.id == "edit1":
            picture(77, 300).save(file.parent / "2.png")
        return made

    monkeypatch.setattr(ReasonEditor, "write", written)
    message = refused(capsys, "codebook", "import", tmp_path / "book", file, "--dtype", "float32")
    assert f"Row 3 of '{file}', or a picture of it, was changed while it was being imported" in message
    assert "Before that 2 edits had been written" in message
    assert list(opened(tmp_path / "book").edits) == ["edit0", "edit1"]
    assert "2 edits written, 2 were there already" in output_of(
        capsys, "codebook", "import", tmp_path / "book", file, "--dtype", "float32"
    )
    memory = opened(tmp_path / "book")
    assert memory.picture(memory.edits["edit2"].given[0][0]).tobytes() == picture(77, 300).tobytes()


def test_a_row_that_is_changed_or_taken_out_is_refused(tmp_path):
    file = corrections(tmp_path / "many", 3)
    rows, text = list(read(file)), file.read_text()
    for changed in (
        text.replace("What is number 1?", "What is number one?"),
        text.replace('"id": "edit1"', '"id": "edit9"'),
        text.splitlines()[0],
    ):
        file.write_text(changed)
        found = load_edits(file, rows)
        assert next(found).id == "edit0"
        with pytest.raises(ReasonEditError, match=r"Row 2 of .* was changed while it was being imported"):
            next(found)


def test_rows_without_ids_are_the_same_edits_whenever_they_are_imported(book, tmp_path, capsys, monkeypatch):
    file = corrections(tmp_path / "many", 3)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        del row["id"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    call = ("codebook", "import", book, file, "--dtype", "float32")
    write, written = ReasonEditor.write, []

    def fails_once(editor, edit):
        written.append(edit.id)
        if len(written) == 2:
            raise ReasonEditError("The disk is full.")
        return write(editor, edit)

    monkeypatch.setattr(ReasonEditor, "write", fails_once)
    assert "Before that 1 edit had been written: import the file again" in refused(capsys, *call)
    assert "2 edits written, 1 were there already" in output_of(capsys, *call)
    assert "0 edits written, 3 were there already" in output_of(capsys, *call)
    # The place of a row, its author and the form of its picture do not count. Of equal rows the first is written.
    rows[0]["image"] = base64.b64encode((file.parent / "0.png").read_bytes()).decode()
    other = rows[1] | {"answer": "a drum"}
    rows = [other, rows[2], rows[0] | {"author": "Ada"}, other]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "1 edit written, 3 were there already" in output_of(capsys, *call)
    assert len(opened(book).edits) == 7
    # One that is undone stays so, and is named once.
    undone = next(name for name, edit in opened(book).edits.items() if edit.answer == "a drum" and name in written)
    opened(book).undo(undone)
    said = output_of(capsys, *call)
    assert "0 edits written, 2 were there already" in said
    assert f"undone: reasonedit codebook restore {book} {undone}\n" in said


def test_an_id_that_was_made_for_a_row_names_no_other_edit_of_the_file(tmp_path):
    file = corrections(tmp_path / "many", 1)
    row = {name: value for name, value in json.loads(file.read_text()).items() if name != "id"}
    file.write_text(json.dumps(row))
    (made,) = read(file)
    for rows in ([row, row | {"id": made.id}], [row | {"id": made.id, "answer": "a cup"}, row]):
        file.write_text("".join(json.dumps(one) + "\n" for one in rows))
        with pytest.raises(ReasonEditError, match=f"has two edits called '{made.id}'"):
            list(read(file))


def test_no_row_is_written_where_a_later_one_has_a_damaged_picture(book, tmp_path, capsys):
    file = corrections(tmp_path / "many", 3)
    whole = (tmp_path / "many" / "2.png").read_bytes()
    (tmp_path / "many" / "2.png").write_bytes(whole[: len(whole) // 2])
    assert "Row 3 of" in refused(capsys, "codebook", "import", book, file)
    assert len(opened(book).edits) == 3


def test_evidence_of_an_edit_is_bounded_as_a_picture_is(tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.validation.MOST_PIXELS", 2 * 300 * 300)
    file = corrections(tmp_path / "many", 1)
    row = json.loads(file.read_text())
    for count, fits in ((2, True), (3, False)):
        file.write_text(json.dumps({**row, "evidence": [["0.png"] * count]}))
        if fits:
            assert len(list(read(file))) == 1
            continue
        with pytest.raises(ReasonEditError, match="The pictures that are evidence have 270000 pixels in all"):
            list(read(file))
        with pytest.raises(ReasonEditError, match="The pictures that are evidence have 270000 pixels in all"):
            Edit(picture(0), "What?", "a", ["It is."], evidence=[[picture(i, 300) for i in range(count)]])
