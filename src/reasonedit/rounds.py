"""Which of the probes of a stream count: rounds of probes come on the way, and the last one after all edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
"""A row of the predictions."""


def final_probes(rows: Sequence[Row], group: str | None = None, *, alone: bool = False) -> list[Row]:
    """The probes of a stream as they were answered in the end: each in the last round that asked it.

    Where each edit stands alone, that is the round behind it. A round may come without a new edit, where all questions
    are answered rightly by then: so rounds are told apart by their numbers, and by how many edits there were only in
    predictions of earlier versions, which have no such numbers.

    >>> asked = {"phase": "probe", "edit": "e", "group": "rel", "id": "q", "edits": 2}
    >>> [row["right"] for row in final_probes([{**asked, "round": n, "right": n == 2} for n in (1, 2)])]
    [True]

    Args:
        rows: All predictions of the stream.
        group: Their group; all when not given.
        alone: Whether each edit stood alone; looked at where the rounds have no numbers.
    """
    probes = _probes_of(rows, group)
    if not have_rounds(probes):
        last = None if alone else max((row["edits"] for row in rows), default=0)
        return [row for row in probes if alone or row["edits"] == last]
    rounds: dict[tuple[Any, ...], int] = {}
    for row in probes:
        rounds[_probe_of(row)] = max(row["round"], rounds.get(_probe_of(row), 0))
    return [row for row in probes if row["round"] == rounds[_probe_of(row)]]


def probes_after(rows: Sequence[Row], edits: int, group: str | None = None) -> list[Row]:
    """The probes of the last round that there was when so many edits were written.

    Args:
        rows: All predictions of a stream.
        edits: The number of edits.
        group: The group of the probes; all when not given.
    """
    probes = [row for row in _probes_of(rows, group) if row["edits"] == edits]
    if not have_rounds(probes):
        return probes
    last = max((row["round"] for row in probes), default=None)
    return [row for row in probes if row["round"] == last]


def have_rounds(probes: Sequence[Row]) -> bool:
    """Whether probes say in which round they were asked; those of earlier versions do not."""
    return all(row.get("round") is not None for row in probes)


def _probes_of(rows: Sequence[Row], group: str | None) -> list[Row]:
    return [row for row in rows if row["phase"] == "probe" and (group is None or row["group"] == group)]


def _probe_of(row: Row) -> tuple[Any, ...]:
    return row["edit"], row["group"], row.get("id")
