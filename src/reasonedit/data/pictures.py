"""Pictures in the columns of a row: a file's name, the bytes, or the bytes as text."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from reasonedit.errors import InputError, ReasonEditError
from reasonedit.images import path_inside

from .columns import as_text
from .rows import read_rows

_BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")
"""Of picture files: by them base64 is told from a file's name."""


def picture_in(value: Any, folder: Path, column: str) -> Path | bytes:
    """The picture that a row gives.

    Args:
        value: A path from the folder on; bytes; ``{"bytes", "path"}``, as the datasets library stores images; a
            ``data:`` address (RFC 2397); or the bytes in base64.
        folder: The folder, which a path must not leave.
        column: The column's name.

    Raises:
        InputError: It is none of these; in words.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, (bytes, bytearray, memoryview)) and len(value):
        return bytes(value)
    if not isinstance(value, str) or not value.strip():
        kind = "empty" if isinstance(value, (str, bytes)) else type(value).__name__
        raise InputError(f"'{column}' must be a path, or in a Parquet file bytes, not {kind}.")
    if value[:8].lower().startswith(("http://", "https://")):
        raise InputError(f"'{column}' is an address, '{value[:200]}', which is not fetched: download it.")
    if value[:5].lower() == "data:":
        return _decode_data_address(value, column)
    return _decode_base64(value) or path_inside(folder, value)


def pictures_by_id(path: str | os.PathLike[str], wanted: Collection[str]) -> dict[str, Path | bytes]:
    """The pictures of samples, from a file with the columns ``id`` and ``image``; other columns are not read.

    Args:
        path: The file, such as a data set in the form of :class:`~reasonedit.data.EditFile`.
        wanted: Ids of the samples whose pictures are wanted; the file need not have all of them.

    Returns:
        For each a path, which starts from the file's folder and does not leave it, or the picture file's bytes.

    Raises:
        InputError: The file or a row of it cannot be used, or two rows have one id.
    """
    source = Path(path).absolute()
    pictures: dict[str, Path | bytes] = {}
    for row in read_rows(source):
        try:
            if row.problem:
                raise InputError(row.problem)
            value = row.values.get("id")
            name = str(row.number) if value is None else as_text(value, "id")  # as the data sets name their rows
            if name not in wanted:
                continue
            if name in pictures:
                raise InputError(f"the name '{name}' appears twice.")
            pictures[name] = picture_in(row.values.get("image"), source.parent, "image")
        except ReasonEditError as error:
            raise InputError(f"Row {row.number} of '{path}': {error}") from error
    return pictures


def _decode_data_address(value: str, column: str) -> bytes:
    kind, comma, content = value.partition(",")
    try:
        data = unquote_to_bytes(content)
        if kind.lower().endswith(";base64"):
            data = base64.b64decode(b"".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not comma or not data:
        raise InputError(f"'{column}' is a data: address without a picture in it, or one that was cut short.")
    return data


def _decode_base64(value: str) -> bytes | None:
    try:
        data = base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if data.startswith(_BEGINNINGS) else None
