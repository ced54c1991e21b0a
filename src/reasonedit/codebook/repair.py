"""A damaged codebook made whole again, from what can be read of it, in its place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from reasonedit.errors import ReasonEditError

from .disk.errors import write_error
from .disk.journal import Mark
from .disk.manifest import MANIFEST, Manifest
from .disk.store import Store
from .disk.writing import EditArrays
from .events import Event
from .memory import EditMemory
from .records import StoredEdit
from .rescue.copies import clear_parts, copy_aside
from .rescue.findings import Found, FoundEdit
from .rescue.history import REPAIR
from .rescue.lost import LOST, without_lost_pictures, write_lost
from .rescue.reembed import OpenEmbed, embed_anew
from .rescue.verify import verify

__all__ = ["LOST", "Found", "LossError", "repair", "verify"]


class LossError(ReasonEditError):
    """A repaired codebook would hold less than is known to have been there.

    Attributes:
        losses: What would be missing, or might count wrongly; one sentence each.
    """

    def __init__(self, folder: Path, losses: Sequence[str]) -> None:
        self.losses = list(losses)
        more = f"; and {len(losses) - 5} more, of which 'reasonedit codebook verify' tells" if len(losses) > 5 else ""
        super().__init__(
            f"The codebook in '{folder}' was not repaired: some of what was there would be missing: "
            f"{'; '.join(losses[:5])}{more}. 'reasonedit codebook repair --yes' (accept_loss=True in Python) writes "
            "what is left; the damaged folder is kept beside it."
        )


def repair(
    folder: str | os.PathLike[str],
    *,
    accept_loss: bool = False,
    embed: OpenEmbed | None = None,
    done: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Found, Path | None]:
    """Make a damaged codebook whole again from what can be read of it, in its place and in one step.

    The damaged folder is copied first, to ``NAME.damaged-TIME`` beside it. Killed at any moment the codebook is there
    under its name, damaged or repaired. Edits whose keys are lost keep their place, text, author, time and history, and
    whether they were undone; they do not answer until they are embedded anew, here or by a later repair. What is lost
    of which edit is written into ``lost-edits.jsonl`` in the folder.

    Args:
        folder: The codebook.
        accept_loss: Whether to write what is left where that is less than is known to have been there.
        embed: Given the repaired codebook, what embeds one of its edits anew: edits that have lost their keys get new
            ones. :func:`reasonedit.pipeline.open_embed` makes it from a VLM. Without it they are left for later.
        done: Told after each edit how many are embedded anew, and of how many.

    Returns:
        What was found, and where the damaged folder's copy is; none where nothing was damaged.

    Raises:
        LossError: Something would be missing; nothing was changed.
        UnreadableError: A file must not be read; nothing was changed.
        ReasonEditError: Nothing says what the codebook was made with, somebody else writes it, there is no room, or as
            ``embed`` raises.
    """
    there = Path(folder).resolve()
    verify(there)  # whether there is one at all, before anything is made there
    store = Store(there, Manifest("", "", {}, {}, True))
    with store.writing():
        clear_parts(there)
        found = verify(there)
        kept = _repaired(store, found, accept_loss=accept_loss) if found.damages else None
    if embed is not None:
        embed_anew(there, embed, done)
    if kept is not None:
        EditMemory.read(Store.open(there)).settle()
    return found, kept


def _repaired(store: Store, found: Found, *, accept_loss: bool) -> Path:
    there = store.folder
    if found.manifest is None:
        raise ReasonEditError(
            f"The codebook in '{there}' cannot be repaired: neither {MANIFEST} nor the first line of its journal "
            "says what it was made with."
        )
    if found.losses and not accept_loss:
        raise LossError(there, found.losses)
    store.manifest = replace(found.manifest, journal=Mark(), sealed=(), settled=None)
    if not found.statistics:
        store.manifest = replace(store.manifest, statistics=None, statistics_digest="")
    try:
        kept = copy_aside(there)
        write_lost(there, found)
    except OSError as error:
        raise write_error(there, error, "repaired") from error
    events = recovered(found)
    store.rewrite(events, _written(events, found), statistics=found.statistics or None)
    return kept


def recovered(found: Found) -> list[Event]:
    """What is to have happened: what can be read, with each edit in the state in which it was found."""
    alive, events = dict[str, bool](), list[Event]()
    there = {edit.id: edit for edit in found.edits if edit.event is not None}
    for event in found.events:
        if event.op == "erase":
            events.append(event)
        if event.edit_id not in there:  # a turn of an edit that is lost
            continue
        alive[event.edit_id] = event.op != "undo"
        events.append(event if event.edit is None else _left(event, event.edit, there[event.edit_id]))
    turned = [name for name, mine in there.items() if mine.counts != alive[name]]
    return [*events, *(Event.of_turn("undo" if alive[name] else "restore", name, REPAIR) for name in turned)]


def _left(event: Event, edit: StoredEdit, found: FoundEdit) -> Event:
    """An edit with what is left of it."""
    seen = replace(event, edit=without_lost_pictures(edit, set(found.pictures)))
    return seen if found.keys else seen.without_keys()


def _written(events: Sequence[Event], found: Found) -> Iterator[EditArrays]:
    for event in events:
        if event.edit is not None:
            keys, radii = found.keys[event.edit_id] if event.facts else (np.empty((0, 0), np.float32),) * 2
            yield torch.from_numpy(keys.copy()), radii.reshape(-1).copy(), {}
