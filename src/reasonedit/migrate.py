"""A codebook for another VLM: its edits are embedded anew, with the evidence that was found or given."""

from __future__ import annotations

import os
from collections.abc import Callable

from reasonedit.codebook import EditMemory, Store, as_edit, check_fingerprint
from reasonedit.design import Design
from reasonedit.errors import ReasonEditError
from reasonedit.method import Method
from reasonedit.vlm import VLM


def migrated(
    memory: EditMemory,
    vlm: VLM,
    folder: str | os.PathLike[str],
    design: Design,
    done: Callable[[int, int], None] = lambda _done, _all: None,
) -> EditMemory:
    """Write the edits of a codebook, undone ones too, into a new folder for another VLM.

    Where it was cut short it goes on: edits that are in the new folder already stay.

    Args:
        memory: The codebook.
        vlm: The VLM.
        folder: The new folder.
        design: How edits are embedded and written there.
        done: Told after each edit how many are done, and of how many.

    Returns:
        The new codebook.

    Raises:
        ReasonEditError: A picture is missing, or the folder holds another codebook.
    """
    if memory.store is not None and os.path.exists(folder) and os.path.samefile(folder, memory.store.folder):
        raise ReasonEditError(f"'{folder}' is the codebook itself: name a new folder, so that nothing is lost.")
    method = Method(vlm, design)
    if Store.there(folder):
        store = Store.open(folder)
        check_fingerprint(store.manifest.fingerprint, method.embedder.fingerprint, folder)
        method.memory = EditMemory.open(store)
    else:
        method.memory.copy_to(method.new_store(folder))
    edits = [e.edit for e in memory.events if e.edit is not None]
    for number, kept in enumerate(edits, 1):
        if kept.id not in method.memory.edits and kept.id not in method.memory.undone:
            edit = as_edit(kept, {name: memory.picture(name) for name in kept.pictures})
            method.memory.add([method.embedded_anew(edit, kept)])
        done(number, len(edits))
    for edit_id in [e for e in memory.undone if e in method.memory.edits]:
        method.memory.undo(edit_id)
    method.memory.settle(join=True)
    return method.memory
