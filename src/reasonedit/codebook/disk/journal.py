"""The journal: one JSON object per line, only ever appended to."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .errors import DamagedError, read_error
from .files import open_to_read, open_to_write, sync

_LONGEST = 64 << 20
"""Bytes of a record: far more than the largest edit takes."""
_END = re.compile(rb', "sum": "([0-9a-f]{16})"\}$')


@dataclass(frozen=True)
class Mark:
    """A place in the journal: so many bytes and records, and the sum of the record before."""

    bytes: int = 0
    records: int = 0
    sum: str = ""


@dataclass(frozen=True)
class Line:
    """A record, where it begins, and the place behind it."""

    values: dict[str, Any]
    start: int
    end: Mark


class Journal:
    """A file of records. Each ends with a sum of itself, and names the sum of the one before.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, records: Sequence[Mapping[str, Any]], mark: Mark) -> Mark:
        """Write records behind a place and wait until they are on the disk; what is behind it is dropped.

        Raises:
            OSError: They cannot be written.
            ReasonEditError: The file is a link, or no regular file.
        """
        written, end = _lines(records, mark)
        new = not self.path.exists()
        handle = open_to_write(self.path)
        try:
            os.ftruncate(handle, mark.bytes)
            os.lseek(handle, 0, os.SEEK_END)
            rest = memoryview(written)
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            sync(self.path.parent)
        return end

    @staticmethod
    def begin(file: BinaryIO, records: Sequence[Mapping[str, Any]]) -> Mark:
        """Write the records of a new journal.

        Args:
            file: An empty file.
            records: The records.

        Returns:
            The place behind them.

        Raises:
            OSError: They cannot be written.
        """
        written, end = _lines(records, Mark())
        file.write(written)
        return end

    def read(self, mark: Mark, until: Mark) -> Iterator[Line]:
        """The records between two places.

        Raises:
            DamagedError: One is not what was written, or some are missing.
            UnreadableError: The file must not be read.
        """
        with self._opened() as file:
            size = os.fstat(file.fileno()).st_size
            if size < until.bytes:  # before any of it is read
                raise DamagedError(self.path, size, f"it ends there, and should have {until.bytes} bytes")
            file.seek(mark.bytes)
            while mark.bytes < until.bytes:
                raw = file.readline(min(_LONGEST, until.bytes - mark.bytes))
                line = self._line(raw, mark)
                mark = line.end
                yield line
        if mark != until:
            raise DamagedError(self.path, mark.bytes, f"{mark.records} records lie there instead of {until.records}")

    def _line(self, raw: bytes, mark: Mark) -> Line:
        values, problem = parse_line(raw[:-1])
        if values is None or not raw.endswith(b"\n"):
            raise DamagedError(self.path, mark.bytes, problem or "the record does not end where it should")
        if values.get("after") != mark.sum:
            raise DamagedError(self.path, mark.bytes, "a record before this one is missing or changed")
        return Line(values, mark.bytes, Mark(mark.bytes + len(raw), mark.records + 1, stated_sum(raw[:-1])))

    def lines(self) -> int:
        """How many lines there are, whatever they hold."""
        if not self.path.exists():
            return 0
        with self._opened() as file:
            return sum(raw.endswith(b"\n") for raw in iter(lambda: file.readline(_LONGEST), b""))

    def salvage(self) -> Iterator[tuple[int, dict[str, Any] | None, str]]:
        """Each line by itself: where it begins, the record or none, and what is wrong with it."""
        start = 0
        with self._opened() as file:
            for raw in iter(lambda: file.readline(_LONGEST), b""):
                if raw != b"\n":
                    yield start, *parse_line(raw.removesuffix(b"\n"))
                start += len(raw)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        with open_to_read(self.path) as file:
            try:
                yield file
            except OSError as error:
                raise read_error(self.path, error) from error


def _lines(records: Sequence[Mapping[str, Any]], mark: Mark) -> tuple[bytes, Mark]:
    """Records as they stand behind a place, and the place behind them."""
    lines = []
    for values in records:
        text = json.dumps({**values, "after": mark.sum}, ensure_ascii=False)
        total = _sum(text.encode())
        lines.append(f'{text[:-1]}, "sum": "{total}"}}\n'.encode())
        mark = Mark(mark.bytes + len(lines[-1]), mark.records + 1, total)
    return b"".join(lines), mark


def parse_line(raw: bytes) -> tuple[dict[str, Any] | None, str]:
    """A record from its line, or none and what is wrong with it."""
    found = _END.search(raw)
    if found is None or _sum(raw[: found.start()] + b"}") != stated_sum(raw):
        return None, "the record is not what was written"
    try:
        values = json.loads(raw)
        if b"\\u" in raw:  # half a character can be said there, but never be shown or written again
            json.dumps(values, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None, "the record is no JSON"
    return (values, "") if isinstance(values, dict) else (None, "the record is no JSON object")


def stated_sum(raw: bytes) -> str:
    """The sum that a line states."""
    found = _END.search(raw)
    return found.group(1).decode() if found else ""


def _sum(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=8).hexdigest()
