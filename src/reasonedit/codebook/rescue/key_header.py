"""Where the numbers begin in a file of keys: read from its header, or computed where that is damaged."""

from __future__ import annotations

import json
import struct

from ..disk.checksums import BLOCK


def read_header(data: memoryview, count: int) -> tuple[int, int]:
    """Read where the numbers begin, and how many a key has.

    Args:
        data: The file.
        count: How many keys it holds.

    Returns:
        The byte and D; zeros where the file does not say it.
    """
    try:
        (size,) = struct.unpack("<Q", bytes(data[:8]))
        header = json.loads(bytes(data[8 : 8 + min(size, BLOCK)]))
        (rows, width), start = header["keys"]["shape"], 8 + size
        offsets = (header["keys"]["data_offsets"], header["radii"]["data_offsets"])
        fits = offsets == ([0, 4 * rows * width], [4 * rows * width, 4 * rows * (width + 1)])
        return (start, width) if fits and rows == count and width > 0 else (0, 0)
    except (struct.error, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return 0, 0


def restore_header(data: memoryview, count: int, size: int) -> tuple[memoryview, int, int]:
    """Put the header before the numbers that must have been there: it follows from their count and the file's size.

    Args:
        data: The file.
        count: How many keys it holds.
        size: How many bytes it had.

    Returns:
        The file, where the numbers begin in it, and D; nothing and zeros where no header fits.
    """
    header, width = _compute_header(count, size)
    return memoryview(header + data[len(header) :] if header else b""), len(header), width


def _compute_header(count: int, size: int) -> tuple[bytes, int]:
    """The header of ``count`` keys in a file of so many bytes, as it is always written; and D."""
    most = size // (4 * count) - 1 if count else 0
    for width in range(most, max(0, most - 512), -1):
        ends = 4 * count * width, 4 * count * (width + 1)
        entries = {
            "keys": {"dtype": "F32", "shape": [count, width], "data_offsets": [0, ends[0]]},
            "radii": {"dtype": "F32", "shape": [count], "data_offsets": [ends[0], ends[1]]},
        }
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        if 8 + len(text) + ends[1] == size:
            return struct.pack("<Q", len(text)) + text, width
    return b"", 0
