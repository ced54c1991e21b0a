"""The table of results of a run, and what is said below it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import lightning as L
from rich import box
from rich.table import Table

import reasonedit.callbacks as cb
from reasonedit.callbacks.baselines.unedited import Unedited
from reasonedit.data.probe_counts import describe_counts
from reasonedit.data.stream import EditStream
from reasonedit.groups import LABELS, columns_of
from reasonedit.metrics import COMPARISON
from reasonedit.runs.folder import row

_NAMES = {"unedited": "unedited", "reasonedit": "ReasonEdit"}


def collect_results(trainer: L.Trainer, data: L.LightningDataModule | None) -> dict[str, dict[str, Any]]:
    """The results of a finished run: the unedited model's row, where it was asked, and the edited one's."""
    metrics, editor = cb.find_callback(trainer, cb.EditingMetrics), cb.find_callback(trainer, cb.Editor)  # type: ignore[type-abstract]
    timer = cb.find_callback(trainer, cb.QueryTimer)
    results: dict[str, dict[str, Any]] = {}
    base = data.base if isinstance(data, EditStream) else None
    counts = base.counts if base is not None else None
    if base is not None:
        results["unedited"] = row(
            base.metrics,
            base.exact_match,
            seconds_per_edit=None,
            ms_per_query=base.ms_per_query,
            counts=counts,
        )
    if metrics is not None:
        seconds = list(editor.seconds.values()) if editor is not None else []
        name = "reasonedit"
        if editor is None and cb.find_callback(trainer, cb.Retriever) is None:
            name = Unedited.title
        elif editor is not None and not isinstance(editor, cb.Codebook):
            name = editor.title or type(editor).__name__
        results[name] = row(
            metrics.results,
            metrics.exact_match,
            seconds_per_edit=sum(seconds) / len(seconds) if seconds else None,
            ms_per_query=timer.ms_per_query if timer is not None else None,
            counts=counts,
        )
        results[name] |= {f"{g}_token_accuracy": share for g, share in metrics.token_accuracy.items()}
        if metrics.out_of_range is not None:
            results[name]["out_of_range"], results[name]["out_of_range_samples"] = metrics.out_of_range
    return results


def results_table(results: dict[str, dict[str, Any]]) -> Table:
    """The table for the terminal."""
    samples = next(iter(results.values()))
    table = Table(
        title="share of right answers (number of questions)",
        caption=f"right by {COMPARISON}; {_describe_exact_match(results)}",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("", no_wrap=True, min_width=max(len(_NAMES.get(key, key)) for key in results))
    labels = columns_of(group for group in LABELS if samples.get(f"{group}_samples"))
    for group, name in labels.items():
        table.add_column(f"{fold(name)}\n({samples[f'{group}_samples']})", justify="right")
    table.add_column("Gen", justify="right")
    looked_at = any("out_of_range" in values for values in results.values())
    if looked_at:
        table.add_column("out of\nrange", justify="right")
    table.add_column("s per\nedit", justify="right")
    table.add_column("ms per\nquery", justify="right")
    for key, values in results.items():
        cells = ["–" if values[group] is None else f"{values[group]:.2f}" for group in (*labels, "gen")]
        if looked_at:
            cells.append(f"{values['out_of_range']:.2f}" if "out_of_range" in values else "–")
        cells += [_format_time(values["seconds_per_edit"], 3), _format_time(values["ms_per_query"], 1)]
        table.add_row(_NAMES.get(key, key), *cells)
    return table


def fold(name: str) -> str:
    """The name of a column in lines of five characters or so."""
    return name.replace(" ", "\n").replace("-", "-\n") if len(name) > 5 else name


def describe_results(trainer: L.Trainer, data: L.LightningDataModule | None) -> list[str]:
    """What a reader of the table should know: probes not asked, wrong answers with a right one in them, checks."""
    counts = describe_counts([data.base.counts]) if isinstance(data, EditStream) and data.base is not None else []
    return [*counts, *filter(None, [_describe_contained(trainer, data), _describe_checks(trainer)])]


def _describe_checks(trainer: L.Trainer) -> str:
    """One sentence on the verdicts of checks; empty where nothing was checked."""
    checks = cb.find_callback(trainer, cb.EditChecks)
    counts = Counter(str(check.verdict) for check in checks.checks.values()) if checks is not None else Counter[str]()
    listed = ", ".join(f"{count} “{verdict}”" for verdict, count in counts.most_common())
    return f"Of {counts.total()} edits that were checked: {listed}." if listed else ""


def _describe_contained(trainer: L.Trainer, data: L.LightningDataModule | None) -> str:
    """One sentence on answers that count as wrong although they contain a right one; empty where there are none."""
    metrics = cb.find_callback(trainer, cb.EditingMetrics)
    counts = {
        "the unedited model": data.base.contained if isinstance(data, EditStream) and data.base is not None else 0,
        "the edited one": metrics.contained if metrics is not None else 0,
    }
    listed = " and ".join(f"{count} of {name}" for name, count in counts.items() if count)
    if not listed:
        return ""
    return (
        f"Of the answers that count as wrong, {listed} contain a right one ('It is a kettle.' for 'kettle'): the "
        "column 'contains' of predictions.parquet marks those of the edited one."
    )


def _format_time(value: float | None, digits: int) -> str:
    """A time in five characters, so that a slow machine's table is no wider."""
    if value is None:
        return "–"
    return next((t for n in range(digits, 0, -1) if len(t := f"{value:.{n}f}") <= 5), f"{value:.0f}")


def _describe_exact_match(results: dict[str, dict[str, Any]]) -> str:
    """The shares by exact match that differ from those in the table."""
    differing = {
        _NAMES.get(key, key): [
            f"{name} {values[f'{group}_exact_match']:.2f}"
            for group, name in LABELS.items()
            if values.get(group) is not None and not math.isclose(values[f"{group}_exact_match"], values[group])
        ]
        for key, values in results.items()
    }
    listed = "; ".join(f"{key} {', '.join(cells)}" for key, cells in differing.items() if cells)
    return f"by exact match: {listed}" if listed else "the same by exact match"
