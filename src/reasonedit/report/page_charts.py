"""The charts of each experiment, and of the choice of a layer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reasonedit.errors import InputError
from reasonedit.experiments.editors import NO_RIVALS
from reasonedit.experiments.experiment import Experiment
from reasonedit.experiments.slopes import lines_of
from reasonedit.experiments.tables import TableRow
from reasonedit.groups import GENERALITIES, LABELS, LOCALITIES

from .charts import Line, draw_bars, draw_lines, draw_scatter
from .ties import describe_layer_ties, describe_weight_ties

_STRESSED = ("rel", "r_gen", "coe_gen", "loc", "hard_loc")

Chart = dict[str, str]
"""Its title, the text under it, its SVG element, and whether it is wide."""


def charts_of(experiment: Experiment, table: Sequence[TableRow]) -> list[Chart]:
    """The charts of an experiment.

    Args:
        experiment: The experiment.
        table: The rows of its table.
    """
    charts: list[Chart] = []
    if experiment.name == "main":
        charts += _main_charts(table)
    if experiment.axis:
        charts += _sweep_charts(table, experiment.axis)
    if experiment.name == "stress":
        charts += _stress_charts(table)
    return charts


def _chart(svg: str, title: str = "", text: str = "") -> Chart:
    return {"title": title, "text": text, "svg": svg}


def _main_charts(table: Sequence[TableRow]) -> list[Chart]:
    rows = [row for row in table if row.name not in NO_RIVALS]
    points = {
        row.title: (row.metrics["hard_loc"].mean, row.metrics["gen"].mean)
        for row in rows
        if {"hard_loc", "gen"} <= set(row.metrics)
    }
    seconds, milliseconds = (
        {row.title: row.costs[key] for row in rows if key in row.costs} for key in ("seconds_per_edit", "ms_per_query")
    )
    charts: list[Chart] = []
    if points:
        corrected = _chart(
            draw_scatter(points, x_label="hard locality", y_label="generality (harmonic mean)"),
            "What is corrected, and what is left alone",
            "Up: more questions that an edit bears on are put right. Right: more similar questions that it does not "
            "bear on stay right.",
        )
        charts.append({**corrected, "wide": "wide"})
    if seconds:
        charts.append(_chart(draw_bars(seconds, x_label="seconds"), "Seconds per edit"))
    if milliseconds:
        bars = draw_bars(milliseconds, x_label="milliseconds", digits=0)
        text = (
            "Beside the unedited model's, which is the row “none”." if any(row.name == "none" for row in rows) else ""
        )
        charts.append(_chart(bars, "Milliseconds per query", text))
    return charts


def _sweep_charts(table: Sequence[TableRow], axis: str) -> list[Chart]:
    panels = {
        name: [
            Line(
                LABELS[group],
                [row.x for row in rows if row.x is not None],
                [row.metrics[group].mean for row in rows],
                [row.metrics[group].low for row in rows],
                [row.metrics[group].high for row in rows],
            )
            for group in (*GENERALITIES, *LOCALITIES)
            if rows and all(group in row.metrics for row in rows)
        ]
        for name, rows in lines_of(table).items()
    }
    # Each panel is a chart of its own: a phone shows one below the other.
    return [_chart(draw_lines({name: lines}, x_label=axis)) for name, lines in panels.items() if lines]


def _stress_charts(table: Sequence[TableRow]) -> list[Chart]:
    def panel(group: str) -> list[Line]:
        lines = []
        for row in table:
            if row.name != "none" and row.history and all(group in shares for shares in row.history.values()):
                # Of rounds without a new edit between them the last one counts.
                points = {round(row.stops[number], 1): of[group].mean for number, of in row.history.items()}
                lines.append(Line(row.title, list(points), list(points.values())))
        return lines

    text = (
        "Shares of right answers over the number of edits (their mean over the seeds), for the probes of a sample of "
        "the edits so far."
    )
    return [
        _chart(
            draw_lines({LABELS[group]: lines}, x_label="edits", log=True),
            f"{LABELS[group]} over the number of edits",
            text,
        )
        for group in _STRESSED
        if (lines := panel(group))
    ]


def selection_charts(results: Path) -> list[Chart]:
    """The charts of ``reasonedit select``, where its results stand beside those of the experiments.

    Raises:
        InputError: The file is not what it wrote.
    """
    path = results / "selection" / "selection.json"
    if not path.is_file():
        return []
    try:
        return _selection_charts(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise InputError(f"'{path}' is not what reasonedit select wrote: delete it, or select again.") from error


def _selection_charts(content: Mapping[str, Any]) -> list[Chart]:
    """The charts of what a selection wrote."""
    layers = list(dict.fromkeys(score["layer"] for score in content["layers"]))
    by_transform: dict[str, list[dict[str, Any]]] = {}
    for score in content["layers"]:
        by_transform.setdefault(score["transform"], []).append(score)
    by_layer = [
        _score_line(transform, [layers.index(s["layer"]) + 1.0 for s in scores], scores, "mean", "std")
        for transform, scores in by_transform.items()
    ]
    weights = content["weights"]
    by_weight = [
        _score_line(label, [w["weight"] for w in weights], weights, key, f"{key}_std")
        for key, label in (("vision", "vision Q"), ("language", "language Q"), ("balance", "balance"))
    ]
    criterion = (content.get("settings") or {}).get("criterion", "views")
    chosen = content["design"]["embedding"]
    ties = (
        describe_layer_ties(content["layers"], criterion, chosen["layer"]),
        describe_weight_ties(weights, chosen["text_weight"]),
    )
    spread = "Shaded: the standard deviation over the bootstrap runs."
    panel, ticks = "modularity over w", [0.1, 0.3, 1.0, 3.0, 10.0]
    numbered = ", ".join(f"{i} {name}" for i, name in enumerate(layers, 1))
    return [
        _chart(
            draw_lines({"bimodal modularity": by_layer}, x_label="layer", y_label="Q", shares=False),
            "Which layer keeps a pair and its copies together",
            f"Of the model {content['model']}. Vision-side layers in order: {numbered}. {spread} {ties[0]}".strip(),
        ),
        _chart(
            draw_lines({panel: by_weight}, x_label="w", y_label="Q", shares=False, log=True, points={panel: ticks}),
            "Vision against language",
            f"w is the weight of the sentence half. {spread} {ties[1]}".strip(),
        ),
    ]


def _score_line(label: str, x: list[float], scores: list[dict[str, Any]], key: str, spread: str) -> Line:
    """A line of scores, with their standard deviation on both sides."""
    y = [score[key] for score in scores]
    low = [value - score[spread] for value, score in zip(y, scores, strict=True)]
    high = [value + score[spread] for value, score in zip(y, scores, strict=True)]
    return Line(label, x, y, low, high)
