"""Rows of a file, with their numbers; what cannot be read is a row too, and says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError

KINDS = (".jsonl", ".json", ".parquet")


@dataclass
class Row:
    """One row of a file.

    Attributes:
        number: Its number: the line of a JSONL file, else its place, from 1.
        values: Its columns.
        problem: Why it cannot be read; empty where it can.
    """

    number: int
    values: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def read_rows(path: Path) -> Iterator[Row]:
    """Read a JSONL file, a JSON list (or an object, whose names become ``id``), or a Parquet file.

    Raises:
        ReasonEditError: There is no such file, it is of another kind, or no row of it can be read.
    """
    if not path.is_file():
        raise ReasonEditError(f"There is no data file '{path}': check the path.")
    if path.suffix not in KINDS:
        raise ReasonEditError(f"The data file '{path}' must end in {', '.join(KINDS)}.")
    try:
        if path.suffix == ".jsonl":
            yield from _lines(path)
        elif path.suffix == ".json":
            yield from _listed(json.loads(path.read_text(encoding="utf-8-sig")), path)
        else:
            yield from _parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors or OSErrors
        raise ReasonEditError(f"The data file '{path}' cannot be read: {str(error).splitlines()[0]}.") from error


def _lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line.decode("utf-8-sig"))
            except UnicodeDecodeError as error:
                yield Row(number, problem=f"not UTF-8 (byte {error.start + 1} of the line)")
            except ValueError as error:
                yield Row(number, problem=f"not JSON ({error})")
            else:
                yield _row(number, values)


def _listed(content: Any, path: Path) -> Iterator[Row]:
    if isinstance(content, dict):
        content = [{"id": name, **(v if isinstance(v, dict) else {"value": v})} for name, v in content.items()]
    if not isinstance(content, list):
        raise ReasonEditError(f"The data file '{path}' holds no list of samples.")
    for number, values in enumerate(content, 1):
        yield _row(number, values)


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256):
            for values in batch.to_pylist():
                number += 1
                yield _row(number, values)


def _row(number: int, values: Any) -> Row:
    if not isinstance(values, dict):
        return Row(number, problem=f"not an object with columns but {type(values).__name__}")
    return Row(number, values)
