"""Codebooks that are being begun: until the manifest is there, a note says that nothing was acknowledged yet."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from reasonedit.errors import ConflictError

from .errors import DamagedError
from .files import stage
from .journal import Journal
from .layout import JOURNAL, journals
from .manifest import MANIFEST

NOTE = ".begun.json"


def write_note(folder: Path, codebook_id: str, records: int) -> None:
    """Note that a codebook is being begun.

    Args:
        folder: The folder.
        codebook_id: The codebook's id.
        records: How many records its journal is to have.

    Raises:
        OSError: It cannot be written.
    """
    with stage(folder / NOTE) as part:
        part.write_text(json.dumps({"id": codebook_id, "records": records}), encoding="utf-8")


def remove_note(folder: Path) -> None:
    """Remove the note: the codebook is there, or nothing of it is."""
    with contextlib.suppress(OSError):
        (folder / NOTE).unlink(missing_ok=True)


def refuse_lost(folder: Path) -> None:
    """Refuse to begin a codebook where another one has lost its manifest.

    One that was cut short while it was begun is not in the way: nobody was told that it is there.

    Raises:
        ConflictError: The journal of another one is there.
    """
    for path, _ in journals(folder):
        if not _was_only_begun(folder, Journal(path)):
            raise ConflictError(
                f"'{folder}' holds the journal of a codebook but no {MANIFEST}: 'reasonedit codebook repair' makes it "
                "again."
            )


def _was_only_begun(folder: Path, journal: Journal) -> bool:
    """Whether all records of a journal were written while its codebook was begun."""
    lines = journal.count_lines()
    if lines <= 1:  # the second is the first event
        return True
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        head = journal.read_head()
        begun = head is not None and head["id"] == note["id"] and lines <= int(note["records"])
    except (OSError, ValueError, KeyError, TypeError, DamagedError):
        return False
    return begun and journal.path.name == JOURNAL
