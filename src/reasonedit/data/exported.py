"""Edits out of a codebook and into another: a JSONL file with its pictures beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reasonedit.codebook import EditMemory, row_of
from reasonedit.edits import Edit
from reasonedit.errors import ReasonEditError
from reasonedit.images import inside

from .rows import read_rows

_FIELDS = ("id", "image", "question", "answer", "reasoning", "choices", "evidence", "author", "time")


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

    Pictures are looked for in the file's folder and nowhere else. ``reasoning`` may be text or a list of sentences, and
    ``evidence`` has for each sentence a list of boxes and pictures, or null.

    Raises:
        ReasonEditError: The file or a row of it cannot be used; says which.
    """
    source = Path(path)
    for row in read_rows(source):
        try:
            if row.problem:
                raise ReasonEditError(row.problem)
            yield _edit(row.values, source.parent)
        except ReasonEditError as error:
            raise ReasonEditError(f"Row {row.number} of '{source}': {error}") from error


def _edit(values: dict[str, Any], folder: Path) -> Edit:
    unknown = sorted(set(values) - set(_FIELDS) - {"boxes"})
    if unknown:
        raise ReasonEditError(
            f"there is a column '{unknown[0]}' that nothing expects: the columns are {', '.join(_FIELDS)}."
        )
    missing = [name for name in ("image", "question", "answer", "reasoning") if values.get(name) is None]
    if missing:
        raise ReasonEditError(f"'{missing[0]}' is missing.")
    given = {name: values[name] for name in ("id", "author", "time") if values.get(name) is not None}
    regions = values.get("evidence") or values.get("boxes")
    if regions is not None and not (
        isinstance(regions, list) and all(mine is None or isinstance(mine, list) for mine in regions)
    ):
        raise ReasonEditError("'evidence' must hold, for each sentence, a list of boxes and pictures, or null.")
    evidence = [
        None if mine is None else [_picture(r, folder) if isinstance(r, (str, bytes, dict)) else r for r in mine]
        for mine in regions or ()
    ]
    choices = values.get("choices")
    if choices is not None and not isinstance(choices, list):
        raise ReasonEditError("'choices' must be a list of texts.")
    if not isinstance(values["reasoning"], (str, list)):
        raise ReasonEditError("'reasoning' must be text or a list of sentences.")
    return Edit(
        _picture(values["image"], folder),  # type: ignore[arg-type]  # read on the way in
        values["question"],
        values["answer"],
        values["reasoning"],  # type: ignore[arg-type]  # likewise
        choices,
        evidence=evidence,  # type: ignore[arg-type]  # likewise
        **given,
    )


def _picture(value: Any, folder: Path) -> Path | bytes:
    if isinstance(value, dict):  # as the datasets library stores images
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and value.strip():
        return inside(folder, value)
    raise ReasonEditError(f"a picture must be a path, not {type(value).__name__}.")
