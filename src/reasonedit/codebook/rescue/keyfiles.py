"""Keys out of files that may be damaged: each edit's by itself, where a sum proves that they are what was written."""

from __future__ import annotations

import io
import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..disk import tensors
from ..disk.checksums import BLOCK, Checksums
from ..disk.errors import DamagedError
from ..disk.files import open_to_read, read_content

Rows = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
"""Keys (n, D) and their radii (n,), both float32; parts of a file, not to be changed."""

_MAPPED = 32 << 20
"""Bytes: larger files are not read into memory."""


@dataclass
class KeyFile:
    """A file with keys and radii, as far as it is there.

    Attributes:
        path: The file.
        first: The number of the first of them.
        count: How many there are.
        damage: What is wrong with it, where anything is.
    """

    path: Path
    first: int
    count: int
    damage: DamagedError | None
    _data: memoryview
    _whole: list[bool]
    _start: int
    _width: int

    @classmethod
    def read(cls, folder: Path, sums: Checksums, first: int, count: int) -> KeyFile:
        """Read a file of which the sums are known.

        Raises:
            UnreadableError: It must not be read.
        """
        path = folder / sums.file
        try:
            found = _read(path)
        except DamagedError as damage:
            return cls(path, first, count, damage, memoryview(b""), [], 0, 0)
        data = found[: sums.bytes]  # what was put behind it spoils nothing
        whole = [zlib.crc32(block) == known for block, known in zip(_blocks(data), sums.blocks, strict=False)]
        sound = len(found) == sums.bytes and all(whole)
        start, width = _described(data, count) if whole and whole[0] else (0, 0)
        if not start:
            data, start, width = _headed(data, count, sums.bytes)
            if data and sums.blocks and zlib.crc32(data[:BLOCK]) == sums.blocks[0]:
                whole[0] = True
        return cls(path, first, count, None if sound else _damage(folder, sums), data, whole, start, width)

    @classmethod
    def unproven(cls, path: Path, first: int, count: int) -> KeyFile:
        """Read a file of which no sums are known: only what an edit's own sums prove counts.

        Raises:
            UnreadableError: It must not be read.
        """
        try:
            data = _read(path)
        except DamagedError as damage:
            return cls(path, first, count, damage, memoryview(b""), [], 0, 0)
        start, width = _described(data, count)
        if not start:
            data, start, width = _headed(data, count, len(data))
        return cls(path, first, count, None, data, [], start, width)

    def rows(self, first: int, count: int, own: Checksums | None) -> Rows | None:
        """The keys of an edit, where it is certain that they are what it wrote.

        Args:
            first: The number of the first of them.
            count: How many there are.
            own: The sums of the file in which they lay alone, where they are known.
        """
        at = first - self.first
        if not self._width or at < 0 or at + count > self.count:
            return None
        keys = (self._start + 4 * at * self._width, 4 * count * self._width)
        radii = (self._start + 4 * (self.count * self._width + at), 4 * count)
        if any(start + size > len(self._data) for start, size in (keys, radii)):
            return None
        mine, reach = (np.frombuffer(self._data, "<f4", size // 4, start) for start, size in (keys, radii))
        rows = mine.reshape(count, self._width), reach
        sound = bool(np.isfinite(mine).all() and np.isfinite(reach).all() and (reach >= 0).all())
        certain = all(self._proven(*part) for part in (keys, radii)) or (own is not None and _fits(rows, own))
        return rows if sound and certain else None

    def _proven(self, start: int, size: int) -> bool:
        blocks = self._whole[start // BLOCK : (start + size - 1) // BLOCK + 1]
        return len(blocks) == (start + size - 1) // BLOCK - start // BLOCK + 1 and all(blocks)


def _damage(folder: Path, sums: Checksums) -> DamagedError | None:
    try:
        sums.check(folder)
    except DamagedError as damage:
        return damage
    return None


def _read(path: Path) -> memoryview:
    with open_to_read(path) as file:
        if os.fstat(file.fileno()).st_size <= _MAPPED:
            return memoryview(read_content(path, _MAPPED))
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _blocks(data: memoryview) -> Iterable[memoryview]:
    return (data[at : at + BLOCK] for at in range(0, len(data), BLOCK))


def _described(data: memoryview, count: int) -> tuple[int, int]:
    """Where the numbers begin, and how many a key has, as the file says it; zeros where it does not."""
    try:
        (size,) = struct.unpack("<Q", bytes(data[:8]))
        told = json.loads(bytes(data[8 : 8 + min(size, BLOCK)]))
        (rows, width), start = told["keys"]["shape"], 8 + size
        offsets = (told["keys"]["data_offsets"], told["radii"]["data_offsets"])
        fits = offsets == ([0, 4 * rows * width], [4 * rows * width, 4 * rows * (width + 1)])
        return (start, width) if fits and rows == count and width > 0 else (0, 0)
    except (struct.error, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return 0, 0


def _headed(data: memoryview, count: int, size: int) -> tuple[memoryview, int, int]:
    """A file as it must have begun: what stands before the numbers follows from their count and its size."""
    header, width = _header(count, size)
    return memoryview(header + data[len(header) :] if header else b""), len(header), width


def _header(count: int, size: int) -> tuple[bytes, int]:
    """What stands before ``count`` keys in a file of so many bytes, as it is always written; and D."""
    most = size // (4 * count) - 1 if count else 0
    for width in range(most, max(0, most - 512), -1):
        ends = 4 * count * width, 4 * count * (width + 1)
        told = {
            "keys": {"dtype": "F32", "shape": [count, width], "data_offsets": [0, ends[0]]},
            "radii": {"dtype": "F32", "shape": [count], "data_offsets": [ends[0], ends[1]]},
        }
        text = json.dumps(told, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        if 8 + len(text) + ends[1] == size:
            return struct.pack("<Q", len(text)) + text, width
    return b"", 0


def _fits(rows: Rows, own: Checksums) -> bool:
    """Whether keys are those that a file of their own held: it is written again, in memory."""
    data = file_content(*rows)
    return len(data) == own.bytes and tuple(zlib.crc32(block) for block in _blocks(memoryview(data))) == own.blocks


def file_content(keys: np.ndarray[Any, Any], radii: np.ndarray[Any, Any]) -> bytes:
    """The file that holds an edit's keys and nothing else."""
    file = io.BytesIO()
    tensors.write_tensors(file, {"keys": torch.from_numpy(keys.copy()), "radii": torch.from_numpy(radii.copy())})
    return file.getvalue()


def first_proven(files: Iterable[KeyFile], first: int, count: int, own: Checksums | None) -> Rows | None:
    """The keys of an edit from the first file in which they are certain."""
    return next((rows for rows in (file.rows(first, count, own) for file in files) if rows is not None), None)
