"""What a retrieval gives: the facts for a query, and the keys near it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from reasonedit.codebook import Fact
from reasonedit.types import Hit


@dataclass(frozen=True)
class Retrieval:
    """The facts for one query.

    Attributes:
        hits: Distinct facts, nearest first; empty when the gate is closed.
        nearest: Distance of the nearest key (infinite where there is none).
        threshold: Largest distance at which the gate is open.
        left_out: Facts that were fetched and left out again, the farthest first: the image does not show them, or the
            prompt was full.
        in_range: Whether the query's picture is like those of the calibration; ``None`` where that was not looked at.
        said_by: By the text of a fact the ids of the edits near the query that say it.
        by_text: The facts that were found by a key of their text alone, whether or not also by one with a picture.
        elsewhere: Facts near the query whose pictures are others than its own, nearest first; see :mod:`.naming`.
        denied: Of what was left out the facts that the VLM does not see in the query's picture.
    """

    hits: list[Hit]
    nearest: float
    threshold: float
    left_out: list[Hit] = field(default_factory=list)
    in_range: bool | None = None
    said_by: Mapping[str, Set[str]] = field(default_factory=dict)
    by_text: Set[str] = frozenset()
    elsewhere: list[Hit] = field(default_factory=list)
    denied: Set[str] = frozenset()

    @property
    def facts(self) -> list[str]:
        """The sentences alone."""
        return [hit.fact for hit in self.hits]


@dataclass(frozen=True)
class NearKey:
    """A key near a query.

    Attributes:
        number: The key's number in the codebook.
        distance: Its distance from the query.
        facts: Its facts; one comes once for each edit that says it and each kind of key by which it came there.
        visual_match: How near its picture comes to the query's; ``None`` where that does not count.
        within_gate: Whether it is near enough for the gate.
        matches_visually: Whether its picture is near enough for one of them.
        rank: How many keys are nearer: of answers, where they are fetched apart, or of the others.
    """

    number: int
    distance: float
    facts: list[Fact]
    visual_match: float | None
    within_gate: bool
    matches_visually: bool
    rank: int
