"""Embeds edits anew that have lost their keys, in their places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reasonedit.errors import ReasonEditError
from reasonedit.types import Edit

from ..disk.errors import write_error
from ..disk.store import Store
from ..drafts import Draft, Entry
from ..memory import EditMemory
from ..stored_edit import StoredEdit, as_edit
from .lost import keys_found_again

Embed = Callable[[Edit, StoredEdit], Draft]
"""Embeds an edit anew: from the edit with its pictures, and from what is stored of it, to what it writes."""

OpenEmbed = Callable[[EditMemory], Embed]
"""Given a codebook, what embeds its edits; :func:`reasonedit.migrate.open_embed` makes one from a VLM."""

_AT_ONCE = 256
"""So many edits are embedded before they are written: the most that has to be done again after a kill."""


def embed_anew(folder: Path, embed: OpenEmbed, done: Callable[[int, int], None] = lambda _done, _all: None) -> int:
    """Embed the edits of a codebook that have lost their keys; they keep their place, history and state.

    Those whose picture is lost too stay as they are.

    Args:
        folder: The codebook.
        embed: Given the opened codebook, what embeds one of its edits.
        done: Told after each edit how many are embedded, and of how many.

    Returns:
        How many edits have keys again.

    Raises:
        UnavailableError: The folder cannot be written.
        ReasonEditError: The folder is damaged, or ``embed`` raises it. Edits that were embedded before are kept, up to
            the last few hundred.
    """
    memory = EditMemory.read(Store.open(folder))  # warns of nothing, unlike 'open'
    names = embeddable(memory)
    embed_edit, embedded = embed(memory), list[str]()
    for start in range(0, len(names), _AT_ONCE):
        made_by, entries = _statistics_in(memory), dict[str, list[Entry]]()
        for number, name in enumerate(names[start : start + _AT_ONCE], start + 1):
            memory.refresh()
            if name in memory.keyless:  # others may have erased it meanwhile, or given it keys
                entries[name] = _embed(memory, name, embed_edit)
            done(number, len(names))
        with memory.changing():
            if _statistics_in(memory) != made_by:  # the codebook was calibrated anew meanwhile
                embed_edit, there = embed(memory), set(memory.keyless)
                entries = {name: _embed(memory, name, embed_edit) for name in entries if name in there}
            memory.give_keys(entries)
        embedded += entries
    if embedded:
        memory.settle()
        try:
            with memory.changing():  # others clean the file where they erase an edit
                keys_found_again(folder, embedded)
        except OSError as error:
            raise write_error(folder, error) from error
    return len(embedded)


def _embed(memory: EditMemory, name: str, embed_edit: Embed) -> list[Entry]:
    stored = memory.find(name)
    edit = as_edit(stored, {picture: memory.picture(picture) for picture in stored.pictures})
    return embed_edit(edit, stored).entries


def _statistics_in(memory: EditMemory) -> str:
    """A digest of the statistics that the codebook's folder holds."""
    assert memory.store is not None
    return memory.store.manifest.statistics_digest


def edits_without_keys(folder: Path) -> tuple[list[str], list[str]]:
    """Ids of the edits without keys, and of those among them whose pictures are all there.

    Raises:
        ReasonEditError: The folder holds no codebook, or it is damaged.
    """
    memory = EditMemory.read(Store.open(folder))
    return memory.keyless, embeddable(memory)


def embeddable(memory: EditMemory) -> list[str]:
    """Ids of the edits without keys whose pictures are all there."""
    return [name for name in memory.keyless if _has_pictures(memory, name)]


def _has_pictures(memory: EditMemory, name: str) -> bool:
    stored = memory.find(name)
    try:
        for picture in stored.pictures:
            memory.picture(picture)
    except ReasonEditError:
        return False
    return bool(stored.image)
