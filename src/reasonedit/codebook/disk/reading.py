"""What a codebook's folder holds beyond what is known of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..events import Event
from . import writing
from .checksums import Checksums
from .errors import DamagedError
from .journal import Journal, Line, Mark
from .manifest import KeyRange, Manifest
from .tensors import are_founders, load_founders, load_keys


@dataclass
class News:
    """What a folder holds beyond what is known.

    Attributes:
        events: What happened.
        keys: Keys with whether they are to stay as they were read, and not to be copied into a larger table.
        radii: Their radii.
        founders: What merged where when the first ``settled`` of the events had happened; where that is known.
        merge: Whether keys merged then.
        anew: Whether everything was written anew, so that nothing that is known counts and all is to be read again;
            there is nothing else in these news then.
    """

    events: list[Event] = field(default_factory=list)
    keys: list[tuple[Tensor, bool]] = field(default_factory=list)
    radii: np.ndarray[Any, Any] = field(default_factory=lambda: np.empty(0, np.float32))
    founders: np.ndarray[Any, Any] | None = None
    settled: int = 0
    merge: bool = True
    anew: bool = False


@dataclass(frozen=True)
class ReadSoFar:
    """How far a folder was read.

    Attributes:
        mark: How far its journal was.
        loose: The files of keys that are not joined.
        pictures: Names of the pictures that edits have.
    """

    mark: Mark = field(default_factory=Mark)
    loose: tuple[KeyRange, ...] = ()
    pictures: frozenset[str] = frozenset()


def read_news(
    folder: Path, manifest: Manifest, known: ReadSoFar, numbers: int, ids: frozenset[str], width: int | None
) -> tuple[News, ReadSoFar]:
    """What a manifest says beyond what is known.

    Args:
        folder: The codebook's folder.
        manifest: Its manifest.
        known: How far it was read.
        numbers: How many keys are known.
        ids: The edits that are known.
        width: Numbers per key, where there is a key.

    Returns:
        The news, and how far it is read then.

    Raises:
        DamagedError: A file is missing, torn or changed.
        UnreadableError: A file must not be read.
    """
    journal = Journal(folder / manifest.journal_file)
    if manifest.journal.records < known.mark.records:
        raise DamagedError(journal.path, manifest.journal.bytes, "it was longer before")
    news = News()
    loose, pictures = _happened(journal, manifest, known, numbers, ids, news)
    _keys(folder, [*manifest.sealed, *loose], len(manifest.sealed), numbers, width, news)
    if not known.mark.records and manifest.settled is not None:
        _settled(folder, manifest, news)
    return news, ReadSoFar(manifest.journal, tuple(loose), known.pictures | pictures)


def _happened(
    journal: Journal, manifest: Manifest, known: ReadSoFar, numbers: int, ids: frozenset[str], news: News
) -> tuple[list[KeyRange], set[str]]:
    """Read the events; the files of keys that are not joined, and the pictures of the edits among the events."""
    sealed, there, pictures = sum(s.count for s in manifest.sealed), set(ids), set[str]()
    loose = [part for part in known.loose if part.first >= sealed]
    for line in journal.read(known.mark, manifest.journal):
        if line.values.get("op") == "create":
            _check_head(journal, line, manifest)
            continue
        event = _event(journal, line)
        news.events.append(event)
        if event.op == "erase":
            continue
        if (event.edit_id in there) == (event.edit is not None):
            state = "is there already" if event.edit is not None else "is not there"
            raise DamagedError(journal.path, line.start, f"the edit '{event.edit_id}' {state}")
        there.add(event.edit_id)
        if event.edit is None:
            continue
        if event.first != numbers:
            raise DamagedError(journal.path, line.start, f"key {event.first} follows key {numbers}")
        numbers += len(event.facts)
        pictures.update(event.edit.pictures)
        if event.facts and event.first >= sealed:
            loose.append(KeyRange(event.first, len(event.facts), _sums(journal, line)))
    if numbers != manifest.numbers:
        raise DamagedError(journal.path, 0, f"its edits have {numbers} keys, the manifest {manifest.numbers}")
    return loose, pictures


def _check_head(journal: Journal, line: Line, manifest: Manifest) -> None:
    """See that the journal is the manifest's: what the keys depend on cannot be exchanged in the manifest alone.

    In format 4 the journal does not say what the statistics are.
    """
    told, made = line.values, writing.head_record(manifest)
    names = ("id", "fingerprint", "statistics", "statistics_digest")
    differing = [name for name in names if name in told and not _same(told[name], made[name])]
    if line.start or differing:
        what = ", ".join(differing) or "begin"
        raise DamagedError(journal.path, line.start, f"it and the manifest are not of one codebook: another {what}")


def _same(one: object, other: object) -> bool:
    """Whether two things are the same in JSON, in which a tuple is a list."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _event(journal: Journal, line: Line) -> Event:
    try:
        return Event.from_dict(line.values)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(journal.path, line.start, f"the record makes no sense ({error})") from error


def _sums(journal: Journal, line: Line) -> Checksums:
    try:
        return Checksums.from_dict(line.values["keys"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(journal.path, line.start, "the record does not say where its keys are") from error


def _keys(folder: Path, parts: Sequence[KeyRange], joined: int, numbers: int, width: int | None, news: News) -> None:
    """Keys and radii from a number on; the first so many files are joined ones."""
    radii: list[np.ndarray[Any, Any]] = []
    for i, part in enumerate(parts):
        if part.first + part.count <= numbers:
            continue
        keys, mine = load_keys(folder, part, width)
        width = int(keys.shape[1])
        skip = max(0, numbers - part.first)
        news.keys.append((keys[skip:], i < joined and not skip))
        radii.append(mine[skip:].numpy())
    if radii:
        news.radii = np.concatenate(radii)


def _settled(folder: Path, manifest: Manifest, news: News) -> None:
    settled = manifest.settled
    assert settled is not None
    path = settled.sums.check(folder)
    founders = load_founders(path, manifest.numbers)
    if not _can_be(founders, news.events[: settled.records]):
        raise DamagedError(path, 0, "it is of another codebook")
    news.founders = founders.numpy()
    news.settled, news.merge = settled.records, settled.merge


def _can_be(founders: Tensor, events: Sequence[Event]) -> bool:
    """Whether this can be what merged where when so much had happened."""
    counts, where, written = torch.zeros(len(founders), dtype=torch.bool), dict[str, slice](), 0
    for event in events:
        if event.edit is not None:
            where[event.edit_id] = slice(event.first, event.first + len(event.facts))
            written += len(event.facts)
        if event.op != "erase":
            counts[where[event.edit_id]] = event.op != "undo"
    return written == len(founders) and are_founders(founders, counts)
