"""The file of a cell: its predictions with what made them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reasonedit.errors import InputError

_RECORD = b"reasonedit"


def write_cell(path: Path, rows: Path, record: Mapping[str, Any]) -> None:
    """Put the predictions together with what made them, in one file that is there whole or not at all.

    Args:
        path: The file of the cell.
        rows: The file of the predictions; it is gone afterwards.
        record: What made them.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(rows)
    pq.write_table(table.replace_schema_metadata({_RECORD: json.dumps(record).encode()}), rows)
    os.replace(rows, path)


def read_record(path: Path) -> dict[str, Any]:
    """What made a cell, and what was measured beside its predictions.

    Raises:
        InputError: The file is no cell.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        record = dict(json.loads((pq.read_schema(path).metadata or {})[_RECORD]))
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise InputError(f"'{path}' is not a result of an experiment: delete it, or name another folder.") from error
    missing = [name for name in ("row", "seed") if name not in record]
    if missing:
        raise InputError(f"'{path}' does not say of which {missing[0]} it is: delete it, or name another folder.")
    return record


def read_cell(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A cell: what made it, and its predictions.

    Raises:
        InputError: The file is no cell, or a part of one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    record = read_record(path)
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"'{path}' is damaged ({error}): delete it, and run the experiment again.") from error
    if len(rows) != record.get("answers", len(rows)):
        raise InputError(
            f"'{path}' holds {len(rows)} of its {record['answers']} answers: delete it, and run the experiment again."
        )
    return record, rows
