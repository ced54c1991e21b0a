"""Repair of a damaged codebook in its place, from what can be read of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from reasonedit.errors import InputError, ReasonEditError

from .disk.errors import write_error
from .disk.journal import Mark
from .disk.manifest import MANIFEST, Manifest
from .disk.store import Store
from .disk.writing import EditArrays
from .events import Event
from .memory import EditMemory
from .rescue.copies import clear_parts, copy_aside
from .rescue.findings import Found, FoundEdit
from .rescue.history import REPAIR
from .rescue.lost import LOST, without_lost_pictures, write_lost
from .rescue.reembed import OpenEmbed, embed_anew
from .rescue.statistics import CALIBRATION
from .rescue.verify import verify
from .stored_edit import StoredEdit

__all__ = ["LOST", "Found", "LossError", "repair", "verify"]


class LossError(ReasonEditError):
    """A repaired codebook would hold less than is known to have been there.

    Attributes:
        losses: What would be missing, or might count wrongly: a sentence each.
    """

    def __init__(self, folder: Path, losses: Sequence[str]) -> None:
        self.losses = list(losses)
        more = f"; and {len(losses) - 5} more, which 'reasonedit codebook verify' names" if len(losses) > 5 else ""
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
    """Repair a damaged codebook from what can be read of it, in its place and in one step.

    The damaged folder is first copied to ``NAME.damaged-TIME`` beside it. Killed at any moment, the codebook is there
    under its name, damaged or repaired. Edits whose keys are lost keep their place, text, author, time, history and
    whether they are undone. They do not answer until they are embedded anew, here or by a later repair. The file
    ``lost-edits.jsonl`` in the folder names what is lost of which edit.

    Args:
        folder: The codebook.
        accept_loss: Whether to write what is left, even if that is less than is known to have been there.
        embed: Given the repaired codebook, what embeds one of its edits anew: edits that have lost their keys get new
            ones. :func:`reasonedit.migrate.open_embed` makes it from a VLM. Without it they are left for later.
        done: Told after each edit how many are embedded anew, and of how many.

    Returns:
        What was found, and the copy of the damaged folder; ``None`` where nothing was damaged.

    Raises:
        LossError: Something would be missing; nothing was changed.
        UnreadableError: A file cannot be read now; nothing was changed.
        InputError: Nothing says what the codebook was made with.
        LockedError: Somebody else writes it.
        UnavailableError: The folder cannot be written.
        ReasonEditError: ``embed`` raises it.
    """
    path = Path(folder).resolve()
    verify(path)  # raises where there is no codebook, before the lock makes a file there
    store = Store(path, Manifest("", "", {}, {}, True))
    with store.writing():
        clear_parts(path)
        found = verify(path)
        copy = _rewrite(store, found, accept_loss=accept_loss) if found.damages else None
    if embed is not None:
        embed_anew(path, embed, done)
    if copy is not None:
        EditMemory.read(Store.open(path)).settle()
    return found, copy


def _rewrite(store: Store, found: Found, *, accept_loss: bool) -> Path:
    """Copy a damaged folder, then write what was found in its place.

    Returns:
        The copy.
    """
    folder = store.folder
    if found.manifest is None:
        raise InputError(
            f"The codebook in '{folder}' cannot be repaired: neither {MANIFEST} nor the first line of its journal "
            "says what it was made with."
        )
    if found.losses and not accept_loss:
        raise LossError(folder, found.losses)
    store.manifest = replace(found.manifest, journal=Mark(), sealed=(), settled=None)
    if not found.statistics:
        # A calibration without its statistics is none: the codebook awaits pictures again.
        config = {name: value for name, value in store.manifest.config.items() if name != CALIBRATION}
        store.manifest = replace(store.manifest, config=config, statistics=None, statistics_digest="")
    try:
        copy = copy_aside(folder)
        write_lost(folder, found)
    except OSError as error:
        raise write_error(folder, error, "repaired") from error
    events = _recover_events(found)
    store.rewrite(events, _arrays_of(events, found), statistics=found.statistics or None)
    return copy


def _recover_events(found: Found) -> list[Event]:
    """The events that can be read, and more where they do not leave an edit in the state in which it was found."""
    counts, events = dict[str, bool](), list[Event]()
    edits = {edit.id: edit for edit in found.edits if edit.event is not None}
    for event in found.events:
        if event.op == "erase":
            events.append(event)
        if event.edit_id not in edits:  # an edit that is lost was undone or restored
            continue
        counts[event.edit_id] = event.op != "undo"
        events.append(event if event.edit is None else _without_lost(event, event.edit, edits[event.edit_id]))
    differing = [name for name, edit in edits.items() if edit.counts != counts[name]]
    return [*events, *(Event.now("undo" if counts[name] else "restore", name, REPAIR) for name in differing)]


def _without_lost(event: Event, edit: StoredEdit, found: FoundEdit) -> Event:
    """An edit without the pictures and keys that are lost."""
    pictured = replace(event, edit=without_lost_pictures(edit, set(found.pictures)))
    return pictured if found.keys else pictured.without_keys()


def _arrays_of(events: Sequence[Event], found: Found) -> Iterator[EditArrays]:
    """Keys and radii of each edit."""
    for event in events:
        if event.edit is not None:
            keys, radii = found.keys[event.edit_id] if event.facts else (np.empty((0, 0), np.float32),) * 2
            yield torch.from_numpy(keys.copy()), radii.reshape(-1).copy(), {}
