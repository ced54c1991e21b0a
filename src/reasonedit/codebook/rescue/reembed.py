"""Edits that have lost their keys, embedded anew in their places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reasonedit.errors import ReasonEditError
from reasonedit.types import Edit

from ..disk.errors import write_error
from ..disk.store import Store
from ..memory import EditMemory
from ..records import Draft, Entry, StoredEdit, as_edit
from .lost import remove_from_lost

Embed = Callable[[Edit, StoredEdit], Draft]
"""Embeds an edit anew: what it writes, from the edit with its pictures and from what was kept of it."""

OpenEmbed = Callable[[EditMemory], Embed]
"""Given a codebook, what embeds its edits; :func:`reasonedit.pipeline.open_embed` makes one from a VLM."""

_AT_ONCE = 256
"""So many edits are embedded before they are written: what somebody who is cut short has to do again at most."""


def embed_anew(folder: Path, embed: OpenEmbed, done: Callable[[int, int], None] = lambda _done, _all: None) -> int:
    """Embed the edits of a codebook that have lost their keys: each has its place, its history and its state again.

    Those whose picture is lost too stay as they are.

    Args:
        folder: The codebook.
        embed: Given the opened codebook, what embeds one of its edits.
        done: Told after each edit how many are embedded, and of how many.

    Returns:
        How many edits have keys again.

    Raises:
        ReasonEditError: The folder cannot be written, or as ``embed`` raises; edits that were embedded before are kept,
            up to the last few hundred.
    """
    memory = EditMemory.read(Store.open(folder))  # which warns of nothing
    names = embeddable(memory)
    make = embed(memory)
    entries: dict[str, list[Entry]] = {}
    for number, name in enumerate(names, 1):
        kept = memory.find(name)
        entries[name] = make(as_edit(kept, {p: memory.picture(p) for p in kept.pictures}), kept).entries
        if number % _AT_ONCE == 0 or number == len(names):
            memory.give_keys(entries)
            entries = {}
        done(number, len(names))
    if names:
        memory.settle()
        try:
            remove_from_lost(folder, names)
        except OSError as error:
            raise write_error(folder, error) from error
    return len(names)


def edits_without_keys(folder: Path) -> tuple[list[str], list[str]]:
    """Ids of the edits without keys, and of those among them whose pictures are all there.

    Raises:
        ReasonEditError: The folder holds no codebook, or it is damaged.
    """
    memory = EditMemory.read(Store.open(folder))
    return memory.keyless, embeddable(memory)


def embeddable(memory: EditMemory) -> list[str]:
    """Ids of the edits without keys whose pictures are all there."""
    return [name for name in memory.keyless if _seen(memory, name)]


def _seen(memory: EditMemory, name: str) -> bool:
    """Whether all pictures of an edit are there."""
    kept = memory.find(name)
    try:
        for picture in kept.pictures:
            memory.picture(picture)
    except ReasonEditError:
        return False
    return bool(kept.image)
