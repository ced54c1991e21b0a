"""Edits that are erased for good: out of the codebook, and out of what was written beside it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reasonedit.errors import ReasonEditError
from reasonedit.traces import Gone, clean_run, copies_of, forget_evidence, holds, is_run, remove, replies_kept
from reasonedit.validation import check_name

from .disk.files import read_content, sync, write_atomically
from .disk.journal import parse_line
from .disk.layout import PICTURES, parse_name
from .disk.lock import LOCK_FILES
from .disk.manifest import MANIFEST
from .disk.store import Store
from .events import Event
from .memory import EditMemory
from .records import StoredEdit
from .rescue.lost import LOST, LOST_PICTURES

_NOTE = ".erasing.json"
"""Names the edits that are being erased, until nothing of them is left in the folder."""
_PATIENCE = 10.0
_MOST = 64 * 2**20

NOT_LOOKED_FOR = (
    "Nobody knows, and you have to see to it: exports, backups and codebooks migrated or pulled from this one; the Hub "
    "with its history; the data and probe files that the edits came from; other runs, results of experiments, reports, "
    "and pictures drawn of edits; logs of terminals and shells; snapshots and backups of the disk, and its swap. Space "
    "on the disk is given back, not overwritten."
)


@dataclass(frozen=True)
class Erasing:
    """What is, or was, to be erased, and what is left.

    Attributes:
        edits: The edits; those that an erasing which was cut short has taken out of the codebook are not among them.
        here: What goes beside them, in words.
        elsewhere: What may be left and where, in words.
    """

    edits: list[StoredEdit]
    here: list[str]
    elsewhere: list[str]


def erasing(memory: EditMemory, ids: Sequence[str]) -> Erasing:
    """What :func:`erase_from` would erase; nothing is changed.

    Args:
        memory: The codebook.
        ids: The edits.

    Raises:
        ReasonEditError: There is no such edit, or the codebook is in no folder.
    """
    store = _store_of(memory)
    edits, _ = _told(memory, store.folder, ids)
    gone, folder, run = _gone(memory, edits), store.folder, store.folder.parent
    here = []
    if edits:
        shared = {name for edit in edits for name in edit.pictures} - gone.pictures
        stay = f" ({len(shared)} more stay, which other edits have, too)" if shared else ""
        pictures = "1 picture" if len(gone.pictures) == 1 else f"{len(gone.pictures)} pictures"
        here.append(f"their text, keys and history, and {pictures}{stay}")
    here += [f"'{path}', as a whole" for path in _copies(folder, gone)]
    if is_run(run):
        here.append(
            f"in '{run}': their rows and those of their probes, their facts in other rows, and of TensorBoard the "
            "pictures of queries with facts; the figures stay"
        )
    return Erasing(edits, here, _elsewhere(store))


def erase(folder: str | os.PathLike[str], ids: Sequence[str], author: str = "") -> Erasing:
    """Erase edits of the codebook in a folder; see :func:`erase_from`.

    Raises:
        ReasonEditError: As for :func:`erase_from`; or there is no codebook, or it is damaged.
    """
    return erase_from(EditMemory.open(Store.open(folder)), ids, author)


def erase_from(memory: EditMemory, ids: Sequence[str], author: str = "") -> Erasing:
    """Erase edits for good: their text, keys, pictures and history, in the codebook and in what lies beside it.

    All others answer as if these had never been. That so many edits were erased, when and by whom, is kept; which ones
    is not. Their ids may be used again. A picture stays that another edit has, too.

    Beside the codebook go damaged copies of it that hold any of the edits (as a whole), the edits' sentences in the
    cache of evidence, and, where the folder lies in that of a run, what the run wrote of them: rows of its log and of
    its predictions, pictures for TensorBoard, the story of a demo. What may be left elsewhere is told.

    Killed at any moment, they are erased or not; called again with the same ids it finishes.

    Args:
        memory: The codebook, kept in a folder.
        ids: The edits, undone ones too: their ids, or the beginnings of them.
        author: Who erases them.

    Raises:
        ReasonEditError: There is no such edit, somebody else writes, or something cannot be written: then nothing is
            erased of the codebook, and the same call does the rest. Or somebody has been reading it all the time: then
            they are erased, but files that held them are there until this is called again.
    """
    author, store = check_name(author or "", "author"), _store_of(memory)
    with store.writing():
        memory.refresh()
        edits, before = _told(memory, store.folder, ids)
        gone = _gone(memory, edits)

        def chosen(events: list[Event]) -> list[Event]:
            if memory.store is not store:
                raise ReasonEditError("The codebook was saved elsewhere meanwhile: nothing is erased, call this again.")
            return _without(events, gone.ids, author)

        try:
            _note(store.folder, before | gone.ids)
            try:
                here = _clean_around(store.folder, gone)
            except BaseException:  # nothing of the codebook itself is touched yet
                _note(store.folder, before)
                raise
            if any(event.edit_id in gone.ids for event in memory.events):
                memory.rewrite(chosen)
        except OSError as error:
            raise ReasonEditError(
                f"'{error.filename or store.folder}' cannot be written ({error.strerror or error}): no edit is erased "
                "yet; see to it, and run the same again."
            ) from error
        memory.settle(join=True)
        left = store.tidy(_PATIENCE)
        if left:
            raise ReasonEditError(
                f"The edits are erased, but {len(left)} files that held them are still there, since somebody reads the "
                f"codebook in '{store.folder}': run the same again when that is done."
            )
        try:
            _forget(store.folder)
        except OSError as error:
            raise ReasonEditError(
                f"The edits are erased, but '{store.folder / _NOTE}', which names them, cannot be removed "
                f"({error.strerror or error}): see to it, and run the same again."
            ) from error
        return Erasing(edits, here, [*_elsewhere(store), *_foreign(store.folder, gone)])


def _store_of(memory: EditMemory) -> Store:
    if memory.store is None:
        raise ReasonEditError(
            "The codebook is only in memory: nothing of it is on the disk, and 'undo' takes an edit out."
        )
    return memory.store


def _told(memory: EditMemory, folder: Path, ids: Sequence[str]) -> tuple[list[StoredEdit], set[str]]:
    """The edits that are there, and the ids that an erasing which was cut short took out already.

    Raises:
        ReasonEditError: One is neither.
    """
    there = {e.edit_id for e in memory.events if e.edit is not None}
    before = _noted(folder) - there
    lost = {edit.id: edit for edit in _lost(folder) if edit.id not in there}
    edits = {}
    for name in ids:
        if name in lost or name not in before:
            edit = lost[name] if name in lost else memory.find(name)
            edits[edit.id] = edit
    return list(edits.values()), before


def _lost(folder: Path) -> list[StoredEdit]:
    """What a repair that could not keep edits wrote down of them."""
    try:
        lines = read_content(folder / LOST, _MOST).splitlines()
    except ReasonEditError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
            row = json.loads(line)
            texts = {n: row[n] for n in ("id", "question", "answer") if isinstance(row.get(n), str)}
            sentences = [s for s in row.get("reasoning") or () if isinstance(s, str)]
            image = Path(str(row.get("image", ""))).stem
            found.append(StoredEdit(**{"question": "", "answer": "", **texts}, reasoning=sentences, image=image))
    return found


def _noted(folder: Path) -> set[str]:
    try:
        return {name for name in json.loads(read_content(folder / _NOTE, _MOST)) if isinstance(name, str)}
    except (ReasonEditError, ValueError, TypeError, RecursionError):
        return set()


def _note(folder: Path, ids: Collection[str]) -> None:
    if not ids:
        _forget(folder)
        return
    with write_atomically(folder / _NOTE) as file:
        file.write(json.dumps(sorted(ids)).encode())


def _forget(folder: Path) -> None:
    for path in (*folder.glob(f".{_NOTE}.*.part"), folder / _NOTE):  # also of one who was killed
        remove(path)


def _gone(memory: EditMemory, edits: Sequence[StoredEdit]) -> Gone:
    """What is to be taken out with edits: what others have, too, is theirs and stays."""
    ids = {edit.id for edit in edits}
    mine, others = (
        [e for e in memory.events if e.edit is not None and (e.edit_id in ids) == erased] for erased in (True, False)
    )
    theirs = [e.edit for e in others if e.edit is not None]
    return Gone(
        ids=frozenset(ids),
        texts=frozenset((_texts(mine) | _sentences(edits)) - _texts(others) - _sentences(theirs)),
        answers=frozenset(answer for edit in edits for answer in edit.targets if answer),
        questions=frozenset({edit.question for edit in edits} - {edit.question for edit in theirs}),
        pictures=frozenset(_pictures(edits) - _pictures(theirs)),
        sentences=frozenset(_sentences(edits)),
    )


def _texts(events: Sequence[Event]) -> set[str]:
    return {text for e in events for text, _ in (*e.facts, *e.lost_facts)}


def _sentences(edits: Sequence[StoredEdit]) -> set[str]:
    return {sentence for edit in edits for sentence in edit.reasoning if sentence}


def _pictures(edits: Sequence[StoredEdit]) -> set[str]:
    return {name for edit in edits for name in edit.pictures}


def _without(events: Sequence[Event], ids: Collection[str], author: str) -> list[Event]:
    """What is to have happened instead, with a word on what was done to it."""
    kept = [_unnamed(event, ids) for event in events if event.edit_id not in ids]
    count = sum(event.edit is not None and event.edit_id in ids for event in events)
    return [*kept, Event.of_erasing(count, author)]


def _unnamed(event: Event, ids: Collection[str]) -> Event:
    """An edit that does not say of those which are erased that it contradicts them."""
    if event.edit is None:
        return event
    return replace(event, edit=replace(event.edit, contradicts=[n for n in event.edit.contradicts if n not in ids]))


# ---- beside the codebook


def _clean_around(folder: Path, gone: Gone) -> list[str]:
    """Take what is erased out of all that lies around; what was done, in words.

    Raises:
        OSError: Something cannot be written.
        ReasonEditError: The cache cannot be cleaned.
    """
    done = []
    for path in _copies(folder, gone):
        shutil.rmtree(path)
        sync(path.parent)
        done.append(f"'{path}', as a whole")
    if _clean_lost(folder, gone):
        done.append(f"'{folder / LOST}'")
    if is_run(folder.parent):
        done += [f"'{path}'" for path in clean_run(folder.parent, gone)]
    searches = forget_evidence(gone)
    if searches:
        done.append(f"{searches} searches in the cache of evidence")
    return done


def _copies(folder: Path, gone: Gone) -> list[Path]:
    """Damaged copies of a codebook, and what was left of making one, that hold any of it or may."""
    kind = re.compile(rf"{re.escape(folder.name)}\.damaged-.+|\.{re.escape(folder.name)}\..+")
    found = [path for path in folder.parent.iterdir() if kind.fullmatch(path.name) and path.is_dir()]
    return [path for path in sorted(found) if not path.is_symlink() and _may_hold(path, gone)]


def _may_hold(copy: Path, gone: Gone) -> bool:
    """Whether a copy holds any of it, or what is damaged there may have been."""
    if any((copy / PICTURES / f"{name}.png").exists() for name in gone.pictures):
        return True
    journals = sorted(copy.glob("journal*.jsonl"))
    if not journals and not (copy / MANIFEST).exists() and not (copy / PICTURES).exists():
        return False  # nothing of a codebook
    lines = [parse_line(raw)[0] for path in journals for raw in path.read_bytes().split(b"\n") if raw]
    ids = [values.get("id") or (values.get("edit") or {}).get("id") for values in lines if values is not None]
    return not lines or None in lines or not gone.ids.isdisjoint(ids)


def _clean_lost(folder: Path, gone: Gone) -> bool:
    """Take rows out of the file of edits that a repair could not keep, and the pictures that only they had."""
    path = folder / LOST
    if not path.is_file():
        return False
    before = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in before if not _is_of(line, gone)]
    for picture in sorted((folder / LOST_PICTURES).glob("*.png")):
        if not any(picture.name.encode() in line for line in kept):
            remove(picture)
    if kept == before:
        return False
    if kept:
        with write_atomically(path) as file:
            file.write(b"".join(kept))
    else:
        remove(path)
    return True


def _is_of(line: bytes, gone: Gone) -> bool:
    try:
        return bool(json.loads(line)["id"] in gone.ids)
    except (ValueError, LookupError, TypeError, RecursionError):
        return gone.is_in(line)


def _elsewhere(store: Store) -> list[str]:
    """Where more of them may be, as far as that can be seen."""
    told = [f"'{path}' holds a copy of this codebook" for path in copies_of(store.folder, store.manifest.id)]
    replies = replies_kept()
    if replies is not None:
        told.append(f"'{replies}' keeps what unedited models answered, under checksums of the questions")
    return told


def _foreign(folder: Path, gone: Gone) -> list[str]:
    """Files that others put into the folder, or into that of its run, and that hold any of it."""
    own = {MANIFEST, LOST, _NOTE, *LOCK_FILES}
    files = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).as_posix() not in own]
    files = [path for path in files if parse_name(path.relative_to(folder).as_posix()) is None]
    if is_run(folder.parent):
        files += [path for path in folder.parent.rglob("*") if path.is_file() and folder not in path.parents]
    told = []
    for path in sorted(files):
        try:
            if holds(path, gone):
                told.append(f"'{path}' holds words of them")
        except OSError as error:
            told.append(f"'{path}' cannot be read ({error.strerror}), and may hold them")
    return told
