"""A codebook for another VLM: it is there whole, or not there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from helpers.tiny import design, picture

from reasonedit import Edit, ReasonEditError, ReasonEditor
from reasonedit.cli import main
from reasonedit.codebook import EditMemory, Store
from reasonedit.codebook.repair import repair
from reasonedit.evidence import EvidenceConfig, EvidenceFinder
from reasonedit.migrate import migrate_codebook
from reasonedit.pipeline import EditingPipeline


@pytest.fixture
def old(tiny_vlm, hash_encoder, tmp_path):
    """Of three edits the second is undone, the third was undone and restored."""
    editor = ReasonEditor(tiny_vlm, design(k=2, keys="image"))
    editor.save(tmp_path / "old")
    ids = []
    for i in range(3):
        edit = editor.edit(picture(i), f"What is {i}?", answer=f"thing {i}", reasoning=[f"It is {i}."], author="Ada")
        ids.append(edit.id)
    editor.undo(ids[1], "Bo")
    editor.undo(ids[2], "Cy")
    editor.restore(ids[2], "Di")
    return editor.memory


def events_of(memory: EditMemory):
    return [(e.op, e.edit_id, e.author, e.time) for e in memory.events]


def interrupt_after(monkeypatch, after: int) -> None:
    embed, calls_left = EditingPipeline._make_draft, [after]

    def embed_or_stop(self, *args):
        calls_left[0] -= 1
        if calls_left[0] < 0:
            raise KeyboardInterrupt
        return embed(self, *args)

    monkeypatch.setattr(EditingPipeline, "_make_draft", embed_or_stop)


def test_cut_short_it_is_not_there_and_goes_on(old, tiny_vlm, tmp_path, monkeypatch):
    other, progress = design(k=2, keys="both"), []
    for after in (0, 1):
        with monkeypatch.context() as patch:
            interrupt_after(patch, after)
            with pytest.raises(KeyboardInterrupt):
                migrate_codebook(old, tiny_vlm, tmp_path / "new", other)
        assert not (tmp_path / "new").exists()
    with monkeypatch.context() as patch:
        patch.setattr(EditMemory, "rewrite", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            migrate_codebook(old, tiny_vlm, tmp_path / "new", other)
    assert not (tmp_path / "new").exists()
    new = migrate_codebook(old, tiny_vlm, tmp_path / "new", other, lambda *done: progress.append(done))
    assert progress == []  # all were embedded before
    assert events_of(new) == events_of(old)
    assert (list(new.edits), list(new.undone)) == (list(old.edits), list(old.undone))
    assert new.store.folder == tmp_path / "new"
    new.undo(next(iter(new.edits)))
    assert len(EditMemory.open(Store.open(tmp_path / "new")).undone) == 2
    assert {p.name for p in tmp_path.iterdir()} == {"old", "new"}


def test_the_same_again_has_nothing_to_do_and_anything_else_is_refused(old, tiny_vlm, tmp_path):
    new_design = design(k=2, keys="both")
    new = migrate_codebook(old, tiny_vlm, tmp_path / "new", new_design)
    assert events_of(migrate_codebook(old, tiny_vlm, tmp_path / "new", new_design)) == events_of(new)
    with pytest.raises(ReasonEditError, match="is the codebook itself"):
        migrate_codebook(old, tiny_vlm, tmp_path / "old", new_design)
    old.restore(next(iter(old.undone)))
    with pytest.raises(ReasonEditError, match=r"a codebook in .* already, of an earlier time"):
        migrate_codebook(old, tiny_vlm, tmp_path / "new", new_design)
    new.undo(next(iter(new.edits)))
    with pytest.raises(ReasonEditError, match="holds what was migrated of another codebook"):
        migrate_codebook(old, tiny_vlm, tmp_path / "new", new_design)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ReasonEditError, match="is not empty"):
        migrate_codebook(old, tiny_vlm, tmp_path / "full", new_design)


def test_a_turn_whose_counterpart_is_lost_does_not_stop_it(old, tiny_vlm, tmp_path):
    """Of the undo and the restore of an edit one record cannot be read any more, and the codebook was repaired."""
    journal = tmp_path / "old" / old.store.manifest.journal_file
    records = journal.read_bytes().splitlines(keepends=True)
    undo = next(i for i, record in enumerate(records) if b'"author": "Cy"' in record)
    journal.write_bytes(b"".join(records[:undo] + records[undo + 1 :]))
    repair(tmp_path / "old", accept_loss=True)
    repaired = EditMemory.open(Store.open(tmp_path / "old"))
    assert [event.op for event in repaired.events] == ["edit", "edit", "edit", "undo", "restore"]
    for part in ("new", "again"):  # the second is cut short, and goes on
        if part == "again":
            interrupted_after_one(repaired, tiny_vlm, tmp_path / part, design(k=2))
        new = migrate_codebook(repaired, tiny_vlm, tmp_path / part, design(k=2))
        assert events_of(new) == events_of(repaired)
        assert (list(new.edits), list(new.undone)) == (list(old.edits), list(old.undone))
    assert events_of(migrate_codebook(repaired, tiny_vlm, tmp_path / "new", design(k=2))) == events_of(repaired)


def interrupted_after_one(memory, vlm, folder, new_design) -> None:
    def stop(done, _):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate_codebook(memory, vlm, folder, new_design, stop)


def edit_of(number: int, answer: str, **more) -> Edit:
    return Edit(picture(number), f"What is {number}?", answer, [f"It is {answer}."], **more)


def test_what_was_corrected_meanwhile_is_not_migrated_as_it_was(tiny_vlm, hash_encoder, tmp_path):
    """The corrected edit has the id, the question and the picture of the erased one."""
    editor = ReasonEditor(tiny_vlm, design(k=2))
    editor.save(tmp_path / "old")
    for number, answer in enumerate(["wrong", "an anchor"]):
        editor.write(edit_of(number, answer, id=f"row {number}"))
    interrupted_after_one(editor.memory, tiny_vlm, tmp_path / "new", design(k=2))
    for name in list(editor.edits):
        editor.erase(name)
    for number, answer in enumerate(["right", "an anchor"]):
        editor.write(edit_of(number, answer, id=f"row {number}"))
    with pytest.raises(ReasonEditError, match=r"unfinished migration .* \(the edit 'row 0' is another one there\)"):
        migrate_codebook(editor.memory, tiny_vlm, tmp_path / "new", design(k=2))
    assert not (tmp_path / "new").exists()
    shutil.rmtree(tmp_path / ".new.migrating")
    new = migrate_codebook(editor.memory, tiny_vlm, tmp_path / "new", design(k=2))
    assert [edit.answer for edit in new.edits.values()] == ["right", "an anchor"]


@pytest.mark.parametrize(
    "change",
    [
        {"picture": 7},
        {"answers": ["wrong", "false"]},
        {"choices": ["wrong", "right"]},
        {"author": "Bo"},
        {"time": "2025-01-01T00:00:00+00:00"},
        {"evidence": [[(0.0, 0.0, 0.5, 0.5)]]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_finished_one_of_other_edits_is_refused_and_stays(tiny_vlm, hash_encoder, tmp_path, change):
    def write(folder, **more):
        editor = ReasonEditor(tiny_vlm, design())
        edit = edit_of(0, "wrong", id="row", **{"time": "2024-01-01T00:00:00+00:00", **more})
        editor.write(edit if "picture" not in change or folder == "one" else replace(edit, image=picture(7)))
        editor.save(tmp_path / folder)
        return editor.memory

    one, other = write("one"), write("other", **{k: v for k, v in change.items() if k != "picture"})
    migrate_codebook(one, tiny_vlm, tmp_path / "new", design())
    with pytest.raises(ReasonEditError, match="holds what was migrated of another codebook"):
        migrate_codebook(other, tiny_vlm, tmp_path / "new", design())
    assert migrate_codebook(one, tiny_vlm, tmp_path / "new", design()).edits["row"].answer == "wrong"


def test_two_designs_are_never_in_one_codebook(old, tiny_vlm, tmp_path):
    interrupted_after_one(old, tiny_vlm, tmp_path / "new", design(k=2, keys="image"))
    with pytest.raises(ReasonEditError, match=r"writing.keys is 'image' there and 'both' here\): remove that folder"):
        migrate_codebook(old, tiny_vlm, tmp_path / "new", design(k=2, keys="both"))
    heavier = design(k=2, keys="image")
    heavier = replace(heavier, embedding=replace(heavier.embedding, text_weight=2.0))
    with pytest.raises(ReasonEditError, match=r"another model or embedding\): remove that folder"):
        migrate_codebook(old, tiny_vlm, tmp_path / "new", heavier)
    new = migrate_codebook(old, tiny_vlm, tmp_path / "new", design(k=2, keys="image"))
    for changed in (design(k=2, keys="both"), design(k=1, keys="image")):
        with pytest.raises(ReasonEditError, match=r"or by another design .* there and .* here"):
            migrate_codebook(old, tiny_vlm, tmp_path / "new", changed)
    assert events_of(migrate_codebook(old, tiny_vlm, tmp_path / "new", design(k=2, keys="image"))) == events_of(new)


def grounded(single_window: float, **writing):
    return replace(design(keys="grounded", **writing), evidence=EvidenceConfig(single_window=single_window))


@pytest.mark.parametrize(
    "former",
    [design(keys="image"), design(keys="both", entries="answer"), design(keys="grounded")],
    ids=["no keys of regions", "answers alone", "another search"],
)
def test_evidence_is_sought_where_the_old_design_did_not_seek_it_so(tiny_vlm, hash_encoder, tmp_path, former):
    edit, new_design = edit_of(1, "round", id="e"), grounded(0.0001)
    old, fresh = ReasonEditor(tiny_vlm, former), ReasonEditor(tiny_vlm, new_design)
    for editor in (old, fresh):
        editor.write(edit)
    old.save(tmp_path / "old")
    new = migrate_codebook(old.memory, tiny_vlm, tmp_path / "new", new_design)
    assert any(fresh.edits["e"].found)
    assert new.find("e").found == fresh.edits["e"].found
    assert [entry.fact for entry in new.entries_of("e")] == [entry.fact for entry in fresh.memory.entries_of("e")]


def test_evidence_that_was_sought_alike_is_taken_over(tiny_vlm, hash_encoder, tmp_path, monkeypatch):
    editor = ReasonEditor(tiny_vlm, grounded(0.0001))
    editor.write(edit_of(1, "round", id="e"))
    editor.save(tmp_path / "old")
    monkeypatch.setattr(EvidenceFinder, "find_with_windows", None)  # nothing is sought
    new_design = grounded(0.0001, question_keys=True)
    new_design = replace(new_design, evidence=replace(new_design.evidence, grid=4))  # of no use to one window
    new = migrate_codebook(editor.memory, tiny_vlm, tmp_path / "new", new_design)
    assert any(new.find("e").found)
    assert new.find("e").found == editor.edits["e"].found


def test_an_edit_that_took_the_place_of_another_does_not_contradict_it(tiny_vlm, hash_encoder, tmp_path):
    editor = ReasonEditor(tiny_vlm, design(merge=True))
    editor.write(edit_of(1, "a cat", id="old"))
    editor.replace("old", edit_of(1, "a dog", id="new"))
    editor.write(edit_of(1, "a fox", id="later"))
    editor.undo("new")
    editor.save(tmp_path / "old")
    new = migrate_codebook(editor.memory, tiny_vlm, tmp_path / "new", design(merge=True))
    contradicted = {name: new.find(name).contradicts for name in ("old", "new", "later")}
    assert contradicted == {"old": [], "new": [], "later": ["new"]}
    assert contradicted == {name: editor.memory.find(name).contradicts for name in contradicted}
    assert events_of(new) == events_of(editor.memory)


def test_a_calibration_is_taken_over_where_it_holds_and_else_its_end_is_said(
    tiny_vlm, tiny_folder, hash_encoder, tmp_path, capsys
):
    base = grounded(0.0)
    chosen = replace(base, embedding=replace(base.embedding, transform="whitened", reference="own"))
    editor = ReasonEditor(tiny_vlm, chosen)
    editor.edit(picture(0), "What is 0?", answer="thing 0", reasoning=["It is 0."])
    made = editor.calibrate([picture(100 + number) for number in range(16)])
    editor.save(tmp_path / "old")
    migrate_codebook(editor.memory, tiny_vlm, tmp_path / "same", chosen)
    same = ReasonEditor.load(tmp_path / "same", tiny_vlm)
    assert same.pipeline.statistics.record == made.record
    assert same.ask(picture(0), "What is 0?").nearest == pytest.approx(0, abs=1e-3)
    raw = replace(chosen, embedding=replace(chosen.embedding, transform="raw"))
    (tmp_path / "raw.json").write_text(json.dumps(raw.to_dict()))
    (tmp_path / "same.json").write_text(json.dumps(chosen.to_dict()))
    for name, said in (("raw.json", True), ("same.json", False)):
        call = ["codebook", "migrate", tmp_path / "old", "--model", tiny_folder, "--out", tmp_path / f"new-{name}"]
        assert main([str(part) for part in (*call, "--design", tmp_path / name, "--dtype", "float32")]) == 0
        new = ReasonEditor.load(tmp_path / f"new-{name}", dtype="float32")
        assert ("until it is calibrated" in capsys.readouterr().out) is said is new.pipeline.statistics.awaits_pictures
