"""From the cells of an experiment to its table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError
from reasonedit.runs import COLUMNS

from .bootstrap import Estimate, summarise
from .cells import read_cell
from .plans import Experiment

GENERALITIES = ("t_gen", "i_gen", "r_gen", "coe_gen")
_COUNTS = ("edits", "keys", "seconds_per_edit", "ms_per_query", "ms_per_query_unedited")


@dataclass
class TableRow:
    """One row of a table.

    Attributes:
        name: Names it.
        title: What it is called.
        x: Where it stands on the axis of a sweep.
        line: The line of a sweep that it belongs to.
        seeds: Seeds that were run.
        metrics: The share of each group, with its interval; under ``now`` that of the edits right after they were
            written, under ``harmonic`` the harmonic mean of the generalities (without an interval).
        differences: The difference from the reference row, by group.
        costs: Means over the seeds of edits, keys, seconds per edit, milliseconds per query.
        history: The shares after each number of edits, where there were probes on the way.
    """

    name: str
    title: str
    x: float | None
    line: str
    seeds: list[int]
    metrics: dict[str, Estimate] = field(default_factory=dict)
    differences: dict[str, Estimate] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    history: dict[int, dict[str, Estimate]] = field(default_factory=dict)


def cells_in(folder: Path) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """All cells of an experiment's folder.

    Raises:
        ReasonEditError: There are none, or a file is no cell.
    """
    paths = sorted((folder / "cells").glob("*.parquet"))
    if not paths:
        raise ReasonEditError(f"There are no results in '{folder}': run reasonedit experiment first.")
    return [read_cell(path) for path in paths]


def table_of(
    experiment: Experiment, cells: Iterable[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]
) -> list[TableRow]:
    """The table of an experiment, in the order of its plan.

    Args:
        experiment: The experiment.
        cells: Its cells; rows that were not run are left out.
    """
    by_row: dict[str, list[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]] = defaultdict(list)
    for about, rows in cells:
        by_row[about["row"]].append((about, rows))
    order = [row.name for row in experiment.rows if row.name in by_row]
    order += sorted(set(by_row) - set(order))
    made = {}
    for name in order:
        abouts = [about for about, _ in by_row[name]]
        first = abouts[0]
        made[name] = TableRow(
            name, first["title"], first["x"], first["settings"].get("line", ""), sorted(a["seed"] for a in abouts)
        )
        for key in _COUNTS:
            known = [a[key] for a in abouts if a[key] is not None]
            if known:
                made[name].costs[key] = sum(known) / len(known)
    reference = experiment.reference if experiment.reference in made else None
    for group in ("now", *COLUMNS):
        samples = {name: _samples(by_row[name], group) for name in order}
        samples = {name: mine for name, mine in samples.items() if mine}
        for name, (share, difference) in summarise(samples, reference).items():
            made[name].metrics[group] = share
            if difference is not None:
                made[name].differences[group] = difference
    for name in order:
        means = [made[name].metrics[g].mean for g in GENERALITIES if g in made[name].metrics]
        if means:
            mean = len(means) / sum(1 / m for m in means) if all(means) else 0.0
            made[name].metrics["harmonic"] = Estimate(mean, mean, mean, 0)
        made[name].history = _history(by_row[name])
    return list(made.values())


def _samples(
    cells: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]], group: str, after: int | None = None
) -> dict[int, dict[str, tuple[int, int]]]:
    """Right answers and probes by seed and edit, after the last edit or after so many."""
    found: dict[int, dict[str, tuple[int, int]]] = {}
    for about, rows in cells:
        stop = after if after is not None else max((r["edits"] for r in rows), default=0)
        mine: dict[str, tuple[int, int]] = {}
        for r in rows:
            asked = r["phase"] == "check" if group == "now" else r["group"] == group and r["edits"] == stop
            if asked:
                right, total = mine.get(r["edit"], (0, 0))
                mine[r["edit"]] = (right + bool(r["right"]), total + 1)
        if mine:
            found[about["seed"]] = mine
    return found


def _history(
    cells: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]],
) -> dict[int, dict[str, Estimate]]:
    stops = {r["edits"] for _, rows in cells for r in rows if r["phase"] == "probe"}
    history: dict[int, dict[str, Estimate]] = {}
    for stop in sorted(stops):
        for group in COLUMNS:
            samples = _samples(cells, group, stop)
            if samples:
                history.setdefault(stop, {})[group] = summarise({"": samples})[""][0]
    return history


def write_summary(path: Path, rows: Sequence[TableRow]) -> None:
    """The table as Parquet: one row per editor and metric, with interval, and difference from the reference."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = []
    for row in rows:
        for group, share in row.metrics.items():
            d = row.differences.get(group)
            found.append(
                {
                    "row": row.name,
                    "title": row.title,
                    "x": row.x,
                    "line": row.line,
                    "metric": group,
                    "mean": share.mean,
                    "low": share.low,
                    "high": share.high,
                    "samples": share.samples,
                    "seeds": list(share.seeds),
                    "difference": d.mean if d is not None else None,
                    "difference_low": d.low if d is not None else None,
                    "difference_high": d.high if d is not None else None,
                    **{key: row.costs.get(key) for key in _COUNTS},
                }
            )
    pq.write_table(pa.Table.from_pylist(found), path)
