"""Edits out of a codebook and into another: a JSONL file with its pictures beside it."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from reasonedit.codebook import EditMemory, row_of
from reasonedit.edits import Edit
from reasonedit.errors import ReasonEditError

from .editfile import COLUMNS, EditFile
from .rows import read_rows


def export(memory: EditMemory, path: str | os.PathLike[str], ids: Sequence[str] = ()) -> int:
    """Write edits into a JSONL file, and their pictures into a folder beside it.

    Args:
        memory: The codebook.
        path: The file, which must not exist.
        ids: Which edits; all that count when none are given.

    Returns:
        How many.

    Raises:
        ReasonEditError: There is no such edit, the file exists, or it cannot be written.
    """
    target = Path(path)
    edits = [memory.find(name) for name in ids] if ids else list(memory.edits.values())
    blind = next((edit.id for edit in edits if not edit.image), None)
    if blind is not None:
        raise ReasonEditError(f"The picture of the edit '{blind}' is lost, without which it is none: name the others.")
    if target.suffix != ".jsonl":
        raise ReasonEditError(f"The file '{target}' must end in .jsonl.")
    if target.exists():
        raise ReasonEditError(f"'{target}' exists already: name another file.")
    pictures = target.with_name(f"{target.stem}-pictures")
    try:
        pictures.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            for edit in edits:
                for name in edit.pictures:
                    memory.picture(name).save(pictures / f"{name}.png", "PNG")
                file.write(json.dumps(row_of(edit, pictures.name), ensure_ascii=False) + "\n")
    except OSError as error:
        raise ReasonEditError(f"'{target}' cannot be written ({error.strerror or error}).") from error
    return len(edits)


def read(path: str | os.PathLike[str]) -> Iterator[Edit]:
    """The edits of a file as :func:`export` writes it; people may write such a file, too.

    The columns are those of :class:`~reasonedit.data.EditFile`; pictures are looked for in the file's folder and
    nowhere else. An edit without an id gets one.

    Raises:
        ReasonEditError: The file or a row of it cannot be used, or a column is none of these; says which.
    """
    source = EditFile(os.fspath(path))
    for row in read_rows(source.path):
        try:
            if row.problem:
                raise ReasonEditError(row.problem)
            unknown = sorted(set(row.values) - set(COLUMNS))
            if unknown:
                raise ReasonEditError(
                    f"there is a column '{unknown[0]}' that nothing expects: the columns are {', '.join(COLUMNS)}."
                )
            edit = source.sample(row).edit()
        except ReasonEditError as error:
            raise ReasonEditError(f"Row {row.number} of '{path}': {error}") from error
        if row.values.get("id") is None:
            edit.id = uuid.uuid4().hex
        yield edit
