"""A picture in a column of a row: a file's name, the bytes, or the bytes as text."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from reasonedit.errors import ReasonEditError
from reasonedit.images import inside

_BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")
"""Of picture files, by which base64 is told from a file's name."""


def picture_in(value: Any, folder: Path, column: str) -> Path | bytes:
    """The picture that a row gives.

    Args:
        value: A path from the folder on; bytes; ``{"bytes", "path"}``, as the datasets library stores images; a
            ``data:`` address (RFC 2397); or the bytes in base64.
        folder: The folder, which a path must not leave.
        column: The column's name.

    Raises:
        ReasonEditError: It is none of these; in words.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, (bytes, bytearray, memoryview)) and len(value):
        return bytes(value)
    if not isinstance(value, str) or not value.strip():
        kind = "empty" if isinstance(value, (str, bytes)) else type(value).__name__
        raise ReasonEditError(f"'{column}' must be a path, or in a Parquet file bytes, not {kind}.")
    if value[:8].lower().startswith(("http://", "https://")):
        raise ReasonEditError(f"'{column}' is an address, '{value[:200]}', which is not fetched: download it.")
    if value[:5].lower() == "data:":
        return _of_address(value, column)
    return _of_base64(value) or inside(folder, value)


def _of_address(value: str, column: str) -> bytes:
    kind, comma, content = value.partition(",")
    try:
        data = unquote_to_bytes(content)
        if kind.lower().endswith(";base64"):
            data = base64.b64decode(b"".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not comma or not data:
        raise ReasonEditError(f"'{column}' is a data: address without a picture in it, or one that was cut short.")
    return data


def _of_base64(value: str) -> bytes | None:
    try:
        data = base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if data.startswith(_BEGINNINGS) else None
