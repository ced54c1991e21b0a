"""Mends a manifest that was damaged in one place; its sum proves what it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ..disk.errors import DamagedError
from ..disk.files import read_content
from ..disk.manifest import READABLE_FORMATS, Manifest, sum_of_values
from .salvage import decode_as_utf8

_LARGEST = 1 << 26
"""Bytes: no manifest has more."""
_MOST_TRIED = 6 << 10
"""Bytes: of a larger one not every bit is tried, which would take a minute and more."""
_NEAR = 4
"""So many digits of the sum may differ: the 12 left are proof enough."""


def mend_manifest(path: Path) -> Manifest | None:
    """Mend a manifest that an editor saved otherwise, or of which one bit or some of its sum was changed.

    Args:
        path: The file.

    Returns:
        The manifest as it was; none where that cannot be proven.

    Raises:
        UnreadableError: It must not be read.
    """
    try:
        data, _ = decode_as_utf8(read_content(path, _LARGEST))
    except DamagedError:
        return None
    return next((manifest for manifest in map(_prove, _tries(data)) if manifest is not None), None)


def _tries(data: bytes) -> Iterator[bytes]:
    yield data
    if len(data) <= _MOST_TRIED:
        for at, byte in enumerate(data):
            for bit in range(8):
                yield data[:at] + bytes((byte ^ (1 << bit),)) + data[at + 1 :]


def _prove(text: bytes) -> Manifest | None:
    """The manifest, if its sum proves it."""
    try:
        values = json.loads(text)
        stated = values.pop("sum")
        differing = sum(a != b for a, b in zip(stated, sum_of_values(values), strict=True))
        return Manifest.from_dict(values) if differing <= _NEAR and values["format"] in READABLE_FORMATS else None
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None
