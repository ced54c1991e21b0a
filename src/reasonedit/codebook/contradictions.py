"""Which edits contradict each other: they answer the same question differently."""

from __future__ import annotations

from collections.abc import Iterable

from reasonedit.kinds import KeyKind
from reasonedit.matching import matches

from .drafts import Draft, Entry
from .stored_edit import StoredEdit

_LONG = 500
"""Characters. The common sentence encoders of the shortest reach read about as many (128 tokens)."""


def answer_entries(draft: Draft) -> list[Entry]:
    """The entries of an edit's answer: only these are compared."""
    return [entry for entry in draft.entries if entry.fact.kind is KeyKind.ANSWER]


def contradicted_among(draft: Draft, others: Iterable[Draft]) -> list[str]:
    """Ids of the drafts that a draft contradicts."""
    return [other.edit.id for other in others if contradict(draft.edit, other.edit) and _reach_each_other(draft, other)]


def _reach_each_other(draft: Draft, other: Draft) -> bool:
    """Whether keys of both answers lie within both radii."""
    pairs = ((a, b) for a in answer_entries(draft) for b in answer_entries(other))
    return any(float((b.key - a.key).norm()) <= min(a.radius, b.radius) for a, b in pairs)


def contradict(one: StoredEdit, other: StoredEdit) -> bool:
    """Whether two edits whose keys are near answer the same question, and neither's answer is right by the other."""
    if not _may_be_same(one.question, other.question):
        return False
    return not matches(one.answer, other.targets) and not matches(other.answer, one.targets)


def _may_be_same(question: str, other: str) -> bool:
    """Whether two questions whose keys are near may be the same.

    Long questions that share most of their words have near keys whatever they ask. They must agree word by word.
    """
    if max(len(question), len(other)) <= _LONG:
        return True
    return question.casefold().split() == other.casefold().split()
