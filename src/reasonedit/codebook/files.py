"""Files that are whole or not there, and sums that show where one was damaged."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError

BLOCK = 1 << 20


class DamagedError(ReasonEditError):
    """A file of the codebook is not what was written.

    Attributes:
        path: The file.
        offset: The byte from which on it is damaged.
        what: What is wrong.
    """

    def __init__(self, path: Path, offset: int, what: str) -> None:
        self.path, self.offset, self.what = path, offset, what
        super().__init__(
            f"The codebook's file '{path}' is damaged at byte {offset}: {what}. 'reasonedit codebook verify' says what "
            "can be recovered, 'reasonedit codebook repair' recovers it and keeps the damaged one."
        )


@dataclass(frozen=True)
class Sums:
    """A file with its size and the CRC-32 of each of its blocks of 1 MiB."""

    file: str
    bytes: int
    blocks: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, name: str) -> Sums:
        """Those of a file as it is."""
        return cls(name, path.stat().st_size, tuple(_crcs(path)))

    @classmethod
    def from_dict(cls, values: Any) -> Sums:
        """From JSON.

        Raises:
            KeyError: A field is missing.
            TypeError: A field is of another type.
        """
        name, size, blocks = values["file"], values["bytes"], values["blocks"]
        if not (isinstance(name, str) and isinstance(size, int) and all(isinstance(b, int) for b in blocks)):
            raise TypeError("the sums of a file are none")
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise TypeError(f"'{name[:80]}' is no file of a codebook")
        return cls(name, size, tuple(blocks))

    def check(self, folder: Path) -> Path:
        """The file, once it is certain that it is what was written.

        Raises:
            DamagedError: It is missing, shorter, longer or changed.
        """
        path = folder / self.file
        try:
            size = path.stat().st_size
            crcs = list(_crcs(path))
        except FileNotFoundError as error:
            raise DamagedError(path, 0, "the file is missing") from error
        except OSError as error:
            raise DamagedError(path, 0, f"it cannot be read ({error.strerror})") from error
        for i, (found, expected) in enumerate(zip(crcs, self.blocks, strict=False)):
            if found != expected and (i + 1) * BLOCK <= size:
                raise DamagedError(path, i * BLOCK, "its content is not what was written")
        if size != self.bytes:
            raise DamagedError(path, min(size, self.bytes), f"it has {size} bytes instead of {self.bytes}")
        if crcs != list(self.blocks):
            raise DamagedError(path, (len(crcs) - 1) * BLOCK, "its content is not what was written")
        return path


def _crcs(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield zlib.crc32(block)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write a file under that becomes ``path`` once it is complete and on the disk."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        to_disk(part)
        part.replace(path)
        to_disk(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
