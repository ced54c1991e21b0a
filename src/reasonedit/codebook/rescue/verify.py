"""What a codebook's folder holds: of every record and edit whether it is whole, counts, was undone or is lost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..disk import snapshot
from ..disk.checksums import Checksums
from ..disk.errors import DamagedError
from ..disk.layout import parse_name
from ..disk.manifest import Manifest, stamp_of
from ..disk.store import Store
from ..disk.tensors import load_tensors
from ..disk.writing import read_picture
from ..memory import EditMemory
from .acknowledged import read_acknowledged
from .edit_keys import find_keys
from .findings import Found, FoundEdit
from .history import Counted, History
from .losses import describe_losses
from .statistics import read_statistics
from .tracing import trace_history

_TRIES = 3


def verify(folder: str | os.PathLike[str]) -> Found:
    """Read everything in a codebook's folder and say what is damaged; nothing is changed.

    Raises:
        NotFoundError: The folder holds no codebook.
        InputError: It holds one of a format that is not read.
        UnreadableError: A file must not be read, which says nothing of whether it is damaged.
    """
    path = Path(folder)
    for _ in range(_TRIES):  # somebody may write meanwhile
        with snapshot.reading(path):
            stamp = stamp_of(path)
            found = _read_folder(path)
        if not found.damages or stamp == stamp_of(path):
            break
    return found


def _read_folder(folder: Path) -> Found:
    found = Found()
    manifest, journal, pieces = read_acknowledged(folder, found)
    counted = _read_counted(folder, manifest, found)
    if manifest is None:
        history = trace_history(pieces, counted=counted)
    else:
        history = trace_history(pieces, manifest.journal, manifest.numbers, counted)
    found.records, found.events = history.records, history.events
    found.damages += [DamagedError(journal, start, what) for start, what in history.problems]
    found.manifest = manifest or _manifest_of(history.head, journal)
    find_keys(folder, manifest, history, found)
    read_statistics(folder, manifest, found)
    _read_pictures(folder, history, found)
    found.edits = _list_edits(history, found)
    found.losses = describe_losses(found, history)
    if not found.damages:
        _try_to_open(folder, found)
    return found


def _check(folder: Path, sums: Checksums, found: Found) -> Path | None:
    """A file, where it is what was written."""
    try:
        return sums.check(folder)
    except DamagedError as damage:
        found.damages.append(damage)
        return None


def _read_counted(folder: Path, manifest: Manifest | None, found: Found) -> Counted | None:
    settled = manifest.settled if manifest else None
    if settled is None:
        return None
    path = _check(folder, settled.sums, found)
    tensors = load_tensors(path) if path is not None else {}
    return Counted(settled.records, tensors["counts"].numpy().astype(bool)) if "counts" in tensors else None


def _manifest_of(head: Mapping[str, Any] | None, journal: Path) -> Manifest | None:
    """The manifest as far as the journal's first record says it."""
    name = parse_name(journal.name)
    if head is None or name is None:
        return None
    manifest = Manifest(head["id"], head["created"], head["fingerprint"], head["config"], bool(head["merge"]))
    return replace(
        manifest,
        across_kinds=head["across_kinds"],
        statistics=head["statistics"],
        statistics_digest=head["statistics_digest"],
        generation=name.generation,
        journal_file=journal.name,
    )


def _read_pictures(folder: Path, history: History, found: Found) -> None:
    edits = [*(event.edit for event in found.events), *(trace.changed for trace in history.edits.values())]
    for name in sorted({name for edit in edits if edit is not None for name in edit.pictures}):
        try:
            read_picture(folder, name)
            found.pictures.add(name)
        except DamagedError as damage:
            found.damages.append(damage)


def _list_edits(history: History, found: Found) -> list[FoundEdit]:
    edits = []
    for name, trace in sorted(history.edits.items(), key=lambda item: item[1].start):
        event = trace.event
        edit = event.edit if event is not None else trace.changed
        pictures = tuple(p for p in edit.pictures if p in found.pictures) if edit is not None else ()
        keys = name in found.keys or (event is not None and not (event.facts or event.lost_facts))
        edits.append(
            FoundEdit(name, trace.start, trace.counts, trace.doubt, event, trace.guess, trace.changed, keys, pictures)
        )
    return edits


def _try_to_open(folder: Path, found: Found) -> None:
    """Open the codebook: whatever its parts look like, that is what counts."""
    try:
        store = Store.open(folder)
        EditMemory.read(store)  # which warns of nothing
    except DamagedError as damage:
        found.damages.append(damage)
        return
    leftovers = store.leftovers()
    if leftovers:
        size = sum(path.stat().st_size for path in leftovers) / 2**20
        found.notes.append(
            f"{len(leftovers)} files of {size:.1f} MiB are left over from what was cut short: 'reasonedit codebook "
            "compact' removes them"
        )
