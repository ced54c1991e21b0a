"""Codebooks that are being begun: until the manifest is there, a note says that nothing of it was acknowledged yet."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from reasonedit.errors import ReasonEditError

from .errors import DamagedError
from .files import stage
from .journal import Journal
from .layout import JOURNAL, journals
from .manifest import MANIFEST

NOTE = ".begun.json"


def write_note(folder: Path, name: str, records: int) -> None:
    """Say that a codebook is being begun.

    Args:
        folder: The folder.
        name: The codebook's id.
        records: How many records its journal is to have.

    Raises:
        OSError: It cannot be written.
    """
    with stage(folder / NOTE) as part:
        part.write_text(json.dumps({"id": name, "records": records}), encoding="utf-8")


def remove_note(folder: Path) -> None:
    """Say so no more: the codebook is there."""
    with contextlib.suppress(OSError):
        (folder / NOTE).unlink(missing_ok=True)


def refuse_lost(folder: Path) -> None:
    """Refuse to begin a codebook where one has lost its manifest.

    One that was cut short while it was begun is not in the way: nobody was told that it is there.

    Raises:
        ReasonEditError: There is the journal of one.
    """
    for path, _ in journals(folder):
        if not _never_was(folder, Journal(path)):
            raise ReasonEditError(
                f"'{folder}' holds the journal of a codebook but no {MANIFEST}: 'reasonedit codebook repair' makes it "
                "anew."
            )


def _never_was(folder: Path, journal: Journal) -> bool:
    """Whether all that a journal says was written while its codebook was begun."""
    lines = journal.lines()
    if lines <= 1:  # what happened to it begins with the second
        return True
    try:
        told = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        _, head, _ = next(iter(journal.salvage()))
        begun = head is not None and head["id"] == told["id"] and lines <= int(told["records"])
    except (OSError, ValueError, KeyError, TypeError, DamagedError):
        return False
    return begun and journal.path.name == JOURNAL
