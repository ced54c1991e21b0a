"""The note of an erasure that is under way: it names the edits until nothing of them is left in the folder."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from reasonedit.codebook.disk.files import read_content, write_atomically
from reasonedit.errors import ReasonEditError
from reasonedit.traces import remove

NOTE = ".erasing.json"
_MAX_BYTES = 64 * 2**20


def read_note(folder: Path) -> set[str]:
    """Ids of the edits that are being erased; none where the note is missing or makes no sense."""
    try:
        return {name for name in json.loads(read_content(folder / NOTE, _MAX_BYTES)) if isinstance(name, str)}
    except (ReasonEditError, ValueError, TypeError, RecursionError):
        return set()


def write_note(folder: Path, ids: Collection[str]) -> None:
    """Name the edits that are being erased; without any, remove the note.

    Raises:
        OSError: It cannot be written.
    """
    if not ids:
        remove_note(folder)
        return
    with write_atomically(folder / NOTE) as file:
        file.write(json.dumps(sorted(ids)).encode())


def remove_note(folder: Path) -> None:
    """Remove the note, and what a killed process left of writing one.

    Raises:
        OSError: It cannot be removed.
    """
    for path in (*folder.glob(f".{NOTE}.*.part"), folder / NOTE):
        remove(path)
