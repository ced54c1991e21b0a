"""The file of a cell: its predictions with what made them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError

_ABOUT = b"reasonedit"


def finish(part: Path, path: Path, about: Mapping[str, Any]) -> None:
    """Put the predictions together with what made them, in one file that is there whole or not at all.

    Args:
        part: The predictions; this file is gone afterwards.
        path: The cell.
        about: What made it.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(part)
    pq.write_table(table.replace_schema_metadata({_ABOUT: json.dumps(about).encode()}), part)
    os.replace(part, path)


def read_about(path: Path) -> dict[str, Any]:
    """What made a cell, and what was measured beside its predictions.

    Raises:
        ReasonEditError: The file is no cell.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = dict(json.loads((pq.read_schema(path).metadata or {})[_ABOUT]))
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise ReasonEditError(f"'{path}' is no result of an experiment: delete it, or name another folder.") from error
    missing = [key for key in ("row", "seed") if key not in content]
    if missing:
        raise ReasonEditError(f"'{path}' does not say of which {missing[0]} it is: delete it, or name another folder.")
    return content


def read_cell(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A cell: what made it, and its predictions.

    Raises:
        ReasonEditError: The file is no cell, or not all of one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = read_about(path)
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ReasonEditError(f"'{path}' is damaged ({error}): delete it, and run the experiment again.") from error
    if len(rows) != about.get("answers", len(rows)):
        raise ReasonEditError(
            f"'{path}' holds {len(rows)} of its {about['answers']} answers: delete it, and run the experiment again."
        )
    return about, rows
