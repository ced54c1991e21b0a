"""The page: tables, charts and a gallery in one file that opens offline."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reasonedit.errors import InputError, NotFoundError
from reasonedit.experiments.agreement import Record
from reasonedit.experiments.bootstrap import Estimate
from reasonedit.experiments.editors import NO_RIVALS, ORACLES, OURS
from reasonedit.experiments.experiment import Experiment
from reasonedit.experiments.extra_tables import extra_tables
from reasonedit.experiments.judging import judged_before
from reasonedit.experiments.plans import EXPERIMENTS
from reasonedit.experiments.tables import Table, TableRow, are_asked_alike, cells_in, table_of
from reasonedit.groups import GENERALITIES, LABELS, ProbeGroup

from .answers import answer
from .comparing import NAMES
from .findings import judge_claims
from .page_charts import charts_of, selection_charts
from .render import format_share, render
from .verdicts import EDITS, SEEDS, format_difference

_SHORT = {"now": "Rel at once", **NAMES}
_COSTS = {"seconds": "s / edit", "ms": "ms / query", "keys": "keys / edit"}
_ON_A_PHONE = ("rel", "gen", "loc", "hard_loc", "all")
_PHONE = 4
"""Columns that a phone shows beside each other; the others are in tables below."""
_FITTING = 14
"""Columns that all fit from 900 pixels on; a table of more shows all from 1200 pixels on."""
_RIVALS = 3
"""Of fewer rows none is called the best."""
_SAME_FIGURES = 0.0005
"""Shares that differ by no more look the same."""
_ROUNDING = 1e-9
"""So much shares may differ that are the same: six thirds add up to a little less than two."""
_HELP = {
    "now": "The edited question, asked right after its turn, also where nothing was written as it was right by then",
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
        InputError: A file of the results is damaged.
        UnavailableError: The file cannot be written.
    """
    experiments = [e for e in EXPERIMENTS.values() if any((results / e.name / "cells").glob("*.parquet"))]
    if not experiments and (results / "cells").is_dir():
        raise NotFoundError(f"'{results}' holds one experiment: name the folder that it lies in.")
    if not experiments:
        raise NotFoundError(
            f"There are no results of experiments in '{results}': run reasonedit experiment main --out {results} first."
        )
    tables = {e.name: table_of(e, cells_in(results / e.name)) for e in experiments}
    records = [record for table in tables.values() for record in table.cells]
    return render(
        "page.html.j2",
        out,
        about=_about(records),
        columns=_define_columns(tables.values()),
        findings=judge_claims(tables),
        sections=[_section(e, tables[e.name], results / e.name) for e in experiments],
        gallery=_gallery(results, tables.get("main", Table())),
        modularity=selection_charts(results),
        versions=_versions(records),
    )


def _define_columns(tables: Iterable[Table]) -> dict[str, str]:
    """What each column says that any of the tables has."""
    there = {group for table in tables for row in table for group in row.metrics}
    return {short: _HELP[group] for group, short in _SHORT.items() if group in there}


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


def _section(experiment: Experiment, table: Table, folder: Path) -> dict[str, Any]:
    columns = {group: _SHORT[group] for group in _SHORT if any(group in r.metrics for r in table)}
    rows = [_row(r, table) for r in table]
    chosen = [group for group in _ON_A_PHONE if group in columns] or list(columns)[:_PHONE]
    rest = [name for name in (*columns, *_COSTS) if name not in chosen[:_PHONE]]
    return {
        "name": experiment.name,
        "title": experiment.title,
        "question": experiment.question,
        "answer": answer(experiment, table),
        "reference": next((r.title for r in table if r.name == experiment.reference), ""),
        "columns": columns,
        "names": {**columns, **_COSTS},
        "crowded": len({**columns, **_COSTS}) > _FITTING,
        "chosen": chosen[:_PHONE],
        "rest": [rest[start : start + _PHONE] for start in range(0, len(rest), _PHONE)],
        "rows": rows,
        "best": any(cell["best"] for row in rows for cell in row["metrics"].values()),
        "extra": [*extra_tables(table), *judged_before(table, folder)],
        "charts": charts_of(experiment, table),
        "edits": sorted({cell["edits"] for cell in table.cells if cell.get("edits") is not None}),
        "left_out": table.left_out,
        "notes": table.notes,
        "seeds": sorted({s for r in table for s in r.seeds}),
    }


