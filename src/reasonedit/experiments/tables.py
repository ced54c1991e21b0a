"""From the cells of an experiment to its table."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasonedit.data.probe_counts import ProbeCount, describe_counts
from reasonedit.errors import NotFoundError
from reasonedit.groups import GENERALITIES, LABELS, LOCALITIES, generality, overall
from reasonedit.rounds import clusters_of, final_probes, split_rounds

from .agreement import CellRows, Record, compare_seeds, select_agreeing
from .bootstrap import Estimate, Formula, Samples, combine, difference, summarise
from .cell_file import read_cell
from .editors import NO_RIVALS
from .experiment import Experiment
from .tuned import TUNED_FILE, models_tuned_on

_log = logging.getLogger(__name__)

FORMULAS: dict[str, tuple[Formula, tuple[str, ...]]] = {
    "gen": (generality, GENERALITIES),
    "all": (overall, (*GENERALITIES, "loc", "hard_loc")),
}
"""The figures that are made of the shares of several groups, and of which groups."""

_COSTS = ("edits", "keys", "seconds_per_edit", "ms_per_query", "ms_per_query_unedited")


@dataclass
class TableRow:
    """One row of a table.

    Attributes:
        name: Names it.
        title: What it is called.
        x: Where it stands on the axis of a sweep.
        line: The line of a sweep that it belongs to.
        seeds: Seeds that were run.
        metrics: The share of each group, with its interval; under ``now`` that of the edits right after their
            turns, written or not, under ``gen`` the harmonic mean of the generalities and under ``all`` that of Gen,
            Loc and hard Loc.
        exact: The share of exact matches beside each; NaN for cells of versions that did not record it.
        tokens: The share of the right answers' tokens under teacher forcing, where it was asked for.
        differences: The difference from the reference row, by group; none of bounds and of edits that stand alone.
        costs: Means over the seeds of edits, keys, seconds per edit, milliseconds per query; only those that are
            known of every seed.
        history: The shares after each round of probes, by its number, where there were probes on the way. It has the
            rounds that all seeds have, and for the last of them the last one of each seed.
        samples: What the shares are of, by group.
        earlier: The same after each round.
        stops: How many edits were written by each round, the mean over the seeds.
    """

    name: str
    title: str
    x: float | None
    line: str
    seeds: list[int]
    metrics: dict[str, Estimate] = field(default_factory=dict)
    exact: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)
    differences: dict[str, Estimate] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    history: dict[int, dict[str, Estimate]] = field(default_factory=dict)
    samples: dict[str, Samples] = field(default_factory=dict)
    earlier: dict[int, dict[str, Samples]] = field(default_factory=dict)
    stops: dict[int, float] = field(default_factory=dict)


class Table(list[TableRow]):
    """The rows of a table.

    Attributes:
        cells: What the cells that it shows say of themselves.
        left_out: One sentence for each kind of cell that was there and does not agree with these.
        notes: What else a reader of the table should know.
    """

    def __init__(
        self,
        rows: Iterable[TableRow] = (),
        cells: Sequence[Record] = (),
        left_out: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(rows)
        self.cells, self.left_out, self.notes = list(cells), list(left_out), list(notes)


def cells_in(folder: Path) -> list[CellRows]:
    """All cells of an experiment's folder, whether or not they agree with each other: see :func:`table_of`.

    Raises:
        NotFoundError: There are none.
        InputError: A file is no cell.
    """
    paths = sorted((folder / "cells").glob("*.parquet"))
    if not paths:
        raise NotFoundError(f"There are no results in '{folder}': run reasonedit experiment first.")
    return [read_cell(path) for path in paths]


def table_of(
    experiment: Experiment, cells: Iterable[CellRows], first: Callable[[Record], bool] = lambda _: False
) -> Table:
    """The table of an experiment, in the order of its plan.

    It shows the newest cells that agree on data, number of edits, model, libraries and code; what does not agree with
    them is left out, and named.

    Args:
        experiment: The experiment.
        cells: Its cells; rows that were not run are left out.
        first: Which cells are shown whatever is newer.

    Raises:
        ConflictError: It cannot be told which cells belong together.
    """
    agreement = select_agreeing(cells, first)
    for sentence in agreement.left_out:
        _log.info("%s: %s", experiment.title, sentence)
    by_row: dict[str, list[CellRows]] = defaultdict(list)
    for record, predictions in agreement.cells:
        by_row[record["row"]].append((record, predictions))
    names = [row.name for row in experiment.rows if row.name in by_row]
    names += sorted(set(by_row) - set(names))
    rows = {name: _row(experiment, name, [record for record, _ in by_row[name]]) for name in names}
    _tell_apart(rows.values(), {row.name for row in experiment.rows})
    reference = experiment.reference if experiment.reference in rows else None
    for group in ("now", *LABELS):
        samples = {name: _samples(by_row[name], group) for name in names}
        samples = {name: of_row for name, of_row in samples.items() if of_row}
        for name, (share, compared) in summarise(samples, reference).items():
            rows[name].samples[group] = samples[name]
            rows[name].metrics[group] = share
            rows[name].exact[group] = _mean_of(by_row[name], group, "exact_match")
            share_of_tokens = _mean_of(by_row[name], group, "token_accuracy")
            if math.isfinite(share_of_tokens):
                rows[name].tokens[group] = share_of_tokens
            if compared is not None and compared.edits and name not in NO_RIVALS:
                rows[name].differences[group] = compared
    for name, row in rows.items():
        compared_with = reference if name not in (reference, *NO_RIVALS) else None
        _add_summaries(row, rows[compared_with] if compared_with is not None else None)
        _add_rounds(row, by_row[name])
    records = [record for record, _ in agreement.cells]
    notes = [*_describe_probes(records), *compare_seeds(agreement.cells), *_describe_times(records)]
    notes += _describe_tuned(records)
    return Table(rows.values(), records, agreement.left_out, notes)


def _add_summaries(row: TableRow, reference: TableRow | None) -> None:
    """Gen and All of a row, and their differences from the reference's."""
    for name, (formula, groups) in FORMULAS.items():
        share = combine({group: row.samples[group] for group in groups if group in row.samples}, formula)
        if not math.isfinite(share.mean):
            continue
        row.metrics[name] = share
        difference = difference_of(row, reference, name) if reference is not None else None
        if difference is not None:
            row.differences[name] = difference


