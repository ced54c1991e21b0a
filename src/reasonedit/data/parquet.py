"""Rows of a Parquet file, in batches that fit into memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reasonedit.errors import InputError, needed
from reasonedit.util.regular import open_file

_MOST_BATCH = 256 * 2**20
"""Bytes of the rows that are unpacked at once."""


def read_parquet(path: Path) -> Iterator[dict[str, Any] | str]:
    """Read a Parquet file. A number that is none (NaN) is a null, as pandas writes them.

    Yields:
        For each row its columns, or why it cannot be read.

    Raises:
        InputError: Two columns have one name.
        OSError: The file cannot be read; pyarrow raises other errors of Python, too.
    """
    pq = needed("pyarrow.parquet", "runs")
    with open_file(path, f"The data file '{path}'") as binary, pq.ParquetFile(binary) as file:
        twice = [name for name, count in Counter(file.schema_arrow.names).items() if count > 1]
        if twice:
            raise InputError(f"The data file '{path}' has two columns '{twice[0]}': rename one of them.")
        for batch in _batches(file):
            for row in _rows_of(batch):
                if isinstance(row, str):
                    yield row
                else:
                    yield {name: None if _is_nan(value) else value for name, value in row.items()}


def _batches(file: Any) -> Iterator[Any]:
    """Rows in batches that fit into memory: the file stores a text once that many rows share, the batch does not."""
    for group in range(file.num_row_groups):
        largest_row = max(1, file.metadata.row_group(group).total_byte_size)
        yield from file.iter_batches(max(1, min(64, _MOST_BATCH // largest_row)), row_groups=[group])


def _rows_of(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The rows of a batch; one by one where Python cannot hold all of them, such as the year 300,000."""
    pa = needed("pyarrow", "runs")
    not_for_python = (ValueError, OverflowError, NotImplementedError, pa.ArrowException)
    try:
        yield from batch.to_pylist()
        return
    except not_for_python:
        pass
    for i in range(batch.num_rows):
        try:
            yield batch.slice(i, 1).to_pylist()[0]
        except not_for_python as error:
            yield f"not readable ({first_line(error)})"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its name where it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]