def _row(row: TableRow, table: Sequence[TableRow]) -> dict[str, Any]:
    shown = {}
    for group, e in row.metrics.items():
        d = row.differences.get(group)
        exact = row.exact.get(group, e.mean)
        shown[group] = {
            "mean": format_share(e.mean),
            "low": e.low,
            "high": e.high,
            "interval": e.samples > 0 and math.isfinite(e.low) and math.isfinite(e.high) and e.low < e.high,
            "best": _is_best(row, group, table),
            "sign": "" if d is None or _is_few(d) else "above" if d.low > 0 else "below" if d.high < 0 else "",
            "basis": _basis(e),
            "difference": "" if d is None else format_difference(d),
            "paired": "" if d is None else f"{d.edits} edits, {_count(len(d.seeds), 'seed')}",
            "exact": exact if abs(exact - e.mean) > _SAME_FIGURES else None,
        }
    costs = row.costs
    keys = costs["keys"] / costs["edits"] if costs.get("edits") and "keys" in costs else None
    return {
        "title": row.title,
        "ours": row.name == OURS,
        "oracle": row.name in ORACLES,
        "metrics": shown,
        "costs": {
            "seconds": _format(costs.get("seconds_per_edit"), 2),
            "ms": _format(costs.get("ms_per_query"), 0),
            "keys": _format(keys, 1),
        },
        "seeds": len(row.seeds),
    }


def _is_best(row: TableRow, group: str, table: Sequence[TableRow]) -> bool:
    """Whether a row has the highest share of its column, where enough rivals were asked alike and enough to say so."""
    rivals = [r for r in table if r.name not in (*NO_RIVALS, "none") and group in r.metrics]
    if row not in rivals or len(rivals) < _RIVALS:
        return False
    asked = [r.metrics[group] for r in rivals if r.metrics[group].samples]
    if any(_is_few(e) for e in asked) or (not asked and len(row.seeds) < SEEDS):
        return False
    if not all(are_asked_alike(row, r, group) for r in rivals):
        return False
    return row.metrics[group].mean >= max(r.metrics[group].mean for r in rivals) - _ROUNDING


def _is_few(e: Estimate) -> bool:
    return len(e.seeds) < SEEDS or e.edits < EDITS


def _basis(e: Estimate) -> str:
    return f"{_count(e.samples, 'answer')} on {_count(e.edits, 'edit')}" if e.samples else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _format(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _gallery(results: Path, table: Table) -> dict[str, Any] | None:
    """Edits, queries put right and failures of the first seed that has them, and that the table shows.

    Raises:
        InputError: A file is no gallery.
    """
    cells = [cell for cell in table.cells if cell["row"] == OURS]
    for cell in sorted(cells, key=lambda cell: int(cell["seed"])):
        path = results / "main" / "cells" / f"{OURS}-{cell['seed']}.gallery.json"
        if not path.is_file():
            continue
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if content.get("made") == cell["made"]:
                return {**_shown_of(content), "seed": cell["seed"]}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(f"'{path}' is damaged: delete it, and the page is made without it.") from error
    return None


def _shown_of(content: dict[str, Any]) -> dict[str, Any]:
    """A gallery as the page shows it."""
    for edit in content["edits"]:
        edit.setdefault("right", edit["after"] == edit["answer"])
        edit["sentences"] = [{"note": "" if s["boxes"] else "no window", **s} for s in edit["sentences"]]
    content["put_right"] = [_with_facts(row) for row in content["put_right"]]
    for failures in content["failures"].values():
        failures["shown"] = [_with_facts(row) for row in failures["shown"]]
    return content


def _with_facts(row: Mapping[str, Any]) -> dict[str, Any]:
    facts = zip(row["facts"], row["distances"], row["fact_edits"], strict=True)
    told = [{"text": text, "distance": distance, "own": edit == row["edit"]} for text, distance, edit in facts]
    return {**row, "facts": told, "why": ""}
