"""Keys out of files that may be damaged: those of each edit for itself, where a sum proves that they are unchanged."""

from __future__ import annotations

import io
import mmap
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..disk.checksums import BLOCK, Checksums
from ..disk.errors import DamagedError
from ..disk.files import open_to_read, read_content
from ..disk.tensors import LARGEST_READ, write_tensors
from .key_header import read_header, restore_header

Rows = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
"""Keys (n, D) and their radii (n,), both float32; parts of a file, not to be changed."""


@dataclass
class KeyFile:
    """A file with keys and radii, as far as it is there.

    Attributes:
        path: The file.
        first: The number of the first key.
        count: How many keys.
        damage: What is wrong with it, where anything is.
    """

    path: Path
    first: int
    count: int
    damage: DamagedError | None
    _data: memoryview
    _proven_blocks: list[bool]
    _start: int
    _width: int

    @classmethod
    def read(cls, folder: Path, sums: Checksums, first: int, count: int) -> KeyFile:
        """Read a file whose sums are known.

        Raises:
            UnreadableError: It must not be read.
        """
        path = folder / sums.file
        try:
            content = _read(path)
        except DamagedError as damage:
            return cls(path, first, count, damage, memoryview(b""), [], 0, 0)
        data = content[: sums.bytes]  # what was put behind it spoils nothing
        proven = [zlib.crc32(block) == known for block, known in zip(_blocks(data), sums.blocks, strict=False)]
        is_whole = len(content) == sums.bytes and all(proven)
        start, width = read_header(data, count) if proven and proven[0] else (0, 0)
        if not start:
            data, start, width = restore_header(data, count, sums.bytes)
            if data and sums.blocks and zlib.crc32(data[:BLOCK]) == sums.blocks[0]:
                proven[0] = True
        return cls(path, first, count, None if is_whole else _find_damage(folder, sums), data, proven, start, width)

    @classmethod
    def read_unproven(cls, path: Path, first: int, count: int) -> KeyFile:
        """Read a file whose sums are not known: only the sums of an edit's own file can prove its keys.

        Raises:
            UnreadableError: It must not be read.
        """
        try:
            data = _read(path)
        except DamagedError as damage:
            return cls(path, first, count, damage, memoryview(b""), [], 0, 0)
        start, width = read_header(data, count)
        if not start:
            data, start, width = restore_header(data, count, len(data))
        return cls(path, first, count, None, data, [], start, width)

    def rows(self, first: int, count: int, own: Checksums | None) -> Rows | None:
        """The keys of an edit, where it is proven that they are what it wrote.

        Args:
            first: The number of the first of them.
            count: How many there are.
            own: The sums of the file that held them alone, where they are known.
        """
        at = first - self.first
        if not self._width or at < 0 or at + count > self.count:
            return None
        key_span = (self._start + 4 * at * self._width, 4 * count * self._width)
        radius_span = (self._start + 4 * (self.count * self._width + at), 4 * count)
        if any(start + size > len(self._data) for start, size in (key_span, radius_span)):
            return None
        numbers, radii = (np.frombuffer(self._data, "<f4", size // 4, start) for start, size in (key_span, radius_span))
        rows = numbers.reshape(count, self._width), radii
        is_usable = bool(np.isfinite(numbers).all() and np.isfinite(radii).all() and (radii >= 0).all())
        in_proven_blocks = self._is_proven(*key_span) and self._is_proven(*radius_span)
        is_proven = in_proven_blocks or (own is not None and _fit(rows, own))
        return rows if is_usable and is_proven else None

    def _is_proven(self, start: int, size: int) -> bool:
        first, last = start // BLOCK, (start + size - 1) // BLOCK
        blocks = self._proven_blocks[first : last + 1]
        return len(blocks) == last + 1 - first and all(blocks)


def _find_damage(folder: Path, sums: Checksums) -> DamagedError | None:
    try:
        sums.check(folder)
    except DamagedError as damage:
        return damage
    return None


def _read(path: Path) -> memoryview:
    with open_to_read(path) as file:
        if os.fstat(file.fileno()).st_size <= LARGEST_READ:
            return memoryview(read_content(path, LARGEST_READ))
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _blocks(data: memoryview) -> Iterable[memoryview]:
    return (data[at : at + BLOCK] for at in range(0, len(data), BLOCK))


def _fit(rows: Rows, own: Checksums) -> bool:
    """Whether these are the keys that a file of their own held: it is written again, in memory."""
    keys, radii = rows
    file = io.BytesIO()
    write_tensors(file, {"keys": torch.from_numpy(keys.copy()), "radii": torch.from_numpy(radii.copy())})
    data = file.getvalue()
    return len(data) == own.bytes and tuple(zlib.crc32(block) for block in _blocks(memoryview(data))) == own.blocks


def first_proven(files: Iterable[KeyFile], first: int, count: int, own: Checksums | None) -> Rows | None:
    """The keys of an edit from the first file that proves them; arguments as for :meth:`KeyFile.rows`."""
    return next((rows for rows in (file.rows(first, count, own) for file in files) if rows is not None), None)
