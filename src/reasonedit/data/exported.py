"""Edits out of a codebook and into another: a JSONL file with its pictures beside it."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from reasonedit.codebook import EditMemory, row_of
from reasonedit.errors import ReasonEditError
from reasonedit.images import file_name, image_bytes, load_image
from reasonedit.types import Edit
from reasonedit.validation import check_total_size

from .editfile import COLUMNS, EditFile
from .pool import BLANK
from .rows import Row, read_rows


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


@dataclass(frozen=True)
class Checked:
    """A row that is an edit; its pictures were opened, and are not kept.

    Attributes:
        number: Its number in the file.
        id: Name of the edit, made up where the row has none.
        question: The question.
        answer: The right answer.
        answers: All right answers, where there are several.
        reasoning: Why, one fact per sentence.
        sum: Checksum of all that the edit is made of, pictures too.
    """

    number: int
    id: str
    question: str
    answer: str
    answers: list[str]
    reasoning: list[str]
    sum: bytes


def read(path: str | os.PathLike[str]) -> Iterator[Checked]:
    """Check the edits of a file as :func:`export` writes it; people may write such a file, too.

    The columns are those of :class:`~reasonedit.data.EditFile`; pictures are looked for in the file's folder and
    nowhere else. Each is opened, so that what cannot be used is known before any edit is written.

    Of a repaired codebook's file of what was lost, rows that cannot be edits any more are passed over; see
    :func:`passed_over`.

    Raises:
        ReasonEditError: The file or a row of it cannot be used, or a column is none of these; says which.
    """
    source = EditFile(os.fspath(path))
    for row in read_rows(source.path):
        if _is_lost(row):
            continue
        edit, checksum = _edit(source, row)
        name = edit.id if row.values.get("id") is not None else uuid.uuid4().hex
        yield Checked(row.number, name, edit.question, edit.answer, edit.answers, edit.reasoning, checksum)


def passed_over(path: str | os.PathLike[str]) -> Iterator[str]:
    """What a file says of edits that a repair could not keep and of which not enough is left, one sentence each."""
    for row in read_rows(EditFile(os.fspath(path)).path):
        if _is_lost(row):
            yield f"row {row.number}, the edit '{row.values.get('id', '')}': {row.values['lost']}"


def _is_lost(row: Row) -> bool:
    return bool(row.values.get("lost")) and not row.values.get("image")


def edits(path: str | os.PathLike[str], rows: Iterable[Checked]) -> Iterator[Edit]:
    """The edits of rows that :func:`read` has checked, with their pictures: one after the other, to save memory.

    Raises:
        ReasonEditError: A row, or a picture of it, is not what was checked.
    """
    source = EditFile(os.fspath(path))
    wanted = {row.number: row for row in rows}
    if not wanted:
        return
    for row in read_rows(source.path):
        checked = wanted.pop(row.number, None)
        if checked is None:
            continue
        edit, checksum = _edit(source, row)
        if checksum != checked.sum:
            raise _changed(path, row.number)
        edit.id = checked.id
        yield edit
        if not wanted:
            return
    raise _changed(path, min(wanted))


def _changed(path: str | os.PathLike[str], number: int) -> ReasonEditError:
    return ReasonEditError(f"Row {number} of '{path}', or a picture of it, was changed while it was being imported.")


def _edit(source: EditFile, row: Row) -> tuple[Edit, bytes]:
    """The edit of a row, and the checksum of what it was made of."""
    try:
        if row.problem:
            raise ReasonEditError(row.problem)
        unknown = sorted(set(row.values) - {*COLUMNS, "lost"})
        if unknown:
            raise ReasonEditError(
                f"there is a column '{unknown[0]}' that nothing expects: the columns are {', '.join(COLUMNS)}."
            )
        sample = source.sample(row)
        sample.edit(lambda _: BLANK)  # before a picture is opened
        places = [[r if isinstance(r, tuple) else b"" for r in mine or ()] for mine in sample.evidence]
        told = hashlib.blake2b(repr(replace(sample, image=b"", evidence=places)).encode())

        evidence: list[Image.Image] = []  # the sample's own picture, which comes last, apart

        def opened(picture: Path | bytes) -> Image.Image:
            check_total_size(evidence)
            data = picture if isinstance(picture, bytes) else image_bytes(picture)
            told.update(hashlib.blake2b(data).digest())
            evidence.append(load_image(data, file_name(picture) if isinstance(picture, Path) else ""))
            return evidence[-1]

        return sample.edit(opened), told.digest()
    except ReasonEditError as error:
        raise ReasonEditError(f"Row {row.number} of '{source.path}': {error}") from error
