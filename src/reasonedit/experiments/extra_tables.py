"""What an experiment says beside its table of shares: small tables of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reasonedit.groups import LABELS

from .bootstrap import Estimate
from .check_tables import DOUBTS_HEAD, DOUBTS_TEXT, VERDICTS_HEAD, doubt_rows, verdict_rows, verdicts_text
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
    made = [_tabulate_slopes(table), _tabulate_tokens(table), _tabulate_efforts(table), _tabulate_grounding(table)]
    made += [_tabulate_verdicts(table), _tabulate_doubts(table)]
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


def _tabulate_verdicts(table: Table) -> ExtraTable | None:
    rows = verdict_rows(table)
    return ExtraTable("How often a check is right", verdicts_text(table), VERDICTS_HEAD, rows) if rows else None


def _tabulate_doubts(table: Table) -> ExtraTable | None:
    rows = doubt_rows(table)
    return ExtraTable("Which sentences are doubted", DOUBTS_TEXT, DOUBTS_HEAD, rows) if rows else None


def _tabulate_tokens(table: Table) -> ExtraTable | None:
    groups = [group for group in LABELS if any(group in row.tokens for row in table)]
    if not groups:
        return None
    text = (
        "The share of the right answer's tokens that are the likeliest ones, each told those before it. The table "
        "above counts whole answers, which the model gives by itself."
    )
    rows = [
        [row.title, *(f"{row.tokens[g]:.3f}" if g in row.tokens else "–" for g in groups)]
        for row in table
        if row.tokens
    ]
    return ExtraTable("Token accuracy, teacher-forced", text, ["", *(LABELS[group] for group in groups)], rows)


def _tabulate_efforts(table: Table) -> ExtraTable | None:
    efforts = _by_row(table, "efforts")
    if not efforts:
        return None
    text = (
        "What a person does with the VLM's own reasons, for each edit: sentences that it wrote and that were read, "
        "kept, mended or struck; words typed to mend them, and those of the person's whole chain; sentences of that "
        "chain that are missing; and how many edits were left with their answer alone."
    )
    counted = ("written", "read", "kept", "mended", "struck", "typed", "to_type", "missing")
    rows = [
        [
            title,
            *(f"{sum(e[name] for e in found) / len(found):.1f}" for name in counted),
            str(sum(e["without"] for e in found)),
        ]
        for title, found in efforts.items()
    ]
    head = ["", "written", "read", "kept", "mended", "struck", "words", "of", "missing", "answer alone"]
    return ExtraTable("What looking through takes", text, head, rows)


def _tabulate_grounding(table: Table) -> ExtraTable | None:
    measured = _by_row(table, "grounding")
    if not measured:
        return None
    text = (
        "The edited VLM is asked for the reasons of its answers: how many answers are right, of how many all reasons "
        "are, and of how many both (grounded success). Only questions whose reasons can be asked for count."
    )
    rows = [
        [title, str(len(found)), *(f"{_share_with(found, *columns):.3f}" for columns in ((1,), (2,), (1, 2)))]
        for title, found in measured.items()
    ]
    return ExtraTable("Are the reasons right, too?", text, ["", "answers", "right", "reasons right", "both"], rows)


def _share_with(measured: Sequence[Sequence[Any]], *columns: int) -> float:
    """The share of answers of which all these columns hold."""
    return sum(all(one[i] for i in columns) for one in measured) / len(measured)


def _by_row(table: Table, name: str) -> dict[str, list[Any]]:
    """What the cells of each row measured beside their shares, by the row's title; rows without any are left out."""
    found = {
        row.title: [one for cell in table.cells if cell["row"] == row.name for one in cell.get(name) or ()]
        for row in table
    }
    return {title: of_row for title, of_row in found.items() if of_row}


def format_points(e: Estimate) -> str:
    """A slope with its interval, in points."""
    if not math.isfinite(e.mean):
        return "–"
    interval = f" [{e.low:+.1f}, {e.high:+.1f}]" if math.isfinite(e.low) and math.isfinite(e.high) else ""
    return f"{e.mean:+.1f}{interval}"
