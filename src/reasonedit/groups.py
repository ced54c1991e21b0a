"""The groups of probes, each of which is one metric (section 6 of the method; arXiv 2602.02408)."""

from __future__ import annotations

from enum import Enum


class ProbeGroup(str, Enum):
    """What a probe measures. Its value is its name in files and logs: ``ProbeGroup("rel")``.

    A new metric is one more member here, and a file that makes its probes. Tables, charts, reports and logs list the
    members in their order.

    Attributes:
        label: Its column in tables.
        help: What its probes ask.
        is_locality: Whether it counts what stays right: then it has only probes that the unedited model gets right.
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

    label: str
    help: str
    is_locality: bool

    def __new__(cls, value: str, label: str, help: str, is_locality: bool = False) -> ProbeGroup:
        """A member with what belongs to it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.label, member.help, member.is_locality = label, help, is_locality
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
    group.value for group in ProbeGroup if not group.is_locality and group is not ProbeGroup.RELIABILITY
)
"""The groups that count what an edit corrects beyond its own question."""
