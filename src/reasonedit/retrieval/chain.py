"""Chains: answers, and facts that no picture shows, count only behind what the query's own picture shows (ours)."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from reasonedit.kinds import KeyKind
from reasonedit.sentences import content_words
from reasonedit.types import Hit

from .results import Retrieval


def link_facts(retrievals: Sequence[Retrieval], questions: Sequence[str]) -> list[Retrieval]:
    """Leave out the facts that nothing in the picture leads to.

    Facts that were found by their text alone ("The garden lies in the east.") stay where they share a content word with
    the question, or with a fact that the picture shows. An answer stays if the picture shows a fact of an edit that
    gives it, or is such an edit's own; a fact that was joined to another (``via``) is none that it shows. Nothing leads
    from a picture that is unlike all of the calibration's: there only an answer of the second kind stays.

    Args:
        retrievals: The facts of each query; those that the picture does not show are gone already.
        questions: The queries' questions.

    Returns:
        The same, with the facts that were left out at the end of ``left_out``.
    """
    return [_link(retrieval, question) for retrieval, question in zip(retrievals, questions, strict=True)]


def _link(retrieval: Retrieval, question: str) -> Retrieval:
    if retrieval.in_range is False:
        return _keep(retrieval, [hit.same_picture for hit in retrieval.hits])
    shown = [hit for hit in retrieval.hits if hit.kind.shows_fact]
    words = content_words(question).union(*(content_words(hit.fact) for hit in shown))
    edits = set[str]().union(*(_edits_of(hit, retrieval) for hit in shown if not hit.via))
    linked = {hit.fact for hit in retrieval.hits if hit.kind is KeyKind.TEXT and content_words(hit.fact) & words}
    stays = [
        not edits.isdisjoint(_edits_of(hit, retrieval)) or hit.same_picture
        if hit.kind is KeyKind.ANSWER
        else bool(hit.kind.picture) or hit.fact in linked
        for hit in retrieval.hits
    ]
    return _keep(retrieval, stays)


def _edits_of(hit: Hit, retrieval: Retrieval) -> Set[str]:
    """All edits near the query that say a fact."""
    return retrieval.said_by.get(hit.fact, frozenset()) | {hit.edit_id}


def _keep(retrieval: Retrieval, stays: Sequence[bool]) -> Retrieval:
    if all(stays):
        return retrieval
    hits = [hit for hit, stay in zip(retrieval.hits, stays, strict=True) if stay]
    dropped = [hit for hit, stay in zip(retrieval.hits, stays, strict=True) if not stay]
    return replace(retrieval, hits=hits, left_out=[*retrieval.left_out, *dropped[::-1]])
