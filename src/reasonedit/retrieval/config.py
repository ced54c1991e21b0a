"""How facts are fetched."""

from __future__ import annotations

from dataclasses import dataclass

from reasonedit.errors import InputError

COUNTS = ("keys", "facts")


@dataclass(frozen=True)
class RetrievalConfig:
    """How facts are fetched; the defaults are the paper's (arXiv 2602.02408).

    Attributes:
        k: K, how many are fetched.
        k_counts: What K counts: the nearest ``"keys"``, or distinct ``"facts"``.
        percentile: p of the rejection gate; 10 is the lower end of the range in which the paper finds p robust.
        gate_per_fact: Whether every fact must pass the gate, or only the nearest key for all of them.
        hubness: Whether distances are divided by how near a key is to others (see :mod:`.hubs`).
        query_regions: Whether the query is also embedded by the nine regions of its image; the nearest of all counts.
        visual_match: How near the picture of a key must come to the query's for its facts to count at all: a z-score,
            in standard deviations by which it is nearer than unrelated pictures (see :mod:`.visual_match`). No bound
            when not given.
        false_alarms: In place of ``visual_match``, how often a key may match a picture that has nothing to do with it,
            such as 0.01: the bound then follows from how near the pictures of the calibration come to each other. Where
            the statistics do not say that (those of earlier versions do not), ``visual_match`` counts.
        out_of_range: How often a picture like those of the calibration may be taken for one that is unlike all of
            them, such as 0.01. For a picture that is unlike all of them only edits of this very picture count, and
            facts found by their text alone; with ``chain`` not these. Pictures are not told apart when not given.
        k_answers: How many answers are fetched, apart from the other facts; when not given they compete for the same K.
        verify: The VLM is asked whether the query's image shows a fact that it affirmed of the edit's own image. The
            fact is left out unless the VLM affirms it with more than this probability. Not asked when not given.
        visual_margin: Goes with ``visual_match`` and ``verify``. Facts that reach the visual match count without being
            verified; those that fall short of it by no more than this are verified. All are verified when not given.
        chain: Whether answers, and facts found by their text alone, count only behind facts that the picture shows;
            see :mod:`.chain`.
        naming: Whether a fact near the query, whose own picture does not match, counts all the same where a fact that
            the picture shows speaks of the same thing; see :mod:`.naming`. Goes with ``visual_match`` or
            ``false_alarms``.
        walk: So many steps are walked from the facts that are left, along what leads to what (see
            :class:`~reasonedit.codebook.FactGraph`): at most K facts that are reached are added. 0 for none.
        candidates: How many facts are fetched where they are verified; the nearest K of those that stay are kept.

    Raises:
        InputError: A value is out of range.
    """

    k: int = 5
    k_counts: str = "keys"
    percentile: float = 10.0
    gate_per_fact: bool = False
    hubness: bool = False
    query_regions: bool = False
    visual_match: float | None = None
    false_alarms: float | None = None
    out_of_range: float | None = None
    k_answers: int | None = None
    verify: float | None = None
    visual_margin: float | None = None
    chain: bool = False
    naming: bool = False
    walk: int = 0
    candidates: int = 16

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"k must be 1 or more, not {self.k}.")
        if self.k_counts not in COUNTS:
            raise InputError(f"k_counts must be {' or '.join(COUNTS)}, not '{self.k_counts}'.")
        if not 0 < self.percentile <= 100:
            raise InputError(f"percentile must be above 0 and at most 100, not {self.percentile}.")
        if self.k_answers is not None and self.k_answers < 0:
            raise InputError(f"k_answers must be 0 or more, not {self.k_answers}.")
        for name in ("false_alarms", "out_of_range"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < 1:
                raise InputError(f"{name} must be above 0 and below 1, not {rate}.")
        if self.visual_margin is not None and (
            self.visual_margin < 0 or not self.matches_pictures or self.verify is None
        ):
            raise InputError(
                "visual_margin must be 0 or more, and goes with visual_match or false_alarms and verify only."
            )
        if self.naming and not self.matches_pictures:
            raise InputError("naming goes with visual_match or false_alarms only.")
        if self.walk < 0:
            raise InputError(f"walk must be 0 or more, not {self.walk}.")
        if self.candidates < 1:
            raise InputError(f"candidates must be 1 or more, not {self.candidates}.")
        if self.verify is not None and not 0 <= self.verify < 1:
            raise InputError(f"verify must be at least 0 and below 1, not {self.verify}.")

    @property
    def matches_pictures(self) -> bool:
        """Whether the picture of a key must match that of a question."""
        return self.visual_match is not None or self.false_alarms is not None