def difference_of(row: TableRow, other: TableRow, metric: str) -> Estimate | None:
    """How much higher a row's figure is than another's, paired; ``None`` where they cannot be compared.

    Gen and All are made of several groups: rows that were not asked the same groups have figures of another sort.

    Args:
        row: A row.
        other: Another.
        metric: A group, ``"gen"`` or ``"all"``.
    """
    if metric in FORMULAS:
        formula, groups = FORMULAS[metric]
        asked, as_well = ([group for group in groups if group in one.samples] for one in (row, other))
        if asked != as_well:
            return None
        found = combine({group: row.samples[group] for group in asked}, formula, other.samples)
    elif metric in row.samples and metric in other.samples:
        found = difference(row.samples[metric], other.samples[metric])
    else:
        return None
    return found if found.edits and math.isfinite(found.mean) else None


def shares_by_seed(row: TableRow, metric: str) -> list[float]:
    """A figure of each seed of a row, in their order; NaN where a seed has none.

    Args:
        row: A row.
        metric: A group, ``"gen"`` or ``"all"``.
    """
    groups = FORMULAS[metric][1] if metric in FORMULAS else (metric,)
    of_groups = [row.samples[group] for group in groups if group in row.samples]
    asked = {seed for samples in of_groups for seed in samples if any(total for _, total in samples[seed].values())}
    shares = dict(zip(sorted(asked), row.metrics[metric].seeds, strict=True))
    return [shares.get(seed, math.nan) for seed in row.seeds]


