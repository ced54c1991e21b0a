"""Which edits an edit contradicts."""

from __future__ import annotations

from collections.abc import Iterable

from reasonedit.kinds import KeyKind
from reasonedit.matching import matches

from .records import Draft, Entry, StoredEdit

_LONG = 500
"""Characters: about what the shortest of the common sentence encoders read at once (128 tokens)."""


def answers(draft: Draft) -> list[Entry]:
    """What an edit writes of its answer: only these are compared."""
    return [entry for entry in draft.entries if entry.fact.kind is KeyKind.ANSWER]


def among(draft: Draft, others: Iterable[Draft]) -> list[str]:
    """Ids of those that a draft contradicts, where the keys of two answers lie within the reach of both."""
    return [other.edit.id for other in others if contradict(draft.edit, other.edit) and _meet(draft, other)]


def _meet(draft: Draft, other: Draft) -> bool:
    pairs = ((mine, theirs) for mine in answers(draft) for theirs in answers(other))
    return any(float((theirs.key - mine.key).norm()) <= min(mine.radius, theirs.radius) for mine, theirs in pairs)


def contradict(one: StoredEdit, other: StoredEdit) -> bool:
    """Whether two edits whose keys are near answer the same question differently."""
    return _may_be_same(one.question, other.question) and _differ(one, other)


def _differ(one: StoredEdit, other: StoredEdit) -> bool:
    """Whether two edits of one question answer it differently: neither's answer is right by the other."""
    return not matches(one.answer, other.targets) and not matches(other.answer, one.targets)


def _may_be_same(question: str, other: str) -> bool:
    """Whether two questions may be the same where their keys are near.

    Long ones that share most of their words have keys near each other whatever they ask: of these only the very same
    one is the same.
    """
    if max(len(question), len(other)) <= _LONG:
        return True
    return question.casefold().split() == other.casefold().split()
