"""Pictures by the names of the samples that they belong to."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from reasonedit.errors import ReasonEditError

from .pictures import picture_in
from .pool import written
from .rows import read_rows


def pictures_by_id(path: str | os.PathLike[str], wanted: Collection[str]) -> dict[str, Path | bytes]:
    """The pictures of samples, from a file with the columns ``id`` and ``image``; what else it holds is not looked at.

    Args:
        path: The file, such as a data set in the form of :class:`~reasonedit.data.EditFile`.
        wanted: Names of the samples whose pictures are wanted; the file may not have all of them.

    Returns:
        For each a path, which starts from the file's folder and does not leave it, or the picture file's bytes.

    Raises:
        ReasonEditError: The file or a row of it cannot be used, or two rows have one name.
    """
    source = Path(path).absolute()
    found: dict[str, Path | bytes] = {}
    for row in read_rows(source):
        try:
            if row.problem:
                raise ReasonEditError(row.problem)
            value = row.values.get("id")
            name = str(row.number) if value is None else written(value, "id")  # as the data sets name their rows
            if name not in wanted:
                continue
            if name in found:
                raise ReasonEditError(f"the name '{name}' is there twice.")
            found[name] = picture_in(row.values.get("image"), source.parent, "image")
        except ReasonEditError as error:
            raise ReasonEditError(f"Row {row.number} of '{path}': {error}") from error
    return found
