"""What was acknowledged, in a folder that may be damaged: the manifest, and the records up to the last one it names."""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from pathlib import Path

from reasonedit.errors import NotFoundError, ReasonEditError

from ..disk.errors import DamagedError
from ..disk.files import is_there, read_content
from ..disk.layout import JOURNAL, journals
from ..disk.manifest import MANIFEST, Manifest
from ..disk.store import Store
from ..disk.writing import head_record
from .findings import Found
from .mend import mend_manifest
from .salvage import Piece, salvage_journal

_FIXED = ("id", "fingerprint", "statistics", "statistics_digest")
"""What the journal's first record and the manifest must say alike."""
_JOURNAL_MOST = 1 << 34
"""Bytes."""


def read_acknowledged(folder: Path, found: Found) -> tuple[Manifest | None, Path, list[Piece]]:
    """Read the manifest and the journal.

    Args:
        folder: The codebook's folder.
        found: Told what is damaged.

    Returns:
        The manifest, where it is there and goes with the journal; the journal's file; and its records, up to the last
        one that was acknowledged.

    Raises:
        NotFoundError: The folder holds no codebook.
        InputError: It holds one of a format that is not read.
        UnreadableError: A file must not be read.
    """
    manifest = _read_manifest(folder, found)
    paths = [path for path, _ in journals(folder)] or [folder / JOURNAL]
    journal = paths[-1] if manifest is None else folder / manifest.journal_file
    mark = manifest.journal if manifest else None
    try:
        salvage = salvage_journal(read_content(journal, _JOURNAL_MOST), mark.sum if mark else "")
    except DamagedError as damage:
        found.damages.append(damage)
        return manifest, journal, []
    if salvage.rewritten:
        found.damages.append(DamagedError(journal, salvage.at, salvage.rewritten))
    pieces = salvage.pieces
    if manifest is not None and not _fit(manifest, pieces):
        found.damages.append(DamagedError(folder / MANIFEST, 0, "it does not fit the journal"))
        manifest = mark = None
    if mark is None:
        return manifest, journal, pieces
    end = next((i for i, piece in enumerate(pieces, 1) if piece.sum == mark.sum), mark.records)
    if len(pieces) > end:
        at = pieces[end].start
        found.notes.append(f"'{journal}' goes on behind byte {at} with what was never acknowledged")
    return manifest, journal, pieces[:end]


def _read_manifest(folder: Path, found: Found) -> Manifest | None:
    path = folder / MANIFEST
    try:
        return Manifest.read(folder)
    except DamagedError as damage:
        found.damages.append(damage)
    except ReasonEditError as error:
        if is_there(path):  # of another format
            raise
        if not journals(folder):
            raise NotFoundError(f"{error}{_name_copy(folder)}") from error
        found.damages.append(DamagedError(path, 0, "the file is missing"))
        return None
    return mend_manifest(path)


def _name_copy(folder: Path) -> str:
    """A sentence on the latest copy of a damaged codebook beside the folder where one should be, or nothing."""
    copies = [path for path in folder.parent.glob(f"{glob.escape(folder.name)}.damaged-*") if Store.exists(path)]
    return f" '{max(copies)}' holds a copy of one that was damaged." if copies else ""


def _fit(manifest: Manifest, pieces: Sequence[Piece]) -> bool:
    """Whether the manifest is that of the journal, as far as the journal is still there."""
    if not pieces:
        return True
    head, expected = pieces[0].values or {}, json.loads(json.dumps(head_record(manifest)))
    if any(name in head and head[name] != expected[name] for name in _FIXED):
        return False
    mark = manifest.journal
    if any(piece.sum == mark.sum for piece in pieces) or len(pieces) < mark.records:
        return True
    return pieces[mark.records - 1].values is None
