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
    """A place in the journal.

    Attributes:
        bytes: How many bytes are before it.
        records: How many records are before it.
        sum: The sum of the last of them.
    """

    bytes: int = 0
    records: int = 0
    sum: str = ""


@dataclass(frozen=True)
class Line:
    """A record, the byte at which it begins, and the place behind it."""

    values: dict[str, Any]
    start: int
    end: Mark


class Journal:
    """A file of records. Each ends with a sum of itself, and names the sum of the record before it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, records: Sequence[Mapping[str, Any]], mark: Mark) -> Mark:
        """Write records at a place and wait until they are on the disk; what was behind that place is dropped.

        Returns:
            The place behind them.

        Raises:
            OSError: They cannot be written.
            ConflictError: The file is a link, or no regular file.
        """
        data, end = _encode(records, mark)
        is_new = not self.path.exists()
        handle = open_to_write(self.path)
        try:
            os.ftruncate(handle, mark.bytes)
            os.lseek(handle, 0, os.SEEK_END)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        if is_new:
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
        data, end = _encode(records, Mark())
        file.write(data)
        return end

    def read(self, start: Mark, end: Mark) -> Iterator[Line]:
        """Read the records between two places.

        Raises:
            DamagedError: One is not what was written, or some are missing.
            UnreadableError: The file must not be read.
        """
        mark = start
        with self._open() as file:
            size = os.fstat(file.fileno()).st_size
            if size < end.bytes:  # before any of it is read
                raise DamagedError(self.path, size, f"it ends there, and should have {end.bytes} bytes")
            file.seek(mark.bytes)
            while mark.bytes < end.bytes:
                raw = file.readline(min(_LONGEST, end.bytes - mark.bytes))
                line = self._check_line(raw, mark)
                mark = line.end
                yield line
        if mark != end:
            raise DamagedError(self.path, mark.bytes, f"{mark.records} records lie there instead of {end.records}")

    def _check_line(self, raw: bytes, mark: Mark) -> Line:
        values, problem = parse_line(raw[:-1])
        if values is None or not raw.endswith(b"\n"):
            raise DamagedError(self.path, mark.bytes, problem or "the record does not end where it should")
        if values.get("after") != mark.sum:
            raise DamagedError(self.path, mark.bytes, "a record before this one is missing or changed")
        return Line(values, mark.bytes, Mark(mark.bytes + len(raw), mark.records + 1, stated_sum(raw[:-1])))

    def count_lines(self) -> int:
        """How many lines there are, whatever they hold."""
        if not self.path.exists():
            return 0
        with self._open() as file:
            return sum(raw.endswith(b"\n") for raw in iter(lambda: file.readline(_LONGEST), b""))

    def read_head(self) -> dict[str, Any] | None:
        """The first record, which says what the codebook was made with; none where it is damaged."""
        with self._open() as file:
            return parse_line(file.readline(_LONGEST).removesuffix(b"\n"))[0]

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        with open_to_read(self.path) as file:
            try:
                yield file
            except OSError as error:
                raise read_error(self.path, error) from error


def _encode(records: Sequence[Mapping[str, Any]], mark: Mark) -> tuple[bytes, Mark]:
    """The lines of records that begin at a place, and the place behind them."""
    lines = []
    for values in records:
        text = json.dumps({**values, "after": mark.sum}, ensure_ascii=False)
        record_sum = _sum(text.encode())
        lines.append(f'{text[:-1]}, "sum": "{record_sum}"}}\n'.encode())
        mark = Mark(mark.bytes + len(lines[-1]), mark.records + 1, record_sum)
    return b"".join(lines), mark


def parse_line(raw: bytes) -> tuple[dict[str, Any] | None, str]:
    """Read the record of a line.

    Args:
        raw: The line, without its end.

    Returns:
        The record and nothing, or none and what is wrong with it.
    """
    ending = _END.search(raw)
    if ending is None or _sum(raw[: ending.start()] + b"}") != stated_sum(raw):
        return None, "the record is not what was written"
    try:
        values = json.loads(raw)
        if b"\\u" in raw:  # half a character can be escaped like this, but never be shown or written again
            json.dumps(values, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None, "the record is not JSON"
    return (values, "") if isinstance(values, dict) else (None, "the record is not a JSON object")


def stated_sum(raw: bytes) -> str:
    """The sum that a line states, or nothing."""
    ending = _END.search(raw)
    return ending.group(1).decode() if ending else ""


def _sum(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=8).hexdigest()
