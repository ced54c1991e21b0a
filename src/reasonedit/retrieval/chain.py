"""Chains: facts that no picture shows, and answers, count behind what the query's own picture shows (ours)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from reasonedit.kinds import KeyKind

from .retrieve import Retrieval


def chained(found: Sequence[Retrieval], questions: Sequence[str]) -> list[Retrieval]:
    """Leave out what hangs in the air.

    Among facts that were found by their text alone ("The garden lies in the east.") those that speak of the same thing
    as the question, or as a fact that the picture bears out, are the ones that are meant: that share a word with them
    which is no function word. Where there are such, the others go. Where there is none, the step that leads to one may
    be among what the VLM knows by itself, and all stay. An answer stays if a fact of the same edit that the picture
    bears out does.

    Args:
        found: What was retrieved for each query; facts that the picture does not bear out are gone already.
        questions: The queries' questions.

    Returns:
        The same, with what was left out at the end of ``left_out``.
    """
    return [_linked(r, question) for r, question in zip(found, questions, strict=True)]


def _linked(r: Retrieval, question: str) -> Retrieval:
    seen = [hit for hit in r.hits if hit.kind.shows_fact]
    spoken = content_words(question).union(*(content_words(hit.fact) for hit in seen))
    edits = {hit.edit_id for hit in seen}
    linked = {hit.fact for hit in r.hits if hit.kind is KeyKind.TEXT and content_words(hit.fact) & spoken}
    held = [
        hit.edit_id in edits if hit.kind is KeyKind.ANSWER else hit.kind.picture or not linked or hit.fact in linked
        for hit in r.hits
    ]
    if all(held):
        return r
    hits = [hit for hit, holds in zip(r.hits, held, strict=True) if holds]
    out = [hit for hit, holds in zip(r.hits, held, strict=True) if not holds]
    return replace(r, hits=hits, left_out=[*r.left_out, *out[::-1]])


@lru_cache(maxsize=65536)
def content_words(text: str) -> frozenset[str]:
    """The words of a text that say something, in lower case.

    >>> sorted(content_words("The garden lies in the east."))
    ['east', 'garden', 'lies']
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(re.findall(r"\w{2,}", text.lower())).difference(ENGLISH_STOP_WORDS)
