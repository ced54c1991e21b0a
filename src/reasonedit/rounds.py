"""Which of the probes of a stream count: rounds of probes come on the way, and the last one after all edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .groups import LOCALITIES

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


def split_rounds(rows: Sequence[Row]) -> dict[int, list[Row]]:
    """The probes of each round of a stream, by its number, in order.

    Predictions of earlier versions have no such numbers: there the rounds are counted by how many edits there were.

    Args:
        rows: All predictions of the stream.
    """
    probes = _probes_of(rows, None)
    numbers: dict[int, int] = {}
    if not have_rounds(probes):
        numbers = {edits: number for number, edits in enumerate(sorted({row["edits"] for row in probes}), 1)}
    rounds: dict[int, list[Row]] = {}
    for row in probes:
        rounds.setdefault(numbers[row["edits"]] if numbers else row["round"], []).append(row)
    return {number: rounds[number] for number in sorted(rounds)}


def clusters_of(probes: Sequence[Row]) -> list[str]:
    """The edit that each probe counts with in an interval: of a question that several edits share, the first of them.

    A data set has few questions that ask for locality, so that many edits have the same. Its answers are one after all
    edits, and no more is known by counting it for each. A source says that a probe asks a sample which may be asked for
    others, too, by the probe's id: the edit, the group and ``of-`` with the sample's name.

    >>> asked = {"group": "loc", "question": "Who?", "target": "Ada"}
    >>> clusters_of([{**asked, "edit": "a", "id": "a-loc-of-7"}, {**asked, "edit": "b", "id": "b-loc-of-7"}])
    ['a', 'a']
    >>> clusters_of([{**asked, "edit": "a", "id": "a-loc-0"}, {**asked, "edit": "b", "id": "b-loc-0"}])  # their firsts
    ['a', 'b']

    Args:
        probes: Probes, in the order in which they were asked.
    """
    first: dict[tuple[Any, ...], str] = {}
    return [
        first.setdefault(asked, row["edit"])
        if row["group"] in LOCALITIES and str((asked := question_of(row))[0]).startswith("of-")
        else row["edit"]
        for row in probes
    ]


def question_of(row: Row) -> tuple[Any, ...]:
    """What tells the question of a probe from others, whatever edit it is asked for."""
    edit, group, name = _probe_of(row)
    sample = edit if name is None else name.removeprefix(f"{edit}-{group}-")
    return sample, row.get("question"), tuple(row.get("choices") or ()), row.get("target")


def have_rounds(probes: Sequence[Row]) -> bool:
    """Whether probes say in which round they were asked; those of earlier versions do not."""
    return all(row.get("round") is not None for row in probes)


def _probes_of(rows: Sequence[Row], group: str | None) -> list[Row]:
    return [row for row in rows if row["phase"] == "probe" and (group is None or row["group"] == group)]


def _probe_of(row: Row) -> tuple[Any, ...]:
    return row["edit"], row["group"], row.get("id")
