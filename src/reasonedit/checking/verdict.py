"""What a check says of an edit in one word, and in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from .asking import Change
from .trials import ELSEWHERE, PARAPHRASE, REDRAWN

HOLDS_FROM = 0.75
"""Share of the variations of an edit's question from which on it holds."""
_HARMED_ELSEWHERE = 2
"""Other pictures about which an edit's own question must be answered otherwise. What is right there is not known,
and often the question does not fit: of 11 edits that changed one such answer 4 did harm by their probes, of 15 that
changed more 13 (development seeds 104 and 105; our design, the paper's, and ours with false sentences)."""


class Verdict(str, Enum):
    """What becomes of an edit. Its value is its name for people; ``Verdict.HOLDS.key`` that in logs.

    Attributes:
        takes: Whether the edit's own question is answered rightly.
    """

    HOLDS = "holds", True
    HERE_ONLY = "holds here only", True
    HARMS = "harms", True
    NO_EVIDENCE = "no evidence found", False
    NOT_FETCHED = "not fetched", False
    NOT_FOLLOWED = "fetched but not followed", False
    CONTRADICTED = "contradicted", False

    takes: bool

    def __new__(cls, value: str, takes: bool) -> Verdict:
        """Make a member with its attribute."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.takes = takes
        return member

    @property
    def key(self) -> str:
        """Its name in logs and files."""
        return self.name.lower()

    def __str__(self) -> str:
        """Its name for people."""
        return str(self.value)

    def __format__(self, spec: str) -> str:
        """As its name for people."""
        return format(str(self), spec)


@dataclass(frozen=True)
class Finding:
    """A verdict with what it rests on.

    Attributes:
        verdict: The verdict.
        because: What was found, in sentences.
        advice: What would help, in sentences.
    """

    verdict: Verdict
    because: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


NOT_SURE = "The model affirms none of its sentences of any part of the picture."
_MISLED = "By its sentences alone, without its answer, the model would answer something else."


def judge(changes: Sequence[Change], edit_id: str, *, unsure: bool = False, misled: bool = False) -> Finding:
    """Judge an edit whose own question is answered rightly.

    It **harms** where another question is answered worse, or its own is answered otherwise about two other pictures or
    more that do not show what it says. Else it **holds here only** where fewer than three quarters of the variations of
    its question are answered rightly; where the VLM affirms none of its sentences of the picture, so that only its
    looks tell another picture that shows the same from one that does not; or where its sentences lead to another
    answer, which they then do for other questions, too. One answer about another picture is said beside the verdict.

    Args:
        changes: Its trials.
        edit_id: Its id.
        unsure: Whether the VLM affirms none of its sentences of any part of the picture. Of our design's edits two in
            five of these hold for their own picture alone, and none of the others does (seeds 104 to 107).
        misled: Whether one of its sentences leads to another answer.
    """
    variations = [change for change in changes if change.origin in (PARAPHRASE, REDRAWN)]
    failed = [change for change in variations if not change.is_right]
    harmed = [change for change in changes if change.is_harmed]
    because, advice = _describe_failed(failed, edit_id)
    if unsure:
        because.append(NOT_SURE)
        advice.append("Give a box for what each sentence speaks of.")
    if misled:
        because.append(_MISLED)
        advice.append("Mend the sentence that says otherwise than the answer.")
    for change in harmed:
        because.append(_describe_harm(change))
    if harmed:
        advice.append(_advise_on_harm(harmed))
    held = len(variations) - len(failed)
    elsewhere = sum(change.origin == ELSEWHERE for change in harmed)
    if elsewhere < len(harmed) or elsewhere >= _HARMED_ELSEWHERE:
        return Finding(Verdict.HARMS, because, advice)
    if unsure or misled or held < HOLDS_FROM * len(variations):
        return Finding(Verdict.HERE_ONLY, because, advice)
    return Finding(Verdict.HOLDS, because, advice)


def _describe_failed(failed: Sequence[Change], edit_id: str) -> tuple[list[str], list[str]]:
    """What becomes of variations that are not answered rightly, and what would help."""
    because, advice = [], []
    for change in failed:
        what = f"With the picture {change.note}" if change.origin == REDRAWN else f"Asked as '{change.query.question}'"
        fetched = any(hit.edit_id == edit_id for hit in change.after.hits)
        why = "its facts are fetched but not followed" if fetched else "none of its facts is fetched"
        because.append(f"{what} the answer is '{change.after.text}': {why}.")
    if any(change.origin == REDRAWN for change in failed):
        advice.append("Give a box for what each sentence speaks of, or one more edit about another such picture.")
    if any(change.origin == PARAPHRASE for change in failed):
        advice.append("Word the question as it will be asked.")
    return because, advice


def _describe_harm(change: Change) -> str:
    whose = f" (edit {change.edit_id})" if change.edit_id else ""
    where = "Asked about another picture, it" if change.origin == ELSEWHERE else f"'{change.query.question}'{whose}"
    known = "" if change.right else " (which of the two is right is not known)"
    return f"{where} is answered '{change.after.text}' in place of '{change.before.text}'{known}."


def _advise_on_harm(harmed: Sequence[Change]) -> str:
    known = next((change for change in harmed if change.edit_id), None)
    if known is not None:
        return f"Give a box, so that the two pictures are told apart, or undo the other edit ({known.edit_id})."
    return "Give a box for what the sentences speak of, and word the question for this picture."