def are_asked_alike(row: TableRow, other: TableRow, metric: str) -> bool:
    """Whether two rows have a figure of the same edits on the same seeds, so that their shares compare as they are.

    Args:
        row: A row.
        other: Another.
        metric: A group, ``"gen"`` or ``"all"``.
    """
    groups = FORMULAS[metric][1] if metric in FORMULAS else (metric,)
    one, another = (
        {
            (group, seed, edit)
            for group in groups
            for seed, of_seed in some.samples.get(group, {}).items()
            for edit, (_, total) in of_seed.items()
            if total
        }
        for some in (row, other)
    )
    return one == another


def _describe_probes(records: Sequence[Record]) -> list[str]:
    """What is not asked, by group; the same for all rows of a seed, but for rows whose streams probe fewer edits."""
    by_seed: dict[int, dict[str, ProbeCount]] = {}
    for record in records:
        counts = {group: ProbeCount(**count) for group, count in record.get("probes", {}).items()}
        by_seed[record["seed"]] = max(by_seed.get(record["seed"], {}), counts, key=_number_expected)
    return describe_counts([by_seed[seed] for seed in sorted(by_seed)])


def _describe_times(records: Sequence[Record]) -> list[str]:
    """One sentence, where cells ran beside others."""
    most = max((record.get("at_once", 1) for record in records), default=1)
    if most == 1:
        return []
    return [f"Up to {most} cells ran at once: their times are no measure of an editor that has the machine to itself."]


def _describe_tuned(records: Sequence[Record]) -> list[str]:
    """One sentence, where rows have settings that were tuned on another model."""
    if not any(record["row"].endswith("-tuned") for record in records):
        return []
    tuned_on, here = models_tuned_on(TUNED_FILE), {record["model"]["name"] for record in records}
    if not tuned_on or here <= {*tuned_on}:
        return []
    return [
        f"The settings of the rows '(tuned)' were chosen on {' and '.join(tuned_on)}, and not on "
        f"{' and '.join(sorted(here - {*tuned_on}))}: 'reasonedit experiment tune' chooses them on a model of yours."
    ]


def _number_expected(counts: Mapping[str, ProbeCount]) -> int:
    return sum(count.expected for count in counts.values())


def _row(experiment: Experiment, name: str, records: Sequence[Record]) -> TableRow:
    """A row without its shares."""
    title, x, line = records[0]["title"], records[0]["x"], records[0]["settings"].get("line", "")
    planned = next((row for row in experiment.rows if row.name == name), None)
    if planned is not None:  # a new title makes no new cell
        title, x, line = planned.title, planned.x, planned.line
    row = TableRow(name, title, x, line, sorted(record["seed"] for record in records))
    for key in _COSTS:
        values = [record.get(key) for record in records]
        finite = [float(v) for v in values if v is not None and math.isfinite(v)]
        if len(finite) == len(values):
            row.costs[key] = sum(finite) / len(finite)
    return row


def _tell_apart(rows: Iterable[TableRow], planned: Collection[str]) -> None:
    """Put their names to rows that have a title of another's, as charts and small tables know rows by it.

    So it is where two editors of one's own were run in turn; those of one command have titles of their own.
    """
    rows = list(rows)
    titles = Counter(row.title for row in rows)
    for row in rows:
        if titles[row.title] > 1 and row.name not in planned:
            row.title = f"{row.title} ({row.name})"


