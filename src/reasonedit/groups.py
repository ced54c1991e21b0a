"""The groups of probes, each of which is one metric (section 6 of the method; arXiv 2602.02408)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Share = TypeVar("Share", float, NDArray[np.float64])
"""A share, or an array of shares."""

_OPTIONAL = ("comp_gen", "text_loc")


class ProbeGroup(str, Enum):
    """What a probe measures. Its value is its name in files and logs: ``ProbeGroup("rel")``.

    A new metric is one more member here, and a file that makes its probes. Tables, charts, reports and logs list the
    members in their order.

    Attributes:
        label: Its column in tables.
        help: What its probes ask.
        is_locality: Whether it counts what stays right: then it has only probes that the unedited model gets right.
        hops: Of portability, how many steps of knowledge lie between the edit and the answer; else 0.
        is_optional: Whether only some data sets have such probes: tables show it where there are any.
    """

    RELIABILITY = "rel", "Rel", "The edited questions, after all edits"
    TEXT_GENERALITY = "t_gen", "T-Gen", "The same questions in other words"
    IMAGE_GENERALITY = "i_gen", "I-Gen", "The same questions about the pictures made again"
    RATIONALE_GENERALITY = "r_gen", "R-Gen", "New pictures and questions that need the same reasoning"
    COE_GENERALITY = "coe_gen", "CoE-Gen", "The facts that led to the error in new pictures, the same question"
    LOCALITY = "loc", "Loc", "Unrelated questions that were answered rightly before: still right", True
    HARD_LOCALITY = (
        "hard_loc",
        "hard Loc",
        "The most similar questions that were answered rightly before: still right",
        True,
    )
    WORD_LOCALITY = (
        "word_loc",
        "word Loc",
        "Of all other questions those that share the most words with an edit's: still right where they were before",
        True,
    )
    PORTABILITY_1 = "port_1", "Port-1", "Questions whose answer follows from the edit in one step", False, 1
    PORTABILITY_2 = "port_2", "Port-2", "Questions whose answer follows from the edit in two steps", False, 2
    PORTABILITY_3 = "port_3", "Port-3", "Questions whose answer follows from the edit in three steps", False, 3
    PORTABILITY_4 = "port_4", "Port-4", "Questions whose answer follows from the edit in four steps", False, 4
    COMPOSITION = "comp_gen", "Comp-Gen", "Questions that take what was corrected of the picture and of a text", False
    TEXT_LOCALITY = (
        "text_loc",
        "text Loc",
        "Questions without a picture that were answered rightly before: still right",
        True,
    )

    label: str
    help: str
    is_locality: bool
    hops: int
    is_optional: bool

    def __new__(cls, value: str, label: str, help: str, is_locality: bool = False, hops: int = 0) -> ProbeGroup:
        """A member with what belongs to it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.label, member.help, member.is_locality, member.hops = label, help, is_locality, hops
        member.is_optional = bool(hops) or value in _OPTIONAL
        return member

    def __str__(self) -> str:
        """Its name in files and logs, in formatted text too."""
        return str(self.value)

    def __format__(self, spec: str) -> str:
        """As its name."""
        return format(str(self), spec)


LABELS: dict[str, str] = {group.value: group.label for group in ProbeGroup}
"""The column of each group, in the order of tables."""

LOCALITIES: tuple[str, ...] = tuple(group.value for group in ProbeGroup if group.is_locality)
"""The groups that count what stays right."""

GENERALITIES: tuple[str, ...] = tuple(
    group.value
    for group in ProbeGroup
    if not group.is_locality and not group.is_optional and group is not ProbeGroup.RELIABILITY
)
"""The groups that count what an edit corrects beyond its own question, and that Gen is made of."""


def labels_of(groups: Iterable[str]) -> dict[str, str]:
    """The columns of a table: those that every table has, and of the others those of which there are any probes.

    >>> [*labels_of(["rel", "port_2", "unheard of"])][-2:]
    ['word_loc', 'port_2']

    Args:
        groups: The groups of which there are probes.
    """
    there = set(groups)
    return {group.value: group.label for group in ProbeGroup if not group.is_optional or group.value in there}


def columns_of(groups: Iterable[str]) -> dict[str, str]:
    """What a table shows: :func:`labels_of`, or where that is more than all tables have, the groups with probes alone.

    >>> len(columns_of(["rel"])), columns_of(["rel", "port_2"])
    (8, {'rel': 'Rel', 'port_2': 'Port-2'})

    Args:
        groups: The groups of which there are probes.
    """
    there = set(groups)
    labels = labels_of(there)
    narrowed = {group: label for group, label in labels.items() if group in there}
    return labels if len(labels) == len(labels_of(())) else narrowed


def harmonic_mean(values: Sequence[Share]) -> Share:
    """The harmonic mean of shares, or of arrays of shares element by element; 0 where one of them is 0.

    >>> round(harmonic_mean([0.5, 1.0]), 3), harmonic_mean([0.0, 1.0])
    (0.667, 0.0)
    """
    with np.errstate(divide="ignore"):
        mean = len(values) / np.sum(np.reciprocal(np.asarray(values, dtype=np.float64)), axis=0)
    return cast(Share, mean if np.ndim(mean) else float(mean))


def generality(shares: Mapping[str, Share]) -> Share | None:
    """Gen: the harmonic mean of the generalities among some shares by group; ``None`` where there are none."""
    means = [shares[group] for group in GENERALITIES if group in shares]
    return harmonic_mean(means) if means else None


def overall(shares: Mapping[str, Share]) -> Share | None:
    """All: the harmonic mean of Gen, Loc and hard Loc, by which settings are chosen; ``None`` where one is missing."""
    gen = generality(shares)
    there = ProbeGroup.LOCALITY in shares and ProbeGroup.HARD_LOCALITY in shares
    if gen is None or not there:
        return None
    return harmonic_mean([gen, shares[ProbeGroup.LOCALITY], shares[ProbeGroup.HARD_LOCALITY]])
