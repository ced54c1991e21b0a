"""Finds the keys of each edit in a folder that may be damaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..disk.checksums import Checksums
from ..disk.layout import KEYS, parse_name
from ..disk.manifest import Manifest
from ..events import Event
from .findings import Found
from .history import History
from .keyfiles import KeyFile, first_proven


def find_keys(folder: Path, manifest: Manifest | None, history: History, found: Found) -> None:
    """Find the keys of each edit: in a file of its own, or in one in which files were joined.

    Args:
        folder: The codebook's folder.
        manifest: Its manifest, where it is there.
        history: What is known of what happened.
        found: Gets the keys, and is told what is damaged.

    Raises:
        UnreadableError: A file must not be read.
    """
    joined = _joined_files(folder, manifest, history)
    joined_numbers = sum(part.count for part in manifest.sealed) if manifest else 0
    found.damages += [file.damage for file in joined if file.damage is not None]
    for name, trace in history.edits.items():
        event = trace.event
        if event is None or not event.facts:
            continue
        count = len(event.facts)
        rows = first_proven(joined, event.first, count, trace.sums)
        if rows is None and trace.sums is not None:
            own = KeyFile.read(folder, trace.sums, event.first, count)
            is_needed = event.first >= joined_numbers and not any(_covers(file, event) for file in joined)
            if own.damage is not None and is_needed:
                found.damages.append(own.damage)
            rows = own.rows(event.first, count, trace.sums)
        if rows is not None:
            found.keys[name] = rows


def _joined_files(folder: Path, manifest: Manifest | None, history: History) -> list[KeyFile]:
    """The files in which keys were joined: those that the manifest names, or without one all that lie there."""
    if manifest is not None:
        return [KeyFile.read(folder, part.sums, part.first, part.count) for part in manifest.sealed]
    sums_of: Mapping[str, Checksums] = {} if history.head is None else history.head["keys"]
    files = []
    for path in sorted((folder / KEYS).glob("*-joined.safetensors")):
        name = path.relative_to(folder).as_posix()
        parts = parse_name(name)
        if parts is None or parts.kind != "joined":
            continue
        count, sums = int(path.name.split("-")[-2]), sums_of.get(name)
        file = KeyFile.read(folder, sums, parts.first, count) if sums else None
        files.append(file or KeyFile.read_unproven(path, parts.first, count))
    return files


def _covers(file: KeyFile, event: Event) -> bool:
    return file.first <= event.first and event.first + len(event.facts) <= file.first + file.count
