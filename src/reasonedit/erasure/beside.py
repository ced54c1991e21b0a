"""What lies beside a codebook and holds erased edits: what can be cleaned, and what can only be named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from reasonedit.codebook import Store
from reasonedit.codebook.disk.files import sync, write_atomically
from reasonedit.codebook.disk.journal import parse_line
from reasonedit.codebook.disk.layout import PICTURES, parse_name
from reasonedit.codebook.disk.lock import LOCK_FILES
from reasonedit.codebook.disk.manifest import MANIFEST
from reasonedit.codebook.rescue.lost import LOST, LOST_PICTURES
from reasonedit.traces import (
    ErasedEdits,
    KeptQuestions,
    clean_run,
    file_holds,
    find_cached_replies,
    find_same_codebook,
    folder_of_questions,
    forget_evidence,
    is_run,
    remove,
)

from .note import NOTE


def clean_beside(folder: Path, erased: ErasedEdits) -> list[str]:
    """Take edits out of all that lies beside a codebook.

    Returns:
        What was cleaned, in words.

    Raises:
        OSError: Something cannot be written.
        ReasonEditError: The cache cannot be cleaned.
    """
    cleaned = []
    for path in find_copies(folder, erased):
        shutil.rmtree(path)
        sync(path.parent)
        cleaned.append(f"'{path}', as a whole")
    if _clean_lost(folder, erased):
        cleaned.append(f"'{folder / LOST}'")
    for run in runs_around(folder):
        cleaned += [f"'{path}'" for path in clean_run(run, erased)]
    questions = KeptQuestions(folder_of_questions(folder)).forget(erased)
    if questions:
        cleaned.append(f"{questions} questions in '{folder_of_questions(folder)}'")
    searches = forget_evidence(erased)
    if searches:
        cleaned.append(f"{searches} searches in the cache of evidence")
    return cleaned


def find_copies(folder: Path, erased: ErasedEdits) -> list[Path]:
    """Damaged copies of a codebook, and unfinished ones, that hold or may hold any of the edits."""
    copies = list[Path]()
    for place in _places(folder):
        kind = re.compile(rf"{re.escape(place.name)}\.damaged-.+|\.{re.escape(place.name)}\..+")
        found = [path for path in place.parent.iterdir() if kind.fullmatch(path.name) and path.is_dir()]
        copies += [path for path in sorted(found) if not path.is_symlink() and _may_hold(path, erased)]
    return copies


def runs_around(folder: Path) -> list[Path]:
    """The folders of runs in which a codebook lies."""
    return [place.parent for place in _places(folder) if is_run(place.parent)]


def _places(folder: Path) -> list[Path]:
    """A codebook's folder and, where that is a link, what it leads to: things may lie beside either."""
    real = folder.resolve()
    return [folder] if folder.parent.resolve() / folder.name == real else [folder, real]


def _may_hold(copy: Path, erased: ErasedEdits) -> bool:
    """Whether a copy holds any of the edits, or is too damaged to tell."""
    if any((copy / PICTURES / f"{name}.png").exists() for name in erased.pictures):
        return True
    lost = copy / LOST  # of an earlier repair
    if lost.is_file() and any(_is_of(line, erased) for line in lost.read_bytes().splitlines()):
        return True
    journals = sorted(copy.glob("journal*.jsonl"))
    if not journals and not (copy / MANIFEST).exists() and not (copy / PICTURES).exists():
        return False  # it is no codebook
    lines = [parse_line(raw)[0] for path in journals for raw in path.read_bytes().split(b"\n") if raw]
    ids = [values.get("id") or (values.get("edit") or {}).get("id") for values in lines if values is not None]
    return not lines or None in lines or not erased.ids.isdisjoint(ids)


def _clean_lost(folder: Path, erased: ErasedEdits) -> bool:
    """Take rows out of the file of edits that a repair could not keep, and the pictures that only they had."""
    path = folder / LOST
    if not path.is_file():
        return False
    before = path.read_bytes().splitlines(keepends=True)
    rest = [line for line in before if not _is_of(line, erased)]
    for picture in sorted((folder / LOST_PICTURES).glob("*.png")):
        if not any(picture.name.encode() in line for line in rest):
            remove(picture)
    if rest == before:
        return False
    if rest:
        with write_atomically(path) as file:
            file.write(b"".join(rest))
    else:
        remove(path)
    return True


def _is_of(line: bytes, erased: ErasedEdits) -> bool:
    """Whether a row is one of the edits."""
    try:
        return bool(json.loads(line)["id"] in erased.ids)
    except (ValueError, LookupError, TypeError, RecursionError):
        return erased.is_in(line)


def name_other_places(store: Store, going: Collection[Path] = ()) -> list[str]:
    """Name the places where more of the edits may be, as far as they can be seen.

    Args:
        store: The codebook.
        going: Copies of it that are to be removed.
    """
    copies = [path for place in _places(store.folder) for path in find_same_codebook(place, store.manifest.id)]
    places = [f"'{path}' holds a copy of this codebook" for path in dict.fromkeys(copies) if path not in going]
    replies = find_cached_replies()
    if replies is not None:
        places.append(f"'{replies}' keeps what unedited models answered, under checksums of the questions")
    return places


def name_files_of_others(folder: Path, erased: ErasedEdits) -> list[str]:
    """Name the files that others put into the folder, or into that of its run, and that hold any of the edits."""
    own, own_places = {MANIFEST, LOST, NOTE, *LOCK_FILES}, set(_places(folder))
    files = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).as_posix() not in own]
    files = [path for path in files if parse_name(path.relative_to(folder).as_posix()) is None]
    for run in runs_around(folder):
        files += [path for path in run.rglob("*") if path.is_file() and own_places.isdisjoint(path.parents)]
    names = []
    for path in sorted(files):
        try:
            if file_holds(path, erased):
                names.append(f"'{path}' holds words of them")
        except OSError as error:
            names.append(f"'{path}' cannot be read ({error.strerror}), and may hold them")
    return names
