"""Which edits are erased, and what of them nothing else shares."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from reasonedit.codebook import EditMemory, StoredEdit
from reasonedit.codebook.disk.files import read_content
from reasonedit.codebook.events import Event
from reasonedit.codebook.rescue.lost import LOST
from reasonedit.errors import ReasonEditError
from reasonedit.traces import ErasedEdits
from reasonedit.validation import check_ids

from .note import read_note

_MAX_BYTES = 64 * 2**20


def find_edits(memory: EditMemory, folder: Path, ids: Sequence[str]) -> tuple[list[StoredEdit], set[str]]:
    """The edits of these ids, and the ids that an interrupted erasure has already taken out of the codebook.

    Args:
        memory: The codebook.
        folder: Its folder.
        ids: Their ids.

    Raises:
        NotFoundError: An id is neither.
        InputError: The ids are one text.
    """
    existing = _existing(memory)
    unfinished = read_note(folder) - existing
    lost = {edit.id: edit for edit in _read_lost(folder) if edit.id not in existing}
    edits = {}
    for name in check_ids(ids):
        if name in lost or name not in unfinished:
            edit = lost[name] if name in lost else memory.find(name)
            edits[edit.id] = edit
    return list(edits.values()), unfinished


def known_ids(memory: EditMemory, folder: Path) -> set[str]:
    """The ids that :func:`find_edits` finds something by."""
    return {*_existing(memory), *read_note(folder), *(edit.id for edit in _read_lost(folder))}


def _existing(memory: EditMemory) -> set[str]:
    return {event.edit_id for event in memory.events if event.edit is not None}


def _read_lost(folder: Path) -> list[StoredEdit]:
    """The edits that a repair could not keep, as far as it noted them."""
    try:
        lines = read_content(folder / LOST, _MAX_BYTES).splitlines()
    except ReasonEditError:
        return []
    edits = []
    for line in lines:
        with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
            row = json.loads(line)
            texts = {n: row[n] for n in ("id", "question", "answer") if isinstance(row.get(n), str)}
            sentences = [s for s in row.get("reasoning") or () if isinstance(s, str)]
            image = Path(str(row.get("image", ""))).stem
            edits.append(StoredEdit(**{"question": "", "answer": "", **texts}, reasoning=sentences, image=image))
    return edits


def describe_erased(memory: EditMemory, edits: Sequence[StoredEdit]) -> ErasedEdits:
    """What goes with edits: what other edits have, too, stays."""
    ids = {edit.id for edit in edits}
    arrivals = [event for event in memory.events if event.edit is not None]
    going = [event for event in arrivals if event.edit_id in ids]
    staying = [event for event in arrivals if event.edit_id not in ids]
    others = [event.edit for event in staying if event.edit is not None]
    return ErasedEdits(
        ids=frozenset(ids),
        texts=frozenset((_texts(going) | _sentences(edits)) - _texts(staying) - _sentences(others)),
        answers=frozenset(answer for edit in edits for answer in edit.targets if answer),
        questions=frozenset({edit.question for edit in edits} - {edit.question for edit in others}),
        pictures=frozenset(_pictures(edits) - _pictures(others)),
        sentences=frozenset(_sentences(edits)),
    )


def events_without(events: Sequence[Event], ids: Collection[str], author: str) -> list[Event]:
    """What is to have happened once edits are erased: nothing of them, and last that so many were erased.

    Args:
        events: What happened.
        ids: The edits.
        author: Who erases them.
    """
    staying = [_without_mention(event, ids) for event in events if event.edit_id not in ids]
    count = sum(event.edit is not None and event.edit_id in ids for event in events)
    return [*staying, Event.of_erasure(count, author)]


def _without_mention(event: Event, ids: Collection[str]) -> Event:
    """An edit that does not say that it contradicts edits of these ids."""
    if event.edit is None:
        return event
    return replace(event, edit=replace(event.edit, contradicts=[n for n in event.edit.contradicts if n not in ids]))


def _texts(events: Sequence[Event]) -> set[str]:
    return {text for e in events for text, _ in (*e.facts, *e.lost_facts)}


def _sentences(edits: Sequence[StoredEdit]) -> set[str]:
    return {sentence for edit in edits for sentence in edit.reasoning if sentence}


def _pictures(edits: Sequence[StoredEdit]) -> set[str]:
    return {name for edit in edits for name in edit.pictures}
