"""A codebook for another VLM: it is there whole, or not there."""

from __future__ import annotations

import pytest
from helpers.tiny import design, picture

from reasonedit import ReasonEditError, ReasonEditor
from reasonedit.codebook import EditMemory, Store
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
    embed, calls_left = EditingPipeline.embed_anew, [after]

    def embed_or_stop(self, *args):
        calls_left[0] -= 1
        if calls_left[0] < 0:
            raise KeyboardInterrupt
        return embed(self, *args)

    monkeypatch.setattr(EditingPipeline, "embed_anew", embed_or_stop)


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
