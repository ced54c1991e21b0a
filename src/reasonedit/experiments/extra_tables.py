"""What an experiment says beside its table of shares: small tables of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reasonedit.groups import LABELS

from .bootstrap import Estimate
from .slopes import STEP, slopes_of
from .tables import Table


@dataclass(frozen=True)
class ExtraTable:
    """A small table.

    Attributes:
        title: Its heading.
        text: What it says, in a sentence.
        head: The names of its columns.
        rows: Its cells, the first of each row its name.
    """

    title: str
    text: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def extra_tables(table: Table) -> list[ExtraTable]:
    """The small tables that belong to the table of an experiment, if there are any."""
    made = [_tabulate_slopes(table), _tabulate_tokens(table)]
    return [one for one in made if one is not None]


def _tabulate_slopes(table: Table) -> ExtraTable | None:
    slopes = slopes_of(table)
    groups = [group for group in LABELS if any(group in of_line.groups for of_line in slopes)]
    if not groups:
        return None
    text = f"Points of a hundred for each {STEP:g} % more, by the least-squares line through all shares, 95 % interval."
    rows = [
        [of_line.line, *(format_points(of_line.groups[g]) if g in of_line.groups else "–" for g in groups)]
        for of_line in slopes
    ]
    return ExtraTable("How fast each metric falls", text, ["", *(LABELS[group] for group in groups)], rows)


def _tabulate_tokens(table: Table) -> ExtraTable | None:
    groups = [group for group in LABELS if any(group in row.tokens for row in table)]
    if not groups:
        return None
    text = (
        "Token accuracy: the share of the right answer's tokens that are the likeliest ones, each told those before it "
        "(teacher forcing), as older tables have it. The table above counts the answers that the model gives by itself."
    )
    rows = [
        [row.title, *(f"{row.tokens[g]:.3f}" if g in row.tokens else "–" for g in groups)]
        for row in table
        if row.tokens
    ]
    return ExtraTable("Token accuracy, teacher-forced", text, ["", *(LABELS[group] for group in groups)], rows)


def format_points(e: Estimate) -> str:
    """A slope with its interval, in points."""
    if not math.isfinite(e.mean):
        return "–"
    interval = f" [{e.low:+.1f}, {e.high:+.1f}]" if math.isfinite(e.low) and math.isfinite(e.high) else ""
    return f"{e.mean:+.1f}{interval}"
