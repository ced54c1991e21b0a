"""A codebook for another VLM: its edits are embedded anew, with the evidence that was found or given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from reasonedit.codebook import EditMemory, Store, as_edit, check_fingerprint
from reasonedit.codebook.disk.errors import write_error
from reasonedit.codebook.disk.files import sync
from reasonedit.codebook.disk.lock import LOCK_FILES
from reasonedit.codebook.events import Event
from reasonedit.design import Design
from reasonedit.errors import ReasonEditError
from reasonedit.pipeline import EditingPipeline
from reasonedit.vlm import VLM


def migrate_codebook(
    memory: EditMemory,
    vlm: VLM,
    folder: str | os.PathLike[str],
    design: Design,
    done: Callable[[int, int], None] = lambda _done, _all: None,
) -> EditMemory:
    """Write a codebook into a new folder for another VLM: its edits, undone ones too, and all that happened to them.

    It is made under a hidden name beside the new folder and gets its own once it is whole. Where it was cut short it
    goes on there.

    Args:
        memory: The codebook.
        vlm: The VLM.
        folder: The new folder. Where the migrated codebook is there already, nothing is left to be done.
        design: How edits are embedded and written there.
        done: Told after each edit how many are done, and of how many.

    Returns:
        The new codebook.

    Raises:
        ReasonEditError: A picture is missing, or there is something else in the folder.
    """
    target = Path(folder).absolute()
    if memory.store is not None and target.exists() and os.path.samefile(target, memory.store.folder):
        raise ReasonEditError(f"'{folder}' is the codebook itself: name a new folder, so that nothing is lost.")
    pipeline, part = EditingPipeline(vlm, design), target.with_name(f".{target.name}.migrating")
    if Store.exists(target):
        there = _begun(target, pipeline, memory)
        if len(_told(there)) == len(_told(memory)):
            return there
        raise ReasonEditError(f"There is a codebook in '{target}' already, of an earlier time: name another folder.")
    if target.exists() and any(target.iterdir()):
        raise ReasonEditError(f"'{target}' is not empty: name a new folder.")
    if Store.exists(part):
        pipeline.memory = _begun(part, pipeline, memory)
    else:
        pipeline.memory.copy_to(pipeline.begin_store(part))
    store = pipeline.memory.store
    assert store is not None
    with store.writing():
        _embed(memory, pipeline, done)
        mine = {e.edit_id: e for e in pipeline.memory.events if e.edit is not None}
        # What happened to the edits happened then, not now.
        pipeline.memory.rewrite(lambda _: [mine[e.edit_id] if e.edit is not None else e for e in memory.events])
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
    """Have happen again what has not yet."""
    wanted, have = _told(memory), len(_told(pipeline.memory))
    edits, number = sum(e.edit is not None for e in wanted), sum(e.edit is not None for e in wanted[:have])
    for event in wanted[have:]:
        if event.edit is None:
            (pipeline.memory.undo if event.op == "undo" else pipeline.memory.restore)(event.edit_id, event.author)
            continue
        kept = event.edit
        edit = as_edit(kept, {name: memory.picture(name) for name in kept.pictures})
        # Of format 3 no evidence was kept: it is sought anew.
        pipeline.memory.add([pipeline.embed_anew(edit, kept) if kept.found else pipeline.draft(edit)[0]])
        number += 1
        done(number, edits)


def _begun(folder: Path, pipeline: EditingPipeline, memory: EditMemory) -> EditMemory:
    """What a folder holds of the migrated codebook.

    Raises:
        ReasonEditError: It holds another one.
    """
    store = Store.open(folder)
    check_fingerprint(store.manifest.fingerprint, pipeline.embedder.fingerprint, folder)
    begun = EditMemory.open(store)
    names = [[(e.op, e.edit_id, e.edit and e.edit.question) for e in _told(m)] for m in (begun, memory)]
    if names[0] != names[1][: len(names[0])]:
        raise ReasonEditError(f"'{folder}' holds what was migrated of another codebook: remove it, or name another.")
    return begun


def _told(memory: EditMemory) -> list[Event]:
    """What happened to edits that are there."""
    return [event for event in memory.events if event.op != "erase"]
