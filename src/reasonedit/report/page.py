"""The page: tables, charts and a gallery in one file that opens offline."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from reasonedit.drawings import COLOURS
from reasonedit.errors import ReasonEditError
from reasonedit.experiments.bootstrap import Estimate
from reasonedit.experiments.editors import ORACLES, OURS
from reasonedit.experiments.experiment import Experiment
from reasonedit.experiments.gallery import CAUSES
from reasonedit.experiments.plans import EXPERIMENTS
from reasonedit.experiments.tables import Table, TableRow, cells_in, table_of
from reasonedit.groups import GENERALITIES, LABELS, LOCALITIES, ProbeGroup
from reasonedit.metrics import COMPARISON

from .charts import Line, bars, lines, scatter
from .findings import findings

_SHORT = {"now": "Rel at once", **LABELS, "harmonic": "Gen"}
_SHOWN_APART = 0.0005
"""Shares that differ by more have different figures."""
_HELP = {
    "now": "The edited question, asked again right after its edit",
    **{group.value: group.help for group in ProbeGroup},
    "harmonic": f"Harmonic mean of {', '.join(LABELS[g] for g in GENERALITIES[:-1])} and {LABELS[GENERALITIES[-1]]}",
}


def write_page(results: Path, out: Path) -> Path:
    """Write the page of a results folder.

    Args:
        results: What ``reasonedit experiment`` wrote: a folder for each experiment.
        out: The HTML file.

    Returns:
        The file.

    Raises:
        ReasonEditError: There are no results, or the file cannot be written.
    """
    found = [e for e in EXPERIMENTS.values() if any((results / e.name / "cells").glob("*.parquet"))]
    if not found:
        raise ReasonEditError(
            f"There are no results of experiments in '{results}': run reasonedit experiment main --out {results} first."
        )
    tables = {e.name: table_of(e, cells_in(results / e.name)) for e in found}
    abouts = [about for table in tables.values() for about in table.cells]
    environment = Environment(
        loader=PackageLoader("reasonedit.report", "."),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["share"] = lambda x: "–" if x is None else f"{x:.3f}".replace("0.", ".", 1)
    page = environment.get_template("page.html.j2").render(
        style=(Path(__file__).parent / "page.css").read_text(encoding="utf-8"),
        about=_about(abouts),
        findings=findings(tables),
        sections=[_section(e, tables[e.name]) for e in found],
        gallery=_gallery(results, tables.get("main", Table())),
        causes=CAUSES,
        colours=COLOURS,
        groups=LABELS,
        comparison=COMPARISON,
        modularity=_modularity(results),
        versions=_versions(abouts),
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ReasonEditError(f"The report cannot be written to '{out}' ({error.strerror}): name another.") from error
    return out


def _about(abouts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sources = {a["data"]["init_args"]["source"]["class_path"].rsplit(".", 1)[-1] for a in abouts}
    return {
        "model": ", ".join(sorted({a["model"]["name"] for a in abouts})),
        "source": ", ".join(sorted(sources)),
        "seeds": sorted({a["seed"] for a in abouts}),
        "cells": len(abouts),
    }


def _versions(abouts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Versions of all results; where they differ between tables, each."""
    found: dict[str, dict[str, None]] = {}
    for about in abouts:
        for name, version in about.get("versions", {}).items():
            found.setdefault(name, {})[version] = None
    return {name: " and ".join(versions) for name, versions in found.items()}


def _section(experiment: Experiment, table: Table) -> dict[str, Any]:
    return {
        "name": experiment.name,
        "title": experiment.title,
        "question": experiment.question,
        "reference": next((r.title for r in table if r.name == experiment.reference), ""),
        "columns": {g: (_SHORT[g], _HELP[g]) for g in _SHORT if any(g in r.metrics for r in table)},
        "rows": [_row(experiment, r, table) for r in table],
        "charts": _charts(experiment, table),
        "edits": sorted({round(r.costs["edits"]) for r in table if "edits" in r.costs}),
        "left_out": table.left_out,
        "notes": table.notes,
        "seeds": sorted({s for r in table for s in r.seeds}),
    }


def _row(experiment: Experiment, row: TableRow, table: Sequence[TableRow]) -> dict[str, Any]:
    rivals = [r for r in table if r.name not in ORACLES and r.name != "none"]
    shown = {}
    for group, e in row.metrics.items():
        d = row.differences.get(group)
        best = max((r.metrics[group].mean for r in rivals if group in r.metrics), default=None)
        shown[group] = {
            "mean": e.mean,
            "low": e.low,
            "high": e.high,
            "interval": e.samples > 0 and math.isfinite(e.low) and math.isfinite(e.high),
            "best": row in rivals and best is not None and e.mean >= best,
            "sign": "" if d is None else "above" if d.low > 0 else "below" if d.high < 0 else "",
            "note": _note(e, d),
            "exact": exact if abs((exact := row.exact.get(group, e.mean)) - e.mean) > _SHOWN_APART else None,
        }
    costs = row.costs
    return {
        "title": row.title,
        "ours": row.name == OURS,
        "oracle": row.name in ORACLES,
        "metrics": shown,
        "seconds": costs.get("seconds_per_edit"),
        "ms": costs.get("ms_per_query"),
        "keys_per_edit": costs["keys"] / costs["edits"] if costs.get("edits") and "keys" in costs else None,
        "seeds": len(row.seeds),
    }


def _note(e: Estimate, d: Estimate | None) -> str:
    if not e.samples:
        return ""
    text = f"{e.samples} answers on {e.edits} edits"
    if d is not None:
        text += f"; against the reference {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
        text += f" on {d.edits} edits and {len(d.seeds)} seed{'s' if len(d.seeds) != 1 else ''} that both have"
    return text


