"""A manifest that was damaged in one place, made again what it was; its sum proves it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ..disk.errors import DamagedError
from ..disk.files import read_content
from ..disk.manifest import READABLE_FORMATS, Manifest, sum_of_values
from .salvage import decode_as_utf8

_MOST = 6 << 10
"""Bytes: of a larger one not every bit is tried, which would take a minute and more."""
_NEAR = 4


def mend_manifest(path: Path) -> Manifest | None:
    """What a damaged manifest was: an editor saved it otherwise, a bit is another one, or some of its sum is.

    Args:
        path: The file.

    Returns:
        The manifest; none where that cannot be told.

    Raises:
        UnreadableError: It must not be read.
    """
    try:
        data, _ = decode_as_utf8(read_content(path, 1 << 26))
    except DamagedError:
        return None
    return next((made for made in map(_proven, _tries(data)) if made is not None), None)


def _tries(data: bytes) -> Iterator[bytes]:
    yield data
    if len(data) <= _MOST:
        for at, byte in enumerate(data):
            for bit in range(8):
                yield data[:at] + bytes((byte ^ (1 << bit),)) + data[at + 1 :]


def _proven(text: bytes) -> Manifest | None:
    try:
        values = json.loads(text)
        told = values.pop("sum")
        off = sum(a != b for a, b in zip(told, sum_of_values(values), strict=True))
        return Manifest.from_dict(values) if off <= _NEAR and values["format"] in READABLE_FORMATS else None
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None
