"""What the page of a run shows: its edits and the questions it got wrong, as text, and small copies of their pictures.

A folder in that of the run. ``edits.jsonl`` and ``questions.jsonl`` have a line for each; ``pictures/`` has the copies,
each under the name of the picture that it was made of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reasonedit.codebook.disk.files import read_content, write_atomically

from .erased_edits import ErasedEdits, remove

PAGE = "report.html"
"""The page itself, in the folder of the run."""

_FOLDER, _PICTURES = "shown", "pictures"
_FILES = ("edits", "questions")
_MOST_BYTES = 2**28
_NAME = re.compile(r"[0-9a-f]{64}\.webp")


def write_shown(run: Path, rows: Mapping[str, Iterable[Mapping[str, Any]]], pictures: Mapping[str, bytes]) -> None:
    """Write what a page shows.

    Args:
        run: The results folder.
        rows: The rows of ``"edits"`` and of ``"questions"``, each with ``id``, ``edit`` (the one that it is or belongs
            to) and ``picture`` (a name, or empty).
        pictures: WebP files by these names.

    Raises:
        OSError: They cannot be written.
    """
    folder = run / _FOLDER
    (folder / _PICTURES).mkdir(parents=True, exist_ok=True)
    for name, content in pictures.items():
        with write_atomically(folder / _PICTURES / f"{name}.webp") as file:
            file.write(content)
    for name in _FILES:
        with write_atomically(folder / f"{name}.jsonl") as file:
            file.writelines(json.dumps(row).encode() + b"\n" for row in rows.get(name, ()))


def read_shown(run: Path, name: str) -> list[dict[str, Any]]:
    """The rows of ``"edits"`` or ``"questions"``; none where the run wrote none.

    Raises:
        ReasonEditError: The file cannot be read.
    """
    path = run / _FOLDER / f"{name}.jsonl"
    if not path.is_file():
        return []
    parsed = (_parse(line) for line in read_content(path, _MOST_BYTES).split(b"\n"))
    return [row for row in parsed if row is not None]


def read_picture(run: Path, name: str) -> bytes | None:
    """The small copy of a picture; ``None`` where there is none.

    Raises:
        ReasonEditError: It cannot be read.
    """
    path = run / _FOLDER / _PICTURES / f"{name}.webp"
    return read_content(path, _MOST_BYTES) if _NAME.fullmatch(path.name) and path.is_file() else None


def clean_shown(run: Path, erased: ErasedEdits) -> list[Path]:
    """Take edits out of what a page shows, and remove the page: it can be made again from what is left.

    Args:
        run: The results folder.
        erased: The edits.

    Returns:
        The files that something was taken out of, or that went.

    Raises:
        OSError: A file cannot be read or written.
    """
    changed = [run / PAGE] if (run / PAGE).is_file() else []
    folder, shown = run / _FOLDER, set()
    for name in _FILES:
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            continue
        rows = [_parse(line) for line in path.read_bytes().split(b"\n") if line]
        rest = [clean for row in rows if row is not None and (clean := _clean_row(row, erased)) is not None]
        shown |= {row.get("picture") for row in rest}
        if rest != rows:
            with write_atomically(path) as file:
                file.writelines(json.dumps(row).encode() + b"\n" for row in rest)
            changed.append(path)
    copies = sorted((folder / _PICTURES).glob("*.webp")) + sorted(folder.rglob(".*.part"))
    changed += [path for path in copies if path.stem not in shown]
    for path in (run / PAGE, *copies):
        if path in changed:
            remove(path)
    return changed


def _clean_row(row: dict[str, Any], erased: ErasedEdits) -> dict[str, Any] | None:
    """A row without what is erased: a picture of an erased edit goes from the questions of others, too."""
    clean = erased.clean_row(row)
    return {**clean, "picture": ""} if clean is not None and clean.get("picture") in erased.pictures else clean


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line) if line else None
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("id"), str) else None
