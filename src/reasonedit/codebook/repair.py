"""What is damaged in a codebook's folder, and what can be recovered of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reasonedit.errors import ReasonEditError

from .events import Event
from .files import DamagedError, Sums
from .journal import Journal
from .layout import JOURNAL, KEYS, PICTURES
from .lock import FILES, WriterLock
from .manifest import MANIFEST, Manifest
from .memory import EditMemory
from .records import StoredEdit, row_of
from .store import Store, loaded

LOST = "lost-edits.jsonl"
_TRIES = 3


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        damages: What is damaged.
        notes: What lies there and does not count; harmless.
        head: What the codebook was made with; none where neither manifest nor journal say.
        events: What can be read of what happened.
        keys: The keys and radii of each edit that still has them, by id.
        pictures: The pictures that are whole, by name.
        unread: How many records of the journal cannot be read.
        statistics: What the embedding needs, where it is whole; else it is taken anew.
    """

    damages: list[DamagedError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    head: dict[str, Any] | None = None
    events: list[Event] = field(default_factory=list)
    keys: dict[str, tuple[Tensor, np.ndarray[Any, Any]]] = field(default_factory=dict)
    pictures: set[str] = field(default_factory=set)
    unread: int = 0
    statistics: dict[str, Tensor] = field(default_factory=dict)

    @property
    def whole(self) -> list[str]:
        """Ids of the edits that can be recovered with all that they need to answer."""
        return [e.edit_id for e in self.events if e.edit is not None and e.edit_id in self.keys]

    @property
    def keyless(self) -> list[Event]:
        """Edits whose text is whole but whose keys are lost: they can be embedded anew."""
        return [e for e in self.events if e.edit is not None and e.edit_id not in self.keys]


def verify(folder: str | os.PathLike[str]) -> Found:
    """Read everything in a codebook's folder and say what is damaged; nothing is changed.

    Raises:
        ReasonEditError: The folder holds no codebook at all.
    """
    there = Path(folder)
    for _ in range(_TRIES):  # somebody may write meanwhile
        stamp = _stamp(there)
        found = _verify(there)
        if not found.damages or stamp == _stamp(there):
            break
    return found


def _stamp(there: Path) -> object:
    try:
        found = (there / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _verify(there: Path) -> Found:
    if not (there / MANIFEST).exists() and not (there / JOURNAL).exists():
        raise ReasonEditError(f"There is no codebook in '{there}': it would hold a file {MANIFEST}.")
    found = Found()
    manifest: Manifest | None = None
    try:
        manifest = Manifest.read(there)
        found.head = {n: getattr(manifest, n) for n in ("fingerprint", "config", "merge")}
    except DamagedError as damage:
        found.damages.append(damage)
    except ReasonEditError as error:
        if (there / MANIFEST).exists():
            raise
        found.damages.append(DamagedError(there / MANIFEST, 0, f"the file is missing ({error})"))
    if manifest is not None and not _fits(there, manifest):
        found.damages.append(DamagedError(there / MANIFEST, 0, "it does not fit the journal"))
        manifest = None
    extents = _journal(there, manifest, found)
    _keys(there, manifest, extents, found)
    if manifest is not None:
        for sums in (manifest.statistics, manifest.settled.sums if manifest.settled else None):
            if sums is not None:
                _checked(there, sums, found)
    statistics = there / "statistics.safetensors"
    if statistics.exists() and not any(d.path == statistics for d in found.damages):
        try:
            found.statistics = loaded(statistics)
        except DamagedError as damage:
            found.damages.append(damage)
    _pictures(there, found)
    if not found.damages:  # whatever the parts look like: what counts is whether it opens
        try:
            EditMemory.open(Store.open(there))
        except DamagedError as damage:
            found.damages.append(damage)
    return found


def _fits(there: Path, manifest: Manifest) -> bool:
    """Whether the manifest is that of the journal, as far as that is still there."""
    try:
        lines = list(Journal(there / JOURNAL).salvage())
    except DamagedError:
        return True
    if lines and lines[0][1] is not None and lines[0][1].get("id") != manifest.id:
        return False
    ends = {start: values for start, values, _ in lines}
    last = max((start for start in ends if start < manifest.journal.bytes), default=None)
    values = ends[last] if last is not None else None
    beyond = [start for start in ends if start >= manifest.journal.bytes]
    return (
        not beyond
        or values is None
        or (values.get("sum"), beyond[0])
        == (
            manifest.journal.sum,
            manifest.journal.bytes,
        )
    )


def _journal(there: Path, manifest: Manifest | None, found: Found) -> dict[str, tuple[int, int, Sums | None]]:
    """Read the journal line by line; where each edit's keys are: number of the first, how many, in which file."""
    journal, extents = Journal(there / JOURNAL), dict[str, tuple[int, int, Sums | None]]()
    end = manifest.journal.bytes if manifest is not None else None
    after, broken = "", False
    known: set[str] = set()
    try:
        lines = list(journal.salvage())
    except DamagedError as damage:
        found.damages.append(damage)
        return extents
    for start, values, problem in lines:
        if end is not None and start >= end:
            found.notes.append(f"'{journal.path}' goes on behind byte {end} with what was never acknowledged")
            break
        if values is None:
            found.damages.append(DamagedError(journal.path, start, problem))
            found.unread += 1
            broken = True
            continue
        if values.get("after") != after and not broken:
            found.damages.append(DamagedError(journal.path, start, "a record before this one is missing or changed"))
        broken, after = False, values.get("sum", "")
        try:
            if values.get("op") == "create":
                head = {n: values[n] for n in ("fingerprint", "config", "merge")}
                found.head = found.head or head
                continue
            event = Event.from_dict(values)
            taken = event.edit is not None and event.edit_id in known
            if taken or (event.edit is None and event.edit_id not in known):
                raise ValueError(f"it speaks of the edit '{event.edit_id}', which is not known there, or known already")
            if event.edit is not None:
                where = Sums.from_dict(values["keys"]) if values.get("keys") is not None else None
                extents[event.edit_id] = (event.first, len(event.facts), where)
                known.add(event.edit_id)
            found.events.append(event)
        except (KeyError, TypeError, ValueError) as error:
            found.damages.append(DamagedError(journal.path, start, f"the record makes no sense ({error})"))
            found.unread += 1
    size = journal.path.stat().st_size
    if end is not None and size < end:
        found.damages.append(DamagedError(journal.path, size, f"it ends there, and should have {end} bytes"))
    return extents


def _keys(
    there: Path, manifest: Manifest | None, extents: dict[str, tuple[int, int, Sums | None]], found: Found
) -> None:
    """The keys of each edit: from the file of its own, or from one in which files were joined."""
    parts: list[tuple[int, dict[str, Tensor]]] = []
    sealed = manifest.sealed if manifest is not None else ()
    for part in sealed:
        if _checked(there, part.sums, found):
            parts.append((part.first, loaded(there / part.sums.file)))
    if manifest is None:  # nothing says what joined files hold; their names do
        for path in sorted((there / KEYS).glob("*-joined.safetensors")):
            try:
                parts.append((int(path.name.split("-")[0]), loaded(path, "keys", "radii")))
            except (DamagedError, ValueError) as error:
                found.notes.append(f"'{path}' cannot be used ({error})")
    behind = sum(s.count for s in sealed)
    for name, (first, count, own) in extents.items():
        if count == 0:
            found.keys[name] = (torch.empty(0, 0), np.empty(0, np.float32))
            continue
        joined = next(((at, t) for at, t in parts if at <= first and first + count <= at + len(t["keys"])), None)
        if joined is not None:
            at, tensors = joined
            rows = slice(first - at, first - at + count)
        elif own is not None and (manifest is None or first >= behind) and _checked(there, own, found):
            tensors, rows = loaded(there / own.file), slice(0, count)
        else:
            continue
        found.keys[name] = (tensors["keys"][rows].clone(), tensors["radii"][rows].numpy().copy())


def _checked(there: Path, sums: Sums, found: Found) -> bool:
    try:
        sums.check(there)
    except DamagedError as damage:
        found.damages.append(damage)
        return False
    return True


def _pictures(there: Path, found: Found) -> None:
    wanted = {name for e in found.events if e.edit is not None for name in e.edit.pictures}
    store = Store(there, Manifest("", "", {}, {}, True))
    for name in sorted(wanted):
        try:
            store.picture(name)
            found.pictures.add(name)
        except DamagedError as damage:
            found.damages.append(damage)


def repair(folder: str | os.PathLike[str]) -> tuple[Found, Path | None]:
    """Make a damaged codebook whole again from what can be read of it.

    The damaged folder is kept beside the new one. Edits whose text is whole but whose keys are lost go into a file
    ``lost-edits.jsonl`` in the new folder, with their pictures, to be imported again.

    Returns:
        What was found, and where the damaged folder is now; nothing is moved where nothing was damaged.

    Raises:
        ReasonEditError: Nothing says what the codebook was made with, somebody else writes it, or there is no room.
    """
    there = Path(folder).resolve()
    with WriterLock(there).held_by_us():
        found = verify(there)
        if not found.damages:
            return found, None
        if found.head is None:
            raise ReasonEditError(
                f"The codebook in '{there}' cannot be repaired: neither {MANIFEST} nor the first line of {JOURNAL} "
                "says what it was made with."
            )
        now = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
        new, kept = there.with_name(f".{there.name}.{os.getpid()}.part"), there.with_name(f"{there.name}.damaged-{now}")
        try:
            _build(there, new, found)
            there.rename(kept)
            try:
                new.rename(there)
            except OSError:
                kept.rename(there)
                raise
            (kept / FILES[1]).unlink(missing_ok=True)
        except OSError as error:
            raise ReasonEditError(f"'{there}' cannot be repaired ({error.strerror}): nothing was changed.") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return found, kept


def _build(there: Path, new: Path, found: Found) -> None:
    head = found.head
    assert head is not None
    store = Store.create(new, head["fingerprint"], head["config"], found.statistics, merge=bool(head["merge"]))
    old = Store(there, store.manifest)
    with store.writing():
        events, first = [], 0
        for event in _recovered(found):
            edit = None if event.edit is None else _seen(event.edit, found.pictures)
            events.append(replace(event, edit=edit, first=first))
            first += len(event.facts)

        def written() -> Iterator[tuple[Tensor, np.ndarray[Any, Any], dict[str, Image.Image]]]:
            for event in events:
                if event.edit is not None:
                    pictures = {name: old.picture(name) for name in event.edit.pictures}
                    yield (*found.keys[event.edit_id], pictures)

        store.rewrite(events, written())
    EditMemory.open(Store.open(new)).settle(join=True)
    if found.keyless:
        _lost(old, new, found)


def _seen(edit: StoredEdit, pictures: set[str]) -> StoredEdit:
    """An edit without the pictures that are lost: it answers all the same."""
    given = [[r for r in mine if not isinstance(r, str) or r in pictures] for mine in edit.given]
    return replace(edit, image=edit.image if edit.image in pictures else "", given=given)


def _recovered(found: Found) -> Iterator[Event]:
    whole, alive = set(found.whole), dict[str, bool]()
    for event in found.events:
        # Turns of edits that are lost go, and such as make no sense without a turn that is lost.
        if event.edit_id in whole and alive.get(event.edit_id) != (event.op != "undo"):
            alive[event.edit_id] = event.op != "undo"
            yield event


def _lost(old: Store, new: Path, found: Found) -> None:
    lines = []
    turns = {event.edit_id: event.op for event in found.events}
    for event in found.keyless:
        assert event.edit is not None
        if turns[event.edit_id] == "undo":  # it would count again
            continue
        for name in event.edit.pictures:
            if name in found.pictures:
                target = new / PICTURES / f"{name}.png"
                shutil.copyfile(old.folder / PICTURES / f"{name}.png", target)
        if event.edit.image in found.pictures:
            lines.append(json.dumps(row_of(_seen(event.edit, found.pictures), PICTURES), ensure_ascii=False))
    (new / LOST).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
