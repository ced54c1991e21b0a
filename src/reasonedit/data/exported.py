"""Edits out of a codebook and into another: a JSONL file with its pictures beside it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from reasonedit.codebook import Draft, EditMemory, StoredEdit, row_of
from reasonedit.codebook.disk.files import write_atomically
from reasonedit.errors import ConflictError, InputError, ReasonEditError, UnavailableError
from reasonedit.images import check_unlinked, image_name, load_image, read_image_bytes
from reasonedit.types import Edit
from reasonedit.validation import check_ids, check_total_size

from .editfile import COLUMNS, EditFile
from .rows import Row, read_rows
from .sample import BLANK


def export(memory: EditMemory, path: str | os.PathLike[str], ids: Sequence[str] = ()) -> int:
    """Write edits into a JSONL file, and their pictures into a folder beside it.

    Args:
        memory: The codebook.
        path: The file, which must not exist.
        ids: The whole ids of the edits, each of which is written once; all that are in force when not given.

    Returns:
        How many edits were written.

    Raises:
        NotFoundError: There is no such edit.
        ConflictError: The file exists already.
        InputError: The file's name ends in something else, an edit's picture is lost, or the ids are one text.
        UnavailableError: The file cannot be written.
    """
    target = Path(path)
    edits = [memory.find(name) for name in dict.fromkeys(check_ids(ids))] or list(memory.edits.values())
    without_image = next((edit.id for edit in edits if not edit.image), None)
    if without_image is not None:
        raise InputError(
            f"The picture of the edit '{without_image}' is lost, so it cannot be exported: name the others."
        )
    if target.suffix != ".jsonl":
        raise InputError(f"The file '{target}' must end in .jsonl.")
    if target.exists():
        raise ConflictError(f"'{target}' exists already: name another file.")
    pictures = target.with_name(f"{target.stem}-pictures")
    try:
        pictures.mkdir(parents=True, exist_ok=True)
        with write_atomically(target) as file:  # a file that breaks off would pass for a whole one
            for edit in edits:
                for name in edit.pictures:
                    memory.picture(name).save(pictures / f"{name}.png", "PNG")
                file.write(json.dumps(row_of(edit, pictures.name), ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise UnavailableError(f"'{target}' cannot be written ({error.strerror or error}).") from error
    return len(edits)


@dataclass(frozen=True)
class CheckedRow:
    """A row that can be used as an edit. Its pictures were opened, and are read again when the edit is loaded.

    Attributes:
        number: Its number in the file.
        edit: The edit as a codebook would keep it; where the row has no id, it is made from what the edit says.
        checksum: Of all that the edit is made of, pictures too.
    """

    number: int
    edit: StoredEdit
    checksum: bytes

    @property
    def id(self) -> str:
        """The id of the edit."""
        return self.edit.id


def read(path: str | os.PathLike[str]) -> Iterator[CheckedRow]:
    """Check the edits of a file as :func:`export` writes it; people may write such a file, too.

    The columns are those of :class:`~reasonedit.data.EditFile`; pictures are looked for in the file's folder and
    nowhere else: no link is followed out of it, as somebody else may have made it. Each is opened, so that what cannot
    be used is known before any edit is written.

    A row without an id is named by what it says, so it is the same edit whenever it is read. Equal rows without an id
    are one edit: all of them are given, by one name.

    In a repaired codebook's file of what was lost, rows of which not enough is left for an edit are passed over; see
    :func:`describe_lost`.

    Raises:
        InputError: The file or a row of it cannot be used, a column is none of these, or two edits have the same id;
            says which.
    """
    source, contents = EditFile(os.fspath(path)), dict[str, str]()  # what the edits of a name say
    for row in read_rows(source.path):
        if _is_lost(row):
            continue
        edit, checksum = _check_row(source, row)
        kept = Draft.of(edit, []).edit
        content, named = _name_content(kept), row.values.get("id") is not None
        name = edit.id if named else content
        if name in contents and (named or contents[name] != content):
            raise InputError(f"'{source.path}' has two edits called '{name}': give one of them another id.")
        contents[name] = content
        yield CheckedRow(row.number, replace(kept, id=name), checksum)


def _name_content(edit: StoredEdit) -> str:
    """A name made from all by which :meth:`StoredEdit.says_as` tells edits apart."""
    given = edit.given if any(edit.given) else []
    said = [edit.question, edit.answer, edit.answers, edit.reasoning, edit.choices, edit.image, given]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Compared:
    """The edits of a file beside those of a codebook.

    Attributes:
        new: Those that the codebook does not have.
        there: The ids of those that it has, or that an equal row before brings.
        undone: The ids of those that it has, but undone.
    """

    new: list[CheckedRow]
    there: list[str]
    undone: list[str]


def compare(rows: Iterable[CheckedRow], memory: EditMemory, file: str = "the file") -> Compared:
    """Find out which edits of a file a codebook has already.

    Args:
        rows: The edits.
        memory: The codebook.
        file: What the file is called.

    Raises:
        ConflictError: The codebook has another edit of the same id.
    """
    memory.refresh()
    compared, seen = Compared([], [], []), set[str]()
    with memory.guard:
        edits, undone = memory.edits, memory.undone
    for row in rows:
        edit = edits.get(row.id) or undone.get(row.id)
        if edit is not None and not row.edit.says_as(edit):
            raise ConflictError(f"There is another edit '{row.id}' in the codebook: give the one in {file} another id.")
        if row.id in seen and row.id in undone:
            continue  # it is named once
        if edit is None and row.id not in seen:
            compared.new.append(row)
        else:
            (compared.undone if row.id in undone else compared.there).append(row.id)
        seen.add(row.id)
    return compared


def describe_lost(path: str | os.PathLike[str]) -> Iterator[str]:
    """What a file says of edits that a repair lost and of which not enough is left, one sentence each."""
    for row in read_rows(EditFile(os.fspath(path)).path):
        if _is_lost(row):
            yield f"row {row.number}, the edit '{row.values.get('id', '')}': {row.values['lost']}"


def _is_lost(row: Row) -> bool:
    return bool(row.values.get("lost")) and not row.values.get("image")


def load_edits(path: str | os.PathLike[str], rows: Iterable[CheckedRow]) -> Iterator[Edit]:
    """The edits of rows that :func:`read` has checked, with their pictures; one after the other, to save memory.

    Raises:
        ConflictError: A row, or a picture of it, is not what was checked.
    """
    source = EditFile(os.fspath(path))
    wanted = {row.number: row for row in rows}
    if not wanted:
        return
    for row in read_rows(source.path):
        checked = wanted.pop(row.number, None)
        if checked is None:
            continue
        edit, checksum = _check_row(source, row)
        if checksum != checked.checksum:
            raise _changed(path, row.number)
        edit.id = checked.id
        yield edit
        if not wanted:
            return
    raise _changed(path, min(wanted))


def _changed(path: str | os.PathLike[str], number: int) -> ConflictError:
    return ConflictError(f"Row {number} of '{path}', or a picture of it, was changed while it was being imported.")


def _check_row(source: EditFile, row: Row) -> tuple[Edit, bytes]:
    """The edit of a row, and the checksum of what it was made of."""
    try:
        if row.problem:
            raise InputError(row.problem)
        unknown = sorted(set(row.values) - {*COLUMNS, "lost"})
        if unknown:
            raise InputError(
                f"there is a column '{unknown[0]}' that nothing expects: the columns are {', '.join(COLUMNS)}."
            )
        sample = source.sample(row)
        sample.to_edit(lambda _: BLANK)  # before a picture is opened
        places = [[r if isinstance(r, tuple) else b"" for r in regions or ()] for regions in sample.evidence]
        checksum = hashlib.blake2b(repr(replace(sample, image=b"", evidence=places)).encode())

        pictures: list[Image.Image] = []  # those of the evidence; the sample's own comes last

        def open_picture(picture: Path | bytes) -> Image.Image:
            check_total_size(pictures)
            if isinstance(picture, Path):
                check_unlinked(picture, source.images)
            data = picture if isinstance(picture, bytes) else read_image_bytes(picture)
            checksum.update(hashlib.blake2b(data).digest())
            pictures.append(load_image(data, image_name(picture) if isinstance(picture, Path) else ""))
            return pictures[-1]

        return sample.to_edit(open_picture), checksum.digest()
    except ReasonEditError as error:
        raise InputError(f"Row {row.number} of '{source.path}': {error}") from error
