"""The results folder of a run: its log, its predictions and its pictures, without what is erased."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reasonedit.codebook.disk.files import write_atomically
from reasonedit.errors import needed

from .erased_edits import ErasedEdits, remove
from .event_files import remove_pictures
from .shown import clean_shown

_COLUMNS = {"edit", "prompt", "facts", "fact_edits"}
"""Columns by which a file of predictions is known."""
_CHUNK = 1 << 24


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / "config.yaml").is_file() and (folder / "versions.json").is_file()


def clean_run(run: Path, erased: ErasedEdits) -> list[Path]:
    """Take edits out of what a run wrote beside its codebook; its table of results has figures only and stays.

    Args:
        run: The results folder.
        erased: The edits.

    Returns:
        The files that something was taken out of, or that went.

    Raises:
        OSError: A file cannot be read or written.
        UnavailableError: A package that reads the files is not installed.
    """
    changed = [path for path in sorted(run.glob("log/*.jsonl")) if _clean_log(path, erased)]
    parts = [path for folder in (run, run / "log", run / "tensorboard") for path in folder.glob(".*.part")]
    for path in sorted(path for path in parts if path.is_file()):  # of a killed process: nobody writes now
        remove(path)
        changed.append(path)
    changed += [path for path in sorted(run.glob("*.parquet")) if _clean_predictions(path, erased)]
    changed += [path for path in sorted(run.rglob("*tfevents*")) if path.is_file() and remove_pictures(path, erased)]
    changed += clean_shown(run, erased)
    for path in sorted(run.glob("story/*.png")):  # one edit in pictures; nothing says which
        remove(path)
        changed.append(path)
    return changed


def _clean_log(path: Path, erased: ErasedEdits) -> bool:
    before = path.read_bytes()
    rest = []
    for line in before.splitlines(keepends=True):
        try:
            row = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            row = None
        clean = erased.clean_row(row) if isinstance(row, dict) else None  # a row that was cut short counts as none
        if clean is not None:
            rest.append(line if clean == row else (json.dumps(clean) + "\n").encode())
    return _write_if_changed(path, before, b"".join(rest))


def _write_if_changed(path: Path, before: bytes, after: bytes) -> bool:
    if before == after:
        return False
    with write_atomically(path) as file:
        file.write(after)
    return True


def _clean_predictions(path: Path, erased: ErasedEdits) -> bool:
    pa, pq = needed("pyarrow", "runs"), needed("pyarrow.parquet", "runs")
    try:
        if not set(pq.read_schema(path).names) >= _COLUMNS:
            return False
        table = pq.read_table(path)
        rows: list[dict[str, Any]] = table.to_pylist()
    except pa.ArrowException:  # damaged: nobody can take anything out of it
        remove(path)
        return True
    clean = [erased.clean_row(row) for row in rows]
    if clean == rows:
        return False
    rest = [row for row in clean if row is not None]
    with write_atomically(path) as file:
        pq.write_table(pa.Table.from_pylist(rest, table.schema), file)
    return True


def file_holds(path: Path, erased: ErasedEdits) -> bool:
    """Whether a file holds any of the edits, as text."""
    overlap = max((len(needle) for needle in erased.needles), default=1)
    before = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if erased.is_in(before + chunk):
                return True
            before = chunk[-overlap:]
    return False
