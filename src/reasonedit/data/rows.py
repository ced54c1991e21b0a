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


def read_rows(path: Path, *, named: bool = False) -> Iterator[Row]:
    """Read a JSONL file, a JSON list or object of rows (whose names become ``id``), or a Parquet file.

    Args:
        path: The file.
        named: Whether the object of a JSON file may hold anything, which becomes ``value``.

    Raises:
        ReasonEditError: There is no such file, it is of another kind, or no row of it can be read.
    """
    kind = path.suffix.lower()
    if path.is_dir():
        raise ReasonEditError(f"'{path}' is a folder: name the data file in it.")
    if not path.is_file():
        raise ReasonEditError(f"There is no data file '{path}': check the path.")
    if kind not in KINDS:
        raise ReasonEditError(f"The data file '{path}' must end in {', '.join(KINDS)}: write it as one of these.")
    try:
        if kind == ".jsonl":
            yield from _lines(path)
        elif kind == ".json":
            yield from _listed(_json(path), path, named)
        else:
            yield from _parquet(path)
    except ReasonEditError:
        raise
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
                yield Row(number, problem=f"not UTF-8 (byte {error.start + 1} of the line): save the file as UTF-8")
            except json.JSONDecodeError as error:
                yield Row(number, problem=f"not JSON ({error.msg} at character {error.pos + 1})")
            else:
                yield _row(number, values)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        lines = "; JSON Lines go into a file that ends in .jsonl" if error.msg == "Extra data" else ""
        raise ReasonEditError(f"The data file '{path}' is not JSON ({error}){lines}.") from error


def _listed(content: Any, path: Path, named: bool) -> Iterator[Row]:
    if isinstance(content, dict) and (named or all(isinstance(v, dict) for v in content.values())):
        content = [{"id": name, **(v if isinstance(v, dict) else {"value": v})} for name, v in content.items()]
    if not isinstance(content, list):
        raise ReasonEditError(f"The data file '{path}' must hold a list of rows, or an object of rows by their names.")
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
        hint = " (a list of rows goes into a file that ends in .json)" if isinstance(values, list) else ""
        return Row(number, problem=f"not an object with columns but {type(values).__name__}{hint}")
    return Row(number, values)
