"""How fast each metric falls along the lines of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reasonedit.groups import LABELS

from .bootstrap import Estimate, slope
from .experiment import CLEAN
from .tables import TableRow

STEP = 10.0
"""Slopes are told for so much more of what is on the axis: 10 % noise."""


@dataclass(frozen=True)
class LineSlopes:
    """The slopes of one line.

    Attributes:
        line: Its name.
        groups: For each group of probes the change of its share, in points of a hundred, for each :data:`STEP`.
    """

    line: str
    groups: dict[str, Estimate]


def lines_of(table: Sequence[TableRow]) -> dict[str, list[TableRow]]:
    """The rows of each line of a sweep by x, the clean row in which it begins first."""
    by_line: dict[str, list[TableRow]] = {}
    clean = {row.line.removeprefix(CLEAN): row for row in table if _is_clean(row)}
    for row in table:
        if row.x is None or _is_clean(row):
            continue
        if row.line not in by_line:
            by_line[row.line] = [first for end, first in clean.items() if not end or row.line.endswith(end)]
        by_line[row.line].append(row)
    return {line: sorted(rows, key=lambda row: row.x or 0.0) for line, rows in by_line.items()}


def slopes_of(table: Sequence[TableRow]) -> list[LineSlopes]:
    """The slopes of all lines that begin in a clean row; none where there are no such lines."""
    found = []
    for line, rows in lines_of(table).items():
        if not _is_clean(rows[0]) or len(rows) < 2:
            continue
        groups = {}
        for group in LABELS:
            points = [(row.x, row.samples[group]) for row in rows if row.x is not None and group in row.samples]
            if len(points) == len(rows):
                e = slope([(x / STEP, samples) for x, samples in points])
                seeds = tuple(100 * of_seed for of_seed in e.seeds)
                groups[group] = Estimate(100 * e.mean, 100 * e.low, 100 * e.high, e.samples, seeds, e.edits)
        found.append(LineSlopes(line, groups))
    return found


def _is_clean(row: TableRow) -> bool:
    return row.line == CLEAN or row.line.startswith(f"{CLEAN}:")
