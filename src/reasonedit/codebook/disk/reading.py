"""What others wrote into a codebook's folder since it was read last."""

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
    """What a folder holds beyond what is known of it.

    Attributes:
        events: What happened.
        keys: Keys (n, D), file by file, and whether they may stay mapped from their file instead of being copied.
        radii: Their radii, (numbers,).
        founders: Which keys had merged after the first ``settled`` events, (numbers,); where that is known.
        settled: How many events that is.
        merge: Whether keys merged then.
        anew: Whether everything was written anew: nothing that is known counts, and all has to be read again. The news
            hold nothing else then.
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
        mark: Up to which place in its journal.
        loose: The files of single edits, whose keys are not joined.
        pictures: Names of the pictures that edits have.
    """

    mark: Mark = field(default_factory=Mark)
    loose: tuple[KeyRange, ...] = ()
    pictures: frozenset[str] = frozenset()


def read_news(
    folder: Path, manifest: Manifest, before: ReadSoFar, numbers: int, ids: frozenset[str], width: int | None
) -> tuple[News, ReadSoFar]:
    """Read what a manifest names beyond what is known.

    Args:
        folder: The codebook's folder.
        manifest: Its manifest.
        before: How far the folder was read.
        numbers: How many keys are known.
        ids: The edits that are known.
        width: D, where there is a key.

    Returns:
        The news, and how far the folder is read then.

    Raises:
        DamagedError: A file is missing, torn or changed.
        UnreadableError: A file must not be read.
    """
    journal = Journal(folder / manifest.journal_file)
    if manifest.journal.records < before.mark.records:
        raise DamagedError(journal.path, manifest.journal.bytes, "it was longer before")
    news = News()
    loose, pictures = _read_events(journal, manifest, before, numbers, ids, news)
    _read_keys(folder, [*manifest.sealed, *loose], len(manifest.sealed), numbers, width, news)
    if not before.mark.records and manifest.settled is not None:
        _read_merges(folder, manifest, news)
    return news, ReadSoFar(manifest.journal, tuple(loose), before.pictures | pictures)


def _read_events(
    journal: Journal, manifest: Manifest, before: ReadSoFar, numbers: int, ids: frozenset[str], news: News
) -> tuple[list[KeyRange], set[str]]:
    """Read what happened into the news.

    Returns:
        The files of keys that are not joined, and the pictures of the edits among the events.
    """
    joined, known_ids, pictures = sum(part.count for part in manifest.sealed), set(ids), set[str]()
    loose = [part for part in before.loose if part.first >= joined]
    for line in journal.read(before.mark, manifest.journal):
        if line.values.get("op") == "create":
            _check_head(journal, line, manifest)
            continue
        event = _parse_event(journal, line)
        news.events.append(event)
        if event.op == "erase":
            continue
        if (event.edit_id in known_ids) == (event.edit is not None):
            state = "is there already" if event.edit is not None else "is not there"
            raise DamagedError(journal.path, line.start, f"the edit '{event.edit_id}' {state}")
        known_ids.add(event.edit_id)
        if event.edit is None:
            continue
        if event.first != numbers:
            raise DamagedError(journal.path, line.start, f"key {event.first} follows key {numbers}")
        numbers += len(event.facts)
        pictures.update(event.edit.pictures)
        if event.facts and event.first >= joined:
            loose.append(KeyRange(event.first, len(event.facts), _parse_sums(journal, line)))
    if numbers != manifest.numbers:
        raise DamagedError(journal.path, 0, f"its edits have {numbers} keys, the manifest {manifest.numbers}")
    return loose, pictures


def _check_head(journal: Journal, line: Line, manifest: Manifest) -> None:
    """Check that the journal is the manifest's: nobody can exchange what the keys depend on in the manifest alone.

    In format 4 the journal does not say what the statistics are.
    """
    written, expected = line.values, writing.head_record(manifest)
    names = ("id", "fingerprint", "statistics", "statistics_digest")
    differing = [name for name in names if name in written and not _equal_in_json(written[name], expected[name])]
    if line.start or differing:
        what = ", ".join(differing) or "begin"
        raise DamagedError(journal.path, line.start, f"it and the manifest are not of one codebook: another {what}")


def _equal_in_json(a: object, b: object) -> bool:
    """Whether JSON says the same for both: a tuple is a list there."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _parse_event(journal: Journal, line: Line) -> Event:
    try:
        return Event.from_dict(line.values)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(journal.path, line.start, f"the record makes no sense ({error})") from error


def _parse_sums(journal: Journal, line: Line) -> Checksums:
    try:
        return Checksums.from_dict(line.values["keys"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(journal.path, line.start, "the record does not say where its keys are") from error


def _read_keys(
    folder: Path, parts: Sequence[KeyRange], joined: int, numbers: int, width: int | None, news: News
) -> None:
    """Read keys and radii from the number ``numbers`` on into the news; the first ``joined`` files are joined ones."""
    all_radii: list[np.ndarray[Any, Any]] = []
    for i, part in enumerate(parts):
        if part.first + part.count <= numbers:
            continue
        keys, radii = load_keys(folder, part, width)
        width = int(keys.shape[1])
        skip = max(0, numbers - part.first)
        news.keys.append((keys[skip:], i < joined and not skip))
        all_radii.append(radii[skip:].numpy())
    if all_radii:
        news.radii = np.concatenate(all_radii)


def _read_merges(folder: Path, manifest: Manifest, news: News) -> None:
    settled = manifest.settled
    assert settled is not None
    path = settled.sums.check(folder)
    founders = load_founders(path, manifest.numbers)
    if not _fit_events(founders, news.events[: settled.records]):
        raise DamagedError(path, 0, "it is of another codebook")
    news.founders = founders.numpy()
    news.settled, news.merge = settled.records, settled.merge


def _fit_events(founders: Tensor, events: Sequence[Event]) -> bool:
    """Whether keys can have merged like this after these events."""
    counts, slices, written = torch.zeros(len(founders), dtype=torch.bool), dict[str, slice](), 0
    for event in events:
        if event.edit is not None:
            slices[event.edit_id] = slice(event.first, event.first + len(event.facts))
            written += len(event.facts)
        if event.op != "erase":
            counts[slices[event.edit_id]] = event.op != "undo"
    return written == len(founders) and are_founders(founders, counts)