def _charts(experiment: Experiment, table: Sequence[TableRow]) -> list[dict[str, str]]:
    made = []
    if experiment.name == "main":
        made.append(
            {
                "title": "What is corrected, and what is left alone",
                "wide": "wide",
                "svg": scatter(
                    {
                        r.title: (r.metrics["hard_loc"].mean, r.metrics["harmonic"].mean)
                        for r in table
                        if r.name not in ORACLES and {"hard_loc", "harmonic"} <= set(r.metrics)
                    },
                    x_label="hard locality",
                    y_label="generality (harmonic mean)",
                ),
                "text": "Up: more questions that an edit bears on are put right. Right: more similar questions that it "
                "does not bear on stay right.",
            }
        )
        made.append(
            {"title": "Seconds per edit", "text": "", "svg": bars(_costs(table, "seconds_per_edit"), x_label="seconds")}
        )
        made.append(
            {
                "title": "Milliseconds per query",
                "text": "Beside the unedited model's, which is the row “none”.",
                "svg": bars(_costs(table, "ms_per_query"), x_label="milliseconds", digits=0),
            }
        )
    if experiment.axis:
        groups = (*GENERALITIES, *LOCALITIES)
        panels = {
            text: [
                Line(
                    LABELS[g],
                    [r.x for r in mine if r.x is not None],
                    [r.metrics[g].mean for r in mine],
                    [r.metrics[g].low for r in mine],
                    [r.metrics[g].high for r in mine],
                )
                for g in groups
                if mine and all(g in r.metrics for r in mine)
            ]
            for text, mine in _lines_of(table).items()
        }
        names = list(panels)
        for start in range(0, len(names), 2):
            part = {n: panels[n] for n in names[start : start + 2]}
            made.append({"title": "", "text": "", "svg": lines(part, x_label=experiment.axis)})
    if experiment.name == "stress":
        stressed = ("rel", "r_gen", "coe_gen", "loc", "hard_loc")
        panels = {
            LABELS[g]: [
                Line(r.title, sorted(r.history), [r.history[s][g].mean for s in sorted(r.history)])
                for r in table
                if r.name != "none" and r.history and all(g in h for h in r.history.values())
            ]
            for g in stressed
        }
        text = "Shares of right answers over the number of edits, for the probes of a sample of the edits so far."
        made.append({"title": "Shares over the number of edits", "text": text,
                     "svg": lines({k: panels[k] for k in list(panels)[:3]}, x_label="edits", log=True)})  # fmt: skip
        made.append(
            {"title": "", "text": "", "svg": lines({k: panels[k] for k in list(panels)[3:]}, x_label="edits", log=True)}
        )
    return made


def _lines_of(table: Sequence[TableRow]) -> dict[str, list[TableRow]]:
    """The rows of each line of a sweep by x; a row of the line ``clean`` is where all others begin."""
    found: dict[str, list[TableRow]] = {}
    clean = [r for r in table if r.line == "clean"]
    for row in table:
        if row.x is not None and row.line != "clean":
            found.setdefault(row.line, list(clean)).append(row)
    return {line: sorted(mine, key=lambda r: r.x or 0.0) for line, mine in found.items()}


def _costs(table: Sequence[TableRow], key: str) -> dict[str, float]:
    return {r.title: r.costs[key] for r in table if r.name not in ORACLES and key in r.costs}


def _gallery(results: Path, table: Table) -> dict[str, Any] | None:
    """Edits, queries put right and failures of the first seed that has them, and that the table shows."""
    shown = {about["made"] for about in table.cells if about["row"] == OURS}
    for path in sorted((results / "main" / "cells").glob(f"{OURS}-*.gallery.json")):
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.get("made") in shown:
            return content
    return None


def _modularity(results: Path) -> list[dict[str, str]]:
    """The charts of ``reasonedit select``, where its results stand beside those of the experiments."""
    path = results / "selection" / "selection.json"
    if not path.is_file():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    layers = list(dict.fromkeys(s["layer"] for s in content["layers"]))
    by_transform: dict[str, list[dict[str, Any]]] = {}
    for score in content["layers"]:
        by_transform.setdefault(score["transform"], []).append(score)

    def line(label: str, x: list[float], scores: list[dict[str, Any]], key: str, spread: str) -> Line:
        y = [s[key] for s in scores]
        return Line(label, x, y, [a - s[spread] for a, s in zip(y, scores, strict=True)],
                    [a + s[spread] for a, s in zip(y, scores, strict=True)])  # fmt: skip

    chosen = [
        line(t, [layers.index(s["layer"]) + 1.0 for s in mine], mine, "mean", "std") for t, mine in by_transform.items()
    ]
    weights = content["weights"]
    x = [w["weight"] for w in weights]
    balance = [
        line(text, x, weights, key, f"{key}_std")
        for key, text in (("vision", "vision Q"), ("language", "language Q"), ("balance", "balance"))
    ]
    return [
        {
            "title": "Which layer keeps a pair and its copies together",
            "text": f"Of the model {content['model']}. Vision-side layers in order: "
            + ", ".join(f"{i} {name}" for i, name in enumerate(layers, 1))
            + ".",
            "svg": lines({"bimodal modularity": chosen}, x_label="layer", y_label="Q", shares=False),
        },
        {
            "title": "Vision against language",
            "text": "w is the weight of the sentence half.",
            "svg": lines(
                {"modularity over w": balance},
                x_label="w",
                y_label="Q",
                shares=False,
                log=True,
                points={"modularity over w": [0.1, 0.3, 1.0, 3.0, 10.0]},
            ),
        },
    ]
