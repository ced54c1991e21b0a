"""The page: tables, charts and a gallery in one file that opens offline."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from reasonedit.drawings import COLOURS
from reasonedit.errors import NotFoundError, UnavailableError
from reasonedit.experiments.agreement import Record
from reasonedit.experiments.bootstrap import Estimate
from reasonedit.experiments.editors import NO_RIVALS, ORACLES, OURS
from reasonedit.experiments.experiment import Experiment
from reasonedit.experiments.extra_tables import extra_tables
from reasonedit.experiments.gallery import CAUSES
from reasonedit.experiments.plans import EXPERIMENTS
from reasonedit.experiments.tables import Table, TableRow, cells_in, table_of
from reasonedit.groups import GENERALITIES, LABELS, ProbeGroup
from reasonedit.metrics import COMPARISON

from .findings import judge_claims
from .page_charts import charts_of, selection_charts

_SHORT = {"now": "Rel at once", **LABELS, "gen": "Gen", "all": "All"}
_SAME_FIGURES = 0.0005
"""Shares that differ by no more look the same."""
_HELP = {
    "now": "The edited question, asked again right after its edit",
    **{group.value: group.help for group in ProbeGroup},
    "gen": f"Harmonic mean of {', '.join(LABELS[g] for g in GENERALITIES[:-1])} and {LABELS[GENERALITIES[-1]]}",
    "all": "Harmonic mean of Gen, Loc and hard Loc",
}


def write_page(results: Path, out: Path) -> Path:
    """Write the page of a results folder.

    Args:
        results: What ``reasonedit experiment`` wrote: a folder for each experiment.
        out: The HTML file.

    Returns:
        The file.

    Raises:
        NotFoundError: There are no results.
        UnavailableError: The file cannot be written.
    """
    experiments = [e for e in EXPERIMENTS.values() if any((results / e.name / "cells").glob("*.parquet"))]
    if not experiments:
        raise NotFoundError(
            f"There are no results of experiments in '{results}': run reasonedit experiment main --out {results} first."
        )
    tables = {e.name: table_of(e, cells_in(results / e.name)) for e in experiments}
    records = [record for table in tables.values() for record in table.cells]
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
        about=_about(records),
        findings=judge_claims(tables),
        sections=[_section(e, tables[e.name]) for e in experiments],
        gallery=_gallery(results, tables.get("main", Table())),
        causes=CAUSES,
        colours=COLOURS,
        groups=LABELS,
        comparison=COMPARISON,
        modularity=selection_charts(results),
        versions=_versions(records),
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UnavailableError(f"The report cannot be written to '{out}' ({error.strerror}): name another.") from error
    return out


def _about(records: Sequence[Record]) -> dict[str, Any]:
    sources = {record["data"]["init_args"]["source"]["class_path"].rsplit(".", 1)[-1] for record in records}
    return {
        "model": ", ".join(sorted({record["model"]["name"] for record in records})),
        "source": ", ".join(sorted(sources)),
        "seeds": sorted({record["seed"] for record in records}),
        "cells": len(records),
    }


def _versions(records: Sequence[Record]) -> dict[str, str]:
    """Versions of all results; where they differ between tables, each."""
    by_name: dict[str, dict[str, None]] = {}
    for record in records:
        for name, version in record.get("versions", {}).items():
            by_name.setdefault(name, {})[version] = None
    return {name: " and ".join(versions) for name, versions in by_name.items()}


def _section(experiment: Experiment, table: Table) -> dict[str, Any]:
    return {
        "name": experiment.name,
        "title": experiment.title,
        "question": experiment.question,
        "reference": next((r.title for r in table if r.name == experiment.reference), ""),
        "columns": {g: (_SHORT[g], _HELP[g]) for g in _SHORT if any(g in r.metrics for r in table)},
        "rows": [_row(experiment, r, table) for r in table],
        "extra": extra_tables(table),
        "charts": charts_of(experiment, table),
        "edits": sorted({round(r.costs["edits"]) for r in table if "edits" in r.costs}),
        "left_out": table.left_out,
        "notes": table.notes,
        "seeds": sorted({s for r in table for s in r.seeds}),
    }


def _row(experiment: Experiment, row: TableRow, table: Sequence[TableRow]) -> dict[str, Any]:
    rivals = [r for r in table if r.name not in NO_RIVALS and r.name != "none"]
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
            "exact": exact if abs((exact := row.exact.get(group, e.mean)) - e.mean) > _SAME_FIGURES else None,
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


def _gallery(results: Path, table: Table) -> dict[str, Any] | None:
    """Edits, queries put right and failures of the first seed that has them, and that the table shows."""
    shown = {record["made"] for record in table.cells if record["row"] == OURS}
    for path in sorted((results / "main" / "cells").glob(f"{OURS}-*.gallery.json")):
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.get("made") in shown:
            return content
    return None
