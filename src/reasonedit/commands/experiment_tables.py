"""The tables of an experiment at the terminal, and its rows as JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reasonedit.experiments import Estimate
from reasonedit.experiments.extra_tables import ExtraTable
from reasonedit.experiments.tables import Table, TableRow, shares_by_seed
from reasonedit.groups import LABELS, LOCALITIES, columns_of
from reasonedit.metrics import COMPARISON

from .fitting import Column, print_table
from .results_table import fold
from .screen import Screen

_INTERVAL = re.compile(r" \[[^\[\]]*\]")


def print_shares(console: Screen, rows: Sequence[TableRow], *, intervals: bool) -> None:
    """Print the shares of right answers and what they cost.

    Args:
        console: Where to.
        rows: The rows.
        intervals: Whether the interval of each share stands below it.
    """
    labels = columns_of(group for row in rows for group in row.metrics)
    corrected = {"now": "Rel, at once", **{g: n for g, n in labels.items() if g not in LOCALITIES}, "gen": "Gen"}
    kept = {**{g: n for g, n in labels.items() if g in LOCALITIES}, "all": "All"}

    def shares(names: dict[str, str]) -> list[Column]:
        return [
            Column(fold(name), [_format_share(row.metrics.get(group), intervals=intervals) for row in rows])
            for group, name in names.items()
        ]

    costs = [
        Column("s per\nedit", [_format(row.costs.get("seconds_per_edit"), 2) for row in rows]),
        Column("ms per\nquery", [_format(row.costs.get("ms_per_query"), 0) for row in rows]),
        Column("keys per\nedit", [_format(_keys_per_edit(row), 1) for row in rows]),
    ]
    caption = f"right by {COMPARISON}; exact match is in summary.parquet"
    if not intervals:
        caption += "; --intervals shows intervals"
    heading = f"share of right answers{', 95 % interval' if intervals else ''}"
    print_table(console, heading, [row.title for row in rows], [shares(corrected), shares(kept), costs], caption)


def print_extra(console: Screen, extra: ExtraTable, *, intervals: bool) -> None:
    """Print a small table of an experiment; ``intervals`` as for :func:`print_shares`."""

    def shown(text: str) -> str:
        return text if intervals else _INTERVAL.sub("", text)

    names = [row[0] for row in extra.rows]
    columns = [Column(fold(name), [shown(row[i]) for row in extra.rows]) for i, name in enumerate(extra.head) if i]
    text = extra.text if intervals else extra.text.replace(", 95 % interval", "").replace("; 95 % interval", "")
    print_table(console, extra.title, names, [columns], text)


def as_json(name: str, folder: Path, rows: Table, extra: Sequence[ExtraTable], beyond: Sequence[str]) -> dict[str, Any]:
    """An experiment's rows for a program; what is not a number is null."""
    return {
        "experiment": name,
        "folder": str(folder),
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "seeds": list(row.seeds),
                "metrics": {group: _numbers(row, group) for group in row.metrics},
                "costs": {key: _number(value) for key, value in row.costs.items()},
            }
            for row in rows
        ],
        "tables": [
            {"title": table.title, "head": list(table.head), "rows": [list(row) for row in table.rows]}
            for table in extra
        ],
        "notes": [*beyond, *rows.left_out, *rows.notes],
        "labels": {group: LABELS[group] for row in rows for group in row.metrics if group in LABELS},
    }


def _numbers(row: TableRow, metric: str) -> dict[str, Any]:
    values = {**asdict(row.metrics[metric]), "seeds": shares_by_seed(row, metric)}
    return {key: _number(value) for key, value in values.items()}


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _keys_per_edit(row: TableRow) -> float | None:
    edits, keys = row.costs.get("edits"), row.costs.get("keys")
    return keys / edits if edits and keys is not None else None


def _format_share(share: Estimate | None, *, intervals: bool) -> str:
    """A share, and below it its interval where it has one and it is wanted."""
    if share is None:
        return "–"
    has_interval = math.isfinite(share.low) and math.isfinite(share.high)
    return f"{share.mean:.2f}" + (f"\n{share.low:.2f}–{share.high:.2f}" if intervals and has_interval else "")


def _format(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
