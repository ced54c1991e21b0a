"""The journal: one JSON object per line, only ever appended to."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import DamagedError, to_disk

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
        """
        lines = []
        for values in records:
            text = json.dumps({**values, "after": mark.sum}, ensure_ascii=False)
            total = _sum(text.encode())
            line = f'{text[:-1]}, "sum": "{total}"}}\n'.encode()
            lines.append(line)
            mark = Mark(mark.bytes + len(line), mark.records + 1, total)
        new = not self.path.exists()
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            written = b"".join(lines)
            os.ftruncate(handle, mark.bytes - len(written))
            os.lseek(handle, 0, os.SEEK_END)
            rest = memoryview(written)
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            to_disk(self.path.parent)
        return mark

    def read(self, mark: Mark, until: Mark) -> Iterator[Line]:
        """The records between two places.

        Raises:
            DamagedError: One is not what was written, or some are missing.
        """
        data = self._bytes(mark.bytes, until.bytes)
        if len(data) < until.bytes - mark.bytes:
            where = mark.bytes + len(data)
            raise DamagedError(self.path, where, f"it ends there, and should have {until.bytes} bytes")
        for raw in data.split(b"\n")[:-1]:
            values, problem = parsed(raw)
            if values is None:
                raise DamagedError(self.path, mark.bytes, problem)
            if values.get("after") != mark.sum:
                raise DamagedError(self.path, mark.bytes, "a record before this one is missing or changed")
            line = Line(values, mark.bytes, Mark(mark.bytes + len(raw) + 1, mark.records + 1, sum_of(raw)))
            mark = line.end
            yield line
        if mark != until:
            raise DamagedError(self.path, mark.bytes, f"{mark.records} records lie there instead of {until.records}")

    def lines(self) -> int:
        """How many lines there are, whatever they hold."""
        return self._bytes(0, None).count(b"\n") if self.path.exists() else 0

    def salvage(self) -> Iterator[tuple[int, dict[str, Any] | None, str]]:
        """Each line by itself: where it begins, the record or none, and what is wrong with it."""
        start = 0
        for raw in self._bytes(0, None).split(b"\n"):
            if raw:
                values, problem = parsed(raw)
                yield start, values, problem
            start += len(raw) + 1

    def _bytes(self, start: int, end: int | None) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read() if end is None else file.read(max(0, end - start))
        except FileNotFoundError as error:
            raise DamagedError(self.path, 0, "the file is missing") from error


def parsed(raw: bytes) -> tuple[dict[str, Any] | None, str]:
    """A record from its line, or none and what is wrong with it."""
    found = _END.search(raw)
    if found is None or _sum(raw[: found.start()] + b"}") != sum_of(raw):
        return None, "the record is not what was written"
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):
        return None, "the record is no JSON"
    return (values, "") if isinstance(values, dict) else (None, "the record is no JSON object")


def sum_of(raw: bytes) -> str:
    """The sum that a line states."""
    found = _END.search(raw)
    return found.group(1).decode() if found else ""


def _sum(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=8).hexdigest()
