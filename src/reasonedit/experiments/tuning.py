"""Chooses settings for each editor from the table of the experiment ``tune``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reasonedit.groups import GENERALITIES

from .search_spaces import SPACES, SearchSpace, row_of_try
from .tables import Table, TableRow

OBJECTIVE = "all"
"""The column by which settings are chosen: the harmonic mean of Gen, Loc and hard Loc."""
_IN_IT = (*GENERALITIES, "loc", "hard_loc")
_SHOWN = ("rel", "t_gen", "i_gen", "r_gen", "coe_gen", "loc", "hard_loc", "word_loc", "gen", "all")


def choose(table: Table) -> tuple[dict[str, Any], list[str]]:
    """Of each editor's tries the one with the highest objective.

    Of equals (where one share is 0 the objective is, too) the one with the highest plain mean of the same shares; of
    equals in this the first.

    Args:
        table: The table of the experiment ``tune``.

    Returns:
        What is written to a file, and one sentence for each editor that is left out, as some of its tries are not there
        on all seeds.
    """
    rows = {row.name: row for row in table}
    seeds = sorted({seed for row in table for seed in row.seeds})
    editors, notes = {}, []
    for name, space in SPACES.items():
        tries = [rows.get(row_of_try(name, i)) for i in range(len(space.tries))]
        there = [row for row in tries if row is not None and row.seeds == seeds and OBJECTIVE in row.metrics]
        if len(there) < len(tries):
            if any(tries):
                notes.append(
                    f"{space.title} is not tuned: {len(there)} of its {len(tries)} tries are there on all seeds."
                )
            continue
        editors[name] = _choose_of_editor(space, there)
    models = {record["model"]["identity"]: record["model"]["name"] for record in table.cells}
    content = {
        "objective": "harmonic mean of Gen, Loc and hard Loc; Gen is that of T-Gen, I-Gen, R-Gen and CoE-Gen",
        "seeds": seeds,
        "edits": sorted({record["edits"] for record in table.cells}),
        "models": [{"name": name, "identity": identity} for identity, name in models.items()],
        "editors": editors,
    }
    return content, notes


def _choose_of_editor(space: SearchSpace, rows: Sequence[TableRow]) -> dict[str, Any]:
    best = max(range(len(rows)), key=lambda i: (rows[i].metrics[OBJECTIVE].mean, _arithmetic_mean(rows[i])))
    tries = [
        {"values": dict(values), **{g: round(row.metrics[g].mean, 4) for g in _SHOWN if g in row.metrics}}
        for values, row in zip(space.tries, rows, strict=True)
    ]
    return {"values": dict(space.tries[best]), OBJECTIVE: tries[best][OBJECTIVE], "tries": tries}


def _arithmetic_mean(row: TableRow) -> float:
    return sum(row.metrics[group].mean for group in _IN_IT if group in row.metrics) / len(_IN_IT)
