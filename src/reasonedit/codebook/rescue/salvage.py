"""Reads the records of a journal that may be damaged, and corrects those whose sum proves what they were."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..disk.journal import parse_line
from .correct import Effort, correct_record, join_lines, split_records

_CR = re.compile(rb'("\})\r(?=\n|$)')
"""A carriage return at the end of a record."""


@dataclass(frozen=True)
class Piece:
    """What lies where a record should be.

    Attributes:
        start: The byte of the file at which it begins.
        raw: Its bytes.
        values: The record, where it is whole or could be corrected.
        problem: What was wrong with it, where anything was.
    """

    start: int
    raw: bytes
    values: dict[str, Any] | None
    problem: str = ""

    @property
    def sum(self) -> str:
        """The record's own sum, where it is known."""
        return "" if self.values is None else str(self.values.get("sum", ""))

    @property
    def after(self) -> str:
        """The sum of the record before, as far as this one knows it."""
        return "" if self.values is None else str(self.values.get("after", ""))


@dataclass
class Salvage:
    """What was read of a journal.

    Attributes:
        pieces: What lies in it, in order.
        rewritten: What was done to the file as a whole, and is undone here; nothing where its bytes are as written.
        at: The first byte at which that shows.
    """

    pieces: list[Piece] = field(default_factory=list)
    rewritten: str = ""
    at: int = 0


def salvage_journal(data: bytes, last: str = "") -> Salvage:
    """Read what can be read of a journal.

    Args:
        data: All that lies in the file.
        last: The sum of its last record, where the manifest says it.
    """
    salvage = Salvage()
    text, salvage.rewritten = decode_as_utf8(data)
    skipped = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    if _CR.search(text):
        salvage.at = 0 if salvage.rewritten else next(_CR.finditer(text)).end() - 1
        also = f"{salvage.rewritten}, and " if salvage.rewritten else ""
        salvage.rewritten = f"{also}its lines end in CR LF (git's autocrlf, or an editor, makes that of them)"
    pieces = salvage.pieces = _correct_pieces(list(_split(text, skipped)), last)
    if pieces and not text.endswith(b"\n") and not pieces[-1].problem and not salvage.rewritten:
        salvage.rewritten, salvage.at = "the end of its last line is missing", len(data)
    return salvage


def decode_as_utf8(data: bytes) -> tuple[bytes, str]:
    """A text as UTF-8 without a byte order mark, and what an editor had made of it instead."""
    for mark, coding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            return data[len(mark) :].decode(coding, "replace").encode(), "it was saved as UTF-16"
    if data.startswith(codecs.BOM_UTF8):
        return data[len(codecs.BOM_UTF8) :], "a byte order mark was put before it"
    return data, ""


def _split(text: bytes, skipped: int) -> Iterator[Piece]:
    """Split a journal's text into records.

    Args:
        text: The text.
        skipped: How many bytes the file has before it.
    """
    start = skipped
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for line in lines:
        raw = _CR.sub(rb"\1", line)
        values, problem = parse_line(raw)
        if values is not None or len(parts := split_records(raw)) == 1:
            yield Piece(start, raw, values, problem)
        else:
            for at, part in parts:
                values, problem = parse_line(part)
                glued = "its line's end is another byte" if at < parts[-1][0] else ""
                yield Piece(start + at, part, values, problem or glued)
        start += len(line) + 1


def _correct_pieces(pieces: Sequence[Piece], last: str) -> list[Piece]:
    """The pieces, those corrected that can be; ``last`` is what the manifest says of the sum of the last one."""
    effort, corrected, i = Effort(), list[Piece](), 0
    while i < len(pieces):
        piece, record = pieces[i], None
        if piece.values is None and i + 1 < len(pieces) and pieces[i + 1].values is None:
            record = join_lines(piece.raw, pieces[i + 1].raw, _sums_before(pieces, i + 2, last))
        if record is not None:
            corrected.append(_read_corrected(piece, record, "a byte of it became the end of a line"))
            i += 2
            continue
        if piece.values is None:
            sums = _sums_before(pieces, i + 1, last)
            record = correct_record(piece.raw, sums, effort)
            if record is None and i + 1 == len(pieces):  # the last line's end may be another byte
                record = correct_record(piece.raw[:-1], sums, Effort(0))
        corrected.append(piece if record is None else _read_corrected(piece, record, "a byte of it was exchanged"))
        i += 1
    return [piece for piece in corrected if piece.raw or piece.values is not None]


def _sums_before(pieces: Sequence[Piece], number: int, last: str) -> list[str]:
    """The sum of the record before a piece, as the piece states it, or the manifest behind the last; often none."""
    stated = pieces[number].after if number < len(pieces) else last
    return [stated] if stated else []


def _read_corrected(piece: Piece, raw: bytes, problem: str) -> Piece:
    return Piece(piece.start, piece.raw, parse_line(raw)[0], problem)
