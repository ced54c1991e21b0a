"""Checksums that show where a file was damaged."""

from __future__ import annotations

import builtins
import io
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .errors import DamagedError, read_error
from .files import open_to_read
from .layout import KEYS

BLOCK = 1 << 20
"""Bytes that have a sum together."""
_NAME = re.compile(rf"(?:{KEYS}/)?[\w-]{{1,200}}\.safetensors", re.ASCII)
_LARGEST = 1 << 62
"""Bytes, keys or records: no file system holds more, and no library below has larger integers."""


@dataclass(frozen=True)
class Checksums:
    """A file with its size and the CRC-32 of each of its blocks of 1 MiB.

    Attributes:
        file: Its name, from the codebook's folder on.
        bytes: Its size.
        blocks: The sums.
    """

    file: str
    bytes: int
    blocks: tuple[int, ...]

    @classmethod
    def of_file(cls, path: Path, name: str) -> Checksums:
        """The checksums of a file as it is now."""
        with open_to_read(path) as file:
            return cls(name, os.fstat(file.fileno()).st_size, tuple(_sum_blocks(file)))

    @classmethod
    def of_content(cls, name: str, content: builtins.bytes) -> Checksums:
        """The checksums of a file with this content, whether there is such a file or not."""
        return cls(name, len(content), tuple(_sum_blocks(io.BytesIO(content))))

    @classmethod
    def from_dict(cls, values: Any) -> Checksums:
        """From JSON.

        Raises:
            KeyError: A field is missing.
            TypeError: A field is of another type.
            ValueError: A field has an impossible value.
        """
        name, size, blocks = values["file"], values["bytes"], values["blocks"]
        if not (isinstance(name, str) and isinstance(blocks, (list, tuple))):
            raise TypeError("the sums of a file are none")
        if not _NAME.fullmatch(name):  # names become paths
            raise ValueError(f"'{name[:80]}' is not a file of a codebook")
        if len(blocks) != -(-parse_count(size, "the size of a file") // BLOCK):
            raise ValueError("a file has more or fewer blocks than sums")
        return cls(name, size, tuple(parse_count(block, "a sum") for block in blocks))

    def check(self, folder: Path) -> Path:
        """Check the file against these sums.

        Args:
            folder: The codebook's folder.

        Returns:
            The file, which is what was written.

        Raises:
            DamagedError: It is missing, shorter, longer or changed.
            UnreadableError: It must not be read.
        """
        path = folder / self.file
        with open_to_read(path) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                sums = list(_sum_blocks(file, self.bytes))
            except OSError as error:
                raise read_error(path, error) from error
        for i, (actual, expected) in enumerate(zip(sums, self.blocks, strict=False)):
            if actual != expected and (i + 1) * BLOCK <= size:
                raise DamagedError(path, i * BLOCK, "its content is not what was written")
        if size != self.bytes:
            raise DamagedError(path, min(size, self.bytes), f"it has {size} bytes instead of {self.bytes}")
        if sums != list(self.blocks):
            raise DamagedError(path, (len(sums) - 1) * BLOCK, "its content is not what was written")
        return path


def parse_count(value: Any, what: str) -> int:
    """A number from JSON that counts something.

    Args:
        value: What JSON says.
        what: What it counts, to begin a message with.

    Raises:
        TypeError: It is not a whole number.
        ValueError: It is negative, or larger than anything that is counted.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} is not a whole number")
    if not 0 <= value < _LARGEST:
        raise ValueError(f"{what} is out of range")
    return value


def _sum_blocks(file: BinaryIO, most: int = _LARGEST) -> Iterator[int]:
    """The sums of a file's blocks, of its first ``most`` bytes."""
    while most > 0 and (block := file.read(min(BLOCK, most))):
        most -= len(block)
        yield zlib.crc32(block)
