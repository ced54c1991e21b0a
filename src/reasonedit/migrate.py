"""Migration of a codebook to another VLM: its edits are embedded anew, with the evidence that was found or given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from reasonedit.codebook import Draft, EditMemory, Store, StoredEdit, as_edit, check_fingerprint
from reasonedit.codebook.disk.errors import write_error
from reasonedit.codebook.disk.files import sync
from reasonedit.codebook.disk.lock import LOCK_FILES
from reasonedit.codebook.events import Event
from reasonedit.design import Design
from reasonedit.errors import ConflictError, InputError
from reasonedit.pipeline import EditingPipeline
from reasonedit.types import Edit
from reasonedit.vlm import VLM


def migrate_codebook(
    memory: EditMemory,
    vlm: VLM,
    folder: str | os.PathLike[str],
    design: Design,
    done: Callable[[int, int], None] = lambda _done, _all: None,
) -> EditMemory:
    """Write a codebook into a new folder for another VLM: its edits, undone ones too, with their history.

    It is written under a hidden name beside the new folder and renamed once it is whole. A call that was interrupted
    is continued by the same call.

    Args:
        memory: The codebook.
        vlm: The VLM.
        folder: The new folder. Where it already holds the migrated codebook, nothing is done.
        design: How edits are embedded and written there.
        done: Told after each edit how many are done, and of how many.

    Returns:
        The new codebook.

    Raises:
        InputError: The new folder is that of the codebook.
        ConflictError: The new folder holds something else.
        NotFoundError: A picture is missing.
        UnavailableError: The new folder cannot be written.
    """
    target = Path(folder).absolute()
    if memory.store is not None and target.exists() and os.path.samefile(target, memory.store.folder):
        raise InputError(f"'{folder}' is the codebook itself: name a new folder, so that nothing is lost.")
    pipeline, part = EditingPipeline(vlm, design), target.with_name(f".{target.name}.migrating")
    if Store.exists(target):
        migrated = _open_migrated(target, pipeline, memory)
        if len(_events_of_edits(migrated)) == len(_events_of_edits(memory)):
            return migrated
        raise ConflictError(f"There is a codebook in '{target}' already, of an earlier time: name another folder.")
    if target.exists() and any(target.iterdir()):
        raise ConflictError(f"'{target}' is not empty: name a new folder.")
    if Store.exists(part):
        pipeline.memory = _open_migrated(part, pipeline, memory)
    else:
        pipeline.memory.copy_to(pipeline.begin_store(part))
    store = pipeline.memory.store
    assert store is not None
    with store.writing():
        _embed(memory, pipeline, done)
        new = {e.edit_id: e for e in pipeline.memory.events if e.edit is not None}
        # Edits were undone and restored at their old times, not now.
        pipeline.memory.rewrite(lambda _: [new[e.edit_id] if e.edit is not None else e for e in memory.events])
        pipeline.memory.settle()
        try:
            if target.exists():
                target.rmdir()
            part.rename(target)
            (target / LOCK_FILES[1]).unlink(missing_ok=True)
            sync(target.parent)
        except OSError as error:
            raise write_error(target, error) from error
    return EditMemory.open(Store.open(target))


def _embed(memory: EditMemory, pipeline: EditingPipeline, done: Callable[[int, int], None]) -> None:
    """Repeat the events that the new codebook does not have yet."""
    events, count = _events_of_edits(memory), len(_events_of_edits(pipeline.memory))
    edits, number = sum(e.edit is not None for e in events), sum(e.edit is not None for e in events[:count])
    for event in events[count:]:
        if event.edit is None:
            (pipeline.memory.undo if event.op == "undo" else pipeline.memory.restore)(event.edit_id, event.author)
            continue
        stored = event.edit
        edit = as_edit(stored, {name: memory.picture(name) for name in stored.pictures})
        # Format 3 kept no evidence: it is sought anew.
        pipeline.memory.add([pipeline.embed_anew(edit, stored) if stored.found else pipeline.draft(edit)[0]])
        number += 1
        done(number, edits)


def _open_migrated(folder: Path, pipeline: EditingPipeline, memory: EditMemory) -> EditMemory:
    """Open what a folder holds of the migrated codebook.

    Raises:
        ConflictError: It holds another codebook.
    """
    store = Store.open(folder)
    check_fingerprint(store.manifest.fingerprint, pipeline.embedder.fingerprint, folder)
    migrated = EditMemory.open(store)
    new, old = (
        [(e.op, e.edit_id, e.edit and e.edit.question) for e in _events_of_edits(m)] for m in (migrated, memory)
    )
    if new != old[: len(new)]:
        raise ConflictError(f"'{folder}' holds what was migrated of another codebook: remove it, or name another.")
    return migrated


def _events_of_edits(memory: EditMemory) -> list[Event]:
    """What happened, without the erasing of edits that are not there any more."""
    return [event for event in memory.events if event.op != "erase"]


def open_embed(vlm: VLM) -> Callable[[EditMemory], Callable[[Edit, StoredEdit], Draft]]:
    """What embeds the edits of a codebook anew, for :func:`reasonedit.codebook.repair.repair`.

    Args:
        vlm: The VLM that the codebook was made with; another one raises a ``ReasonEditError`` when it is called.
    """

    def open_pipeline(memory: EditMemory) -> Callable[[Edit, StoredEdit], Draft]:
        assert memory.store is not None
        pipeline = EditingPipeline.open(memory.store, vlm, memory)
        pipeline.statistics.keep(memory)
        return pipeline.embed_anew

    return open_pipeline
