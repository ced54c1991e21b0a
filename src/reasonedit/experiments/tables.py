"""From the cells of an experiment to its table."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError
from reasonedit.groups import GENERALITIES, LABELS

from .agreement import About, CellRows, agreeing, seeds_missing
from .bootstrap import Estimate, Samples, summarise
from .cellfile import read_cell
from .plans import Experiment

_log = logging.getLogger(__name__)

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
        exact: The share of exact matches beside each; NaN of cells that were made before it was kept.
        differences: The difference from the reference row, by group.
        costs: Means over the seeds of edits, keys, seconds per edit, milliseconds per query; of what is not known of
            every seed, nothing.
        history: The shares after each number of edits, where there were probes on the way.
        samples: What the shares are of, by group.
        earlier: The same after each number of edits.
    """

    name: str
    title: str
    x: float | None
    line: str
    seeds: list[int]
    metrics: dict[str, Estimate] = field(default_factory=dict)
    exact: dict[str, float] = field(default_factory=dict)
    differences: dict[str, Estimate] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    history: dict[int, dict[str, Estimate]] = field(default_factory=dict)
    samples: dict[str, Samples] = field(default_factory=dict)
    earlier: dict[int, dict[str, Samples]] = field(default_factory=dict)


class Table(list[TableRow]):
    """The rows of a table.

    Attributes:
        cells: What the cells that it shows say of themselves.
        left_out: One sentence for each kind of cell that was there and does not agree with these.
        notes: What else is to be said of it.
    """

    def __init__(
        self,
        rows: Iterable[TableRow] = (),
        cells: Sequence[About] = (),
        left_out: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(rows)
        self.cells, self.left_out, self.notes = list(cells), list(left_out), list(notes)


def cells_in(folder: Path) -> list[CellRows]:
    """All cells of an experiment's folder, whether or not they agree with each other: see :func:`table_of`.

    Raises:
        ReasonEditError: There are none, or a file is no cell.
    """
    paths = sorted((folder / "cells").glob("*.parquet"))
    if not paths:
        raise ReasonEditError(f"There are no results in '{folder}': run reasonedit experiment first.")
    return [read_cell(path) for path in paths]


def table_of(
    experiment: Experiment, cells: Iterable[CellRows], first: Callable[[About], bool] = lambda _: False
) -> Table:
    """The table of an experiment, in the order of its plan.

    It shows the newest cells that agree on data, number of edits, model, libraries and code; what does not agree with
    them is left out, and said.

    Args:
        experiment: The experiment.
        cells: Its cells; rows that were not run are left out.
        first: Which cells are shown whatever is newer.

    Raises:
        ReasonEditError: It cannot be told which cells belong together.
    """
    agreed = agreeing(cells, first)
    for sentence in agreed.left_out:
        _log.info("%s: %s", experiment.title, sentence)
    by_row: dict[str, list[CellRows]] = defaultdict(list)
    for about, rows in agreed.cells:
        by_row[about["row"]].append((about, rows))
    planned = {row.name: row for row in experiment.rows}
    order = [name for name in planned if name in by_row]
    order += sorted(set(by_row) - set(order))
    made: dict[str, TableRow] = {}
    for name in order:
        abouts = [about for about, _ in by_row[name]]
        title, x, line = abouts[0]["title"], abouts[0]["x"], abouts[0]["settings"].get("line", "")
        if name in planned:  # a new title makes no new cell
            title, x, line = planned[name].title, planned[name].x, planned[name].line
        made[name] = TableRow(name, title, x, line, sorted(a["seed"] for a in abouts))
        for key in _COUNTS:
            known = [a.get(key) for a in abouts]
            finite = [float(v) for v in known if v is not None and math.isfinite(v)]
            if len(finite) == len(known):
                made[name].costs[key] = sum(finite) / len(finite)
    reference = experiment.reference if experiment.reference in made else None
    for group in ("now", *LABELS):
        samples = {name: _samples(by_row[name], group) for name in order}
        samples = {name: mine for name, mine in samples.items() if mine}
        for name, (share, difference) in summarise(samples, reference).items():
            made[name].samples[group] = samples[name]
            made[name].metrics[group] = share
            made[name].exact[group] = _exact(by_row[name], group)
            if difference is not None and difference.edits:
                made[name].differences[group] = difference
    for name in order:
        means = [made[name].metrics[g].mean for g in GENERALITIES if g in made[name].metrics]
        if means:
            mean = len(means) / sum(1 / m for m in means) if all(means) else 0.0
            made[name].metrics["harmonic"] = Estimate(mean, math.nan, math.nan, 0)
        made[name].earlier = _earlier(by_row[name])
        made[name].history = {
            stop: {group: summarise({"": samples})[""][0] for group, samples in groups.items()}
            for stop, groups in made[name].earlier.items()
        }
    return Table(made.values(), [about for about, _ in agreed.cells], agreed.left_out, seeds_missing(agreed.cells))


def _samples(
    cells: Sequence[CellRows],
    group: str,
    after: int | None = None,
    share: Callable[[Mapping[str, Any]], float] | None = None,
) -> Samples:
    """Right answers and probes by seed and edit, after the last edit or after so many."""
    share = share or _share
    found: dict[int, dict[str, tuple[float, int]]] = {}
    for about, rows in cells:
        stop = after if after is not None else max((r["edits"] for r in rows), default=0)
        mine: dict[str, tuple[float, int]] = {}
        for r in rows:
            asked = r["phase"] == "check" if group == "now" else r["group"] == group and r["edits"] == stop
            if asked:
                right, total = mine.get(r["edit"], (0.0, 0))
                mine[r["edit"]] = (right + share(r), total + 1)
        if mine:
            found[about["seed"]] = mine
    return found


def _share(row: Mapping[str, Any]) -> float:
    """How right an answer is: a part of it counts where several people gave the right answers."""
    accuracy = row.get("accuracy")
    return float(bool(row["right"]) if accuracy is None else accuracy)


def _exact(cells: Sequence[CellRows], group: str) -> float:
    def share(row: Mapping[str, Any]) -> float:
        return math.nan if row.get("exact_match") is None else float(row["exact_match"])

    counts = [c for mine in _samples(cells, group, share=share).values() for c in mine.values()]
    return sum(right for right, _ in counts) / sum(total for _, total in counts)


def _earlier(cells: Sequence[CellRows]) -> dict[int, dict[str, Samples]]:
    stops = {r["edits"] for _, rows in cells for r in rows if r["phase"] == "probe"}
    found = {stop: {group: _samples(cells, group, stop) for group in LABELS} for stop in sorted(stops)}
    return {stop: {g: samples for g, samples in groups.items() if samples} for stop, groups in found.items()}


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
                    "mean": _known(share.mean),
                    "low": _known(share.low),
                    "high": _known(share.high),
                    "exact_match": row.exact.get(group),
                    "samples": share.samples,
                    "edits_asked": share.edits,
                    "seeds": list(share.seeds),
                    "difference": _known(d.mean) if d is not None else None,
                    "difference_low": _known(d.low) if d is not None else None,
                    "difference_high": _known(d.high) if d is not None else None,
                    "difference_edits": d.edits if d is not None else None,
                    "difference_seeds": len(d.seeds) if d is not None else None,
                    **{key: row.costs.get(key) for key in _COUNTS},
                }
            )
    part = path.with_name(f".{path.name}.part")
    pq.write_table(pa.Table.from_pylist(found), part)
    part.replace(path)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
