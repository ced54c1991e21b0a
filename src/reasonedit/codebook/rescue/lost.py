"""What was lost of which edit, in a file of the repaired codebook; what can be imported again is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..disk.files import stage, sync
from ..disk.layout import PICTURES
from ..records import StoredEdit, row_of
from .findings import Found, FoundEdit

LOST = "lost-edits.jsonl"
LOST_PICTURES = "lost-edits-pictures"
_SAID = {
    "text": "its record cannot be read",
    "keys": "its keys are lost",
    "picture": "its picture is lost",
    "crops": "a picture of its evidence is lost",
}


def write_lost(folder: Path, found: Found) -> int:
    """Write what was lost of which edit, one row each, behind what the file says of others.

    The rows have the columns that ``reasonedit edits import`` reads, and one more, ``lost``, that says what is lost. A
    row of an edit that cannot be imported, for its picture or its text is lost, or that must not be, for it was undone,
    has no column ``image``.

    Args:
        folder: The codebook.
        found: What was found in it.

    Returns:
        How many edits it says something of.

    Raises:
        OSError: It cannot be written.
    """
    rows = {row["id"]: row for row in _rows(folder, found)}
    if not rows:
        return 0
    path = folder / LOST
    before = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    kept = [line for line in before if _id_of(line) not in rows]
    with stage(path) as part:
        lines = [*kept, *(json.dumps(row, ensure_ascii=False) for row in rows.values())]
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(rows)


def remove_from_lost(folder: Path, ids: Collection[str]) -> None:
    """Take edits out of the file that have again what they had lost; where it says nothing more, it goes.

    Args:
        folder: The codebook.
        ids: The edits.

    Raises:
        OSError: It cannot be written.
    """
    path = folder / LOST
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line for line in lines if _id_of(line) not in ids]
    if not kept:
        path.unlink()
    elif kept != lines:
        with stage(path) as part:
            part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _rows(folder: Path, found: Found) -> Iterator[dict[str, Any]]:
    for edit in found.edits:
        if edit.event is not None and edit.event.edit is not None:
            if edit.lost:
                told = "; ".join([*(_SAID[name] for name in edit.lost), *(["it was undone"] * (not edit.counts))])
                row = _importable(edit.event.edit, set(edit.pictures), PICTURES)
                yield {"lost": told, **{k: v for k, v in row.items() if edit.counts or k != "image"}}
        elif edit.changed is not None:
            seen = {name for name in edit.changed.pictures if _rescued(folder, name, found)}
            told = "its record was changed: read it before it is imported"
            yield {"lost": told, **_importable(edit.changed, seen, LOST_PICTURES)}
        else:
            yield {"lost": _SAID["text"], "id": edit.id, **_guessed(edit)}


def _importable(edit: StoredEdit, seen: set[str], pictures: str) -> dict[str, Any]:
    """The row of an edit, without the pictures that are lost."""
    row = row_of(without_lost_pictures(edit, seen), pictures)
    if edit.image not in seen:
        row.pop("image", None)
    return row


def without_lost_pictures(edit: StoredEdit, seen: set[str]) -> StoredEdit:
    """An edit without the pictures that are lost."""
    given = [[r for r in mine if not isinstance(r, str) or r in seen] for mine in edit.given]
    return replace(edit, image=edit.image if edit.image in seen else "", given=given)


def _guessed(edit: FoundEdit) -> dict[str, str]:
    return {name: edit.guess[name] for name in ("question", "answer", "author", "time") if edit.guess.get(name)}


def _rescued(folder: Path, name: str, found: Found) -> bool:
    """Copy a picture that no edit of the codebook has to where it stays."""
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
