"""Rows of a file, with their numbers. A row that cannot be read is a row, too, and says why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from reasonedit.errors import InputError, NotFoundError, ReasonEditError
from reasonedit.util.regular import open_file, read_file
from reasonedit.util.strictjson import strict_json

from .parquet import first_line, read_parquet

KINDS = (".jsonl", ".json", ".parquet")
_TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".ods")

MOST_LINE = 64 * 2**20
"""Bytes of a line of JSON Lines: room for a large picture in it."""

MOST_JSON = 512 * 2**20
"""Bytes of a JSON file, which is read as a whole; JSON Lines have no such bound."""

_MOST_VALUES = 20_000_000
"""Values in a JSON file, those of all its rows together."""


@dataclass
class Row:
    """One row of a file.

    Attributes:
        number: Its number: the line of a JSONL file, else its place, from 1.
        values: Its columns.
        problem: Why it cannot be read; empty where it can.
        file: The file's name, where the data set has several.
    """

    number: int
    values: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    file: str = ""

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return f"row {self.number} of '{self.file}'" if self.file else f"row {self.number}"


def read_rows(path: Path, *, named: bool = False) -> Iterator[Row]:
    """Read a JSONL file, a JSON list or object of rows (whose names become ``id``), or a Parquet file.

    JSON is read strictly: a key that an object has twice, ``NaN`` and ``Infinity`` are problems of their row, of a
    file that is JSON as a whole of the file.

    Args:
        path: The file.
        named: Whether the object of a JSON file may hold something else than rows; it becomes the column ``value``.

    Raises:
        NotFoundError: There is no such file.
        InputError: It is of another kind or encoding, or no row of it can be read.
    """
    kind = path.suffix.lower()
    if path.is_dir():
        raise InputError(f"'{path}' is a folder: name the data file in it.")
    if not path.exists():
        raise NotFoundError(f"There is no data file '{path}': check the path.")
    if kind not in KINDS:
        how = ", for instance with pandas' to_parquet" if kind in _TABLES else ""
        raise InputError(f"The data file '{path}' must end in {', '.join(KINDS)}: write it as one of these{how}.")
    try:
        if kind == ".jsonl":
            yield from _read_json_lines(path)
        elif kind == ".json":
            yield from _rows_of_json(_read_json(path), path, named)
        else:
            for number, values in enumerate(read_parquet(path), 1):
                yield Row(number, problem=values) if isinstance(values, str) else Row(number, values)
    except ReasonEditError:
        raise
    except (OSError, ValueError, LookupError, TypeError, NotImplementedError) as error:  # pyarrow's are of these
        raise InputError(f"The data file '{path}' cannot be read: {first_line(error)}.") from error


def _read_json_lines(path: Path) -> Iterator[Row]:
    with open_file(path, f"The data file '{path}'") as file:
        _check_utf8(file.read(4), path)
        file.seek(0)
        number = 0
        while line := file.readline(MOST_LINE + 1):
            number += 1
            if len(line) > MOST_LINE:
                _skip_line(file, line)
                yield Row(number, problem=f"longer than {MOST_LINE >> 20} MiB: keep pictures in files of their own")
            elif line.strip():
                yield _parse_line(number, line)


def _skip_line(file: IO[bytes], line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(MOST_LINE)


def _parse_line(number: int, line: bytes) -> Row:
    try:
        return _make_row(number, strict_json(line.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        return Row(number, problem=f"not UTF-8 (byte {error.start + 1} of the line): save the file as UTF-8")
    except ValueError as error:
        return Row(number, problem=str(error))


def _read_json(path: Path) -> Any:
    if path.stat().st_size > MOST_JSON:
        raise InputError(
            f"The data file '{path}' has more than {MOST_JSON >> 20} MiB: write it as JSON Lines, or as Parquet."
        )
    data = read_file(path, MOST_JSON, f"The data file '{path}'")
    _check_utf8(data[:4], path)
    try:
        return strict_json(data.decode("utf-8-sig"), _MOST_VALUES)
    except UnicodeDecodeError as error:
        raise InputError(f"The data file '{path}' is not UTF-8 (byte {error.start + 1}): save it as UTF-8.") from error
    except ValueError as error:
        lines = "; JSON Lines go into a file that ends in .jsonl" if "Extra data" in str(error) else ""
        raise InputError(f"The data file '{path}' cannot be used: {error}{lines}.") from error


def _check_utf8(head: bytes, path: Path) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
        raise InputError(f"The data file '{path}' is UTF-16, or no text at all: save it as UTF-8.")
    if head.startswith(b"\x1f\x8b"):
        raise InputError(f"The data file '{path}' is compressed: unpack it.")


def _rows_of_json(content: Any, path: Path, named: bool) -> Iterator[Row]:
    if isinstance(content, dict) and (named or all(isinstance(v, dict) for v in content.values())):
        content = [{"id": name, **(v if isinstance(v, dict) else {"value": v})} for name, v in content.items()]
    if not isinstance(content, list):
        raise InputError(f"The data file '{path}' must hold a list of rows, or an object of rows by their names.")
    for number, values in enumerate(content, 1):
        yield _make_row(number, values)


def _make_row(number: int, values: Any) -> Row:
    if not isinstance(values, dict):
        hint = " (a list of rows goes into a file that ends in .json)" if isinstance(values, list) else ""
        return Row(number, problem=f"not an object with columns but {type(values).__name__}{hint}")
    return Row(number, values)