def _samples(
    cells: Sequence[CellRows],
    group: str,
    score: Callable[[Mapping[str, Any]], float] | None = None,
    *,
    on_the_way: bool = False,
) -> Samples:
    """Right answers and probes by seed and edit, in the end (:func:`final_probes`).

    Questions that several edits share count with the first (:func:`clusters_of`). On the way they do not: which edit is
    the first may differ from round to round, and rounds are compared by edit.
    """
    score = score or accuracy_of
    samples: dict[int, dict[str, tuple[float, int]]] = {}
    for record, rows in cells:
        if group == "now":
            asked = [row for row in rows if row["phase"] == "check"]
        else:
            shares = group in LOCALITIES and not on_the_way  # what is asked for one group may be for another, too
            asked = final_probes(rows, None if shares else group, alone=is_alone(record))
        edits = [row["edit"] for row in asked] if on_the_way else clusters_of(asked)
        counts: dict[str, tuple[float, int]] = {}
        for row, edit in zip(asked, edits, strict=True):
            if group in ("now", row["group"]):
                right, total = counts.get(edit, (0.0, 0))
                counts[edit] = (right + score(row), total + 1)
        if counts:
            samples[record["seed"]] = counts
    return samples


def is_alone(record: Record) -> bool:
    """Whether each edit of a cell stood alone."""
    return bool((record["data"].get("init_args") or {}).get("alone"))


def accuracy_of(row: Mapping[str, Any]) -> float:
    """How right an answer is: a part of it counts where several people gave the right answers."""
    accuracy = row.get("accuracy")
    return float(bool(row["right"]) if accuracy is None else accuracy)


def _mean_of(cells: Sequence[CellRows], group: str, column: str) -> float:
    """The mean of a column over all answers to a group; NaN where an answer lacks it."""

    def score(row: Mapping[str, Any]) -> float:
        return math.nan if row.get(column) is None else float(row[column])

    counts = [c for of_seed in _samples(cells, group, score=score).values() for c in of_seed.values()]
    return sum(right for right, _ in counts) / sum(total for _, total in counts)


def _add_rounds(row: TableRow, cells: Sequence[CellRows]) -> None:
    """What a row was asked on the way; where each edit stands alone there is no way.

    A round is known by its number: after how many edits it comes differs by seed, as what is answered rightly already
    is not written.
    """
    rounds = [(record, split_rounds(rows)) for record, rows in cells if not is_alone(record)]
    rounds = [(record, of_cell) for record, of_cell in rounds if of_cell]
    if not rounds:
        return
    shared = set[int].intersection(*(set(of_cell) - {max(of_cell)} for _, of_cell in rounds))
    for number in [*sorted(shared), max(max(of_cell) for _, of_cell in rounds)]:
        asked = [(record, of_cell[number if number in shared else max(of_cell)]) for record, of_cell in rounds]
        by_group = {group: _samples(asked, group, on_the_way=True) for group in LABELS}
        row.earlier[number] = {group: samples for group, samples in by_group.items() if samples}
        row.history[number] = {g: summarise({"": samples})[""][0] for g, samples in row.earlier[number].items()}
        row.stops[number] = sum(probes[0]["edits"] for _, probes in asked) / len(asked)


def write_summary(path: Path, rows: Sequence[TableRow]) -> None:
    """Write the table as Parquet: one row per editor and metric, with interval, and difference from the reference."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = []
    for row in rows:
        for group, share in row.metrics.items():
            d = row.differences.get(group)
            lines.append(
                {
                    "row": row.name,
                    "title": row.title,
                    "x": row.x,
                    "line": row.line,
                    "metric": group,
                    "mean": _finite(share.mean),
                    "low": _finite(share.low),
                    "high": _finite(share.high),
                    "exact_match": row.exact.get(group),
                    "token_accuracy": row.tokens.get(group),
                    "samples": share.samples,
                    "edits_asked": share.edits,
                    "seeds": shares_by_seed(row, group),
                    "difference": _finite(d.mean) if d is not None else None,
                    "difference_low": _finite(d.low) if d is not None else None,
                    "difference_high": _finite(d.high) if d is not None else None,
                    "difference_edits": d.edits if d is not None else None,
                    "difference_seeds": len(d.seeds) if d is not None else None,
                    **{key: row.costs.get(key) for key in _COSTS},
                }
            )
    part = path.with_name(f".{path.name}.part")
    pq.write_table(pa.Table.from_pylist(lines), part)
    part.replace(path)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
