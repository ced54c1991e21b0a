"""Rows of a table compared by one figure, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reasonedit.experiments.bootstrap import Estimate
from reasonedit.experiments.editors import NO_RIVALS
from reasonedit.experiments.tables import TableRow, are_asked_alike, difference_of
from reasonedit.groups import LABELS

from .verdicts import format_basis, format_difference, is_inconclusive

NAMES = {**LABELS, "gen": "Gen", "all": "All"}


@dataclass(frozen=True)
class Lead:
    """How much a row is ahead of another.

    Attributes:
        row: The row.
        other: The other.
        by: The paired difference.
    """

    row: TableRow
    other: TableRow
    by: Estimate

    @property
    def sign(self) -> int:
        """1 where the row is ahead, -1 where it is behind, 0 where the results leave it open."""
        if is_inconclusive(self.by):
            return 0
        return (self.by.low > 0) - (self.by.high < 0)


def lead(row: TableRow, other: TableRow, metric: str) -> Lead | None:
    """How much one row's figure is above another's; ``None`` where not both have it."""
    by = difference_of(row, other, metric)
    return Lead(row, other, by) if by is not None else None


def rivals_of(rows: Iterable[TableRow], left_out: Sequence[str], metric: str) -> list[TableRow]:
    """The editors among rows that have a figure, the highest first; neither bounds nor the unedited model."""
    out = {*NO_RIVALS, "none", *left_out}
    return sorted((r for r in rows if r.name not in out and metric in r.metrics), key=lambda r: -mean_of(r, metric))


def mean_of(row: TableRow, metric: str) -> float:
    """A row's figure."""
    return row.metrics[metric].mean


def say_lead(found: Lead, metric: str) -> str:
    """``"All 0.880 for ReasonEdit, 0.600 for FT, a difference of +0.280 [+0.250, +0.310]"``."""
    one, other = mean_of(found.row, metric), mean_of(found.other, metric)
    shares = f"{NAMES[metric]} {one:.3f} for {found.row.title}, {other:.3f} for {found.other.title}"
    return f"{shares}, a difference of {say_difference(found, metric)}"


def say_difference(found: Lead, metric: str) -> str:
    """The paired difference, which is not that of the rows' own figures where these are of other edits."""
    both = "" if are_asked_alike(found.row, found.other, metric) else " on the edits that both have"
    return f"{format_difference(found.by)}{both}"


def say_basis(found: Iterable[Lead]) -> str:
    """From how many seeds and edits."""
    return format_basis(one.by for one in found)


def list_in_words(names: Sequence[str]) -> str:
    """``"a, b and c"``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
