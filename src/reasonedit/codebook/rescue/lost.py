"""A file in the repaired codebook that says what was lost of which edit; what can be imported again is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..disk.files import stage, sync
from ..disk.layout import PICTURES
from ..stored_edit import StoredEdit, row_of
from .findings import Found, FoundEdit
from .history import unnamed

LOST = "lost-edits.jsonl"
LOST_PICTURES = "lost-edits-pictures"
_REASONS = {
    "text": "its record cannot be read",
    "keys": "its keys are lost",
    "picture": "its picture is lost",
    "crops": "a picture of its evidence is lost",
}


def write_lost(folder: Path, found: Found) -> int:
    """Write what was lost of which edit, one row each, behind the rows of other edits.

    The rows have the columns that ``reasonedit codebook import`` reads, and a column ``lost`` that says what is lost.
    An edit that cannot be imported, as its picture or its text is lost, or that must not be, as it was undone, has no
    column ``image``.

    Args:
        folder: The codebook.
        found: What was found in it.

    Returns:
        How many edits have lost something.

    Raises:
        OSError: It cannot be written.
    """
    rows = list(_rows(folder, found))
    if not rows:
        return 0
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    # At the same byte the record of another edit may have been lost in an earlier repair.
    names = {row["id"] for row in rows if not row["id"].startswith(unnamed(""))}
    others = [line for line in _read_lines(folder) if line not in lines and _id_of(line) not in names]
    _write_lines(folder, [*others, *lines])
    return len(rows)


def keys_found_again(folder: Path, ids: Collection[str]) -> None:
    """Note in the file that edits have keys again: those that lack nothing else leave it; an empty file is removed.

    Args:
        folder: The codebook.
        ids: The edits.

    Raises:
        OSError: It cannot be written.
    """
    path = folder / LOST
    if not path.is_file():
        return
    lines = _read_lines(folder)
    left = [line for line in (_with_keys(line) if _id_of(line) in ids else line for line in lines) if line]
    if not left:
        path.unlink()
    elif left != lines:
        _write_lines(folder, left)


def _with_keys(line: str) -> str:
    """The row of an edit that has its keys again; nothing if it lacks nothing else."""
    row = json.loads(line)
    reasons = [reason for reason in str(row.get("lost", "")).split("; ") if reason != _REASONS["keys"]]
    if not set(reasons) & set(_REASONS.values()):
        return ""
    return json.dumps({**row, "lost": "; ".join(reasons)}, ensure_ascii=False)


def _read_lines(folder: Path) -> list[str]:
    path = folder / LOST
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return [line for line in text.split("\n") if line]  # not splitlines(): texts may hold other ends of lines


def _write_lines(folder: Path, lines: Sequence[str]) -> None:
    with stage(folder / LOST) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _rows(folder: Path, found: Found) -> Iterator[dict[str, Any]]:
    for edit in found.edits:
        if edit.event is not None and edit.event.edit is not None:
            if edit.lost:
                reasons = [*(_REASONS[name] for name in edit.lost), *(["it was undone"] * (not edit.counts))]
                row = _importable_row(edit.event.edit, set(edit.pictures), PICTURES)
                yield {"lost": "; ".join(reasons), **{k: v for k, v in row.items() if edit.counts or k != "image"}}
        elif edit.changed is not None:
            pictures = {name for name in edit.changed.pictures if _copy_picture(folder, name, found)}
            reason = "its record was changed: read it before it is imported"
            yield {"lost": reason, **_importable_row(edit.changed, pictures, LOST_PICTURES)}
        else:
            yield {"lost": _REASONS["text"], "id": edit.id, **_guessed_fields(edit)}


def _importable_row(edit: StoredEdit, pictures: set[str], folder: str) -> dict[str, Any]:
    """The row of an edit, with those of its pictures that are there.

    Args:
        edit: The edit.
        pictures: Names of the pictures that are there.
        folder: The folder within the codebook in which they are.
    """
    row = row_of(without_lost_pictures(edit, pictures), folder)
    if edit.image not in pictures:
        row.pop("image", None)
    return row


def without_lost_pictures(edit: StoredEdit, pictures: set[str]) -> StoredEdit:
    """An edit with those of its pictures that are there.

    Args:
        edit: The edit.
        pictures: Names of the pictures that are there.
    """
    given = [[r for r in regions if not isinstance(r, str) or r in pictures] for regions in edit.given]
    return replace(edit, image=edit.image if edit.image in pictures else "", given=given)


def _guessed_fields(edit: FoundEdit) -> dict[str, str]:
    return {name: edit.guess[name] for name in ("question", "answer", "author", "time") if edit.guess.get(name)}


def _copy_picture(folder: Path, name: str, found: Found) -> bool:
    """Copy a picture that no edit of the codebook has to a place where it stays; whether it is there."""
    if name not in found.pictures:
        return False
    (folder / LOST_PICTURES).mkdir(exist_ok=True)
    target = folder / LOST_PICTURES / f"{name}.png"
    shutil.copyfile(folder / PICTURES / target.name, target)
    sync(target)
    sync(target.parent)
    return True


def _id_of(line: str) -> object:
    try:
        return json.loads(line)["id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
