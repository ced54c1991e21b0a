"""Chains: facts that no picture shows, and answers, count only behind what the query's own picture shows (ours)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from reasonedit.edits import Hit

from .retrieve import Retrieval

_SEEN = ("image", "patch", "given")


def chained(found: Sequence[Retrieval], questions: Sequence[str]) -> list[Retrieval]:
    """Leave out what hangs in the air.

    A fact that was found by its text alone ("The garden lies in the east.") stays if a fact that the picture bears out,
    or the question, speaks of the same thing: shares a word that is no function word. An answer stays if a fact of the
    same edit that the picture bears out does.

    Args:
        found: What was retrieved for each query; facts that the picture does not bear out are gone already.
        questions: The queries' questions.

    Returns:
        The same, with what was left out at the end of ``left_out``.
    """
    kept = []
    for r, question in zip(found, questions, strict=True):
        seen = [hit for hit in r.hits if hit.entry in _SEEN]
        spoken = content_words(question).union(*(content_words(hit.fact) for hit in seen))
        edits = {hit.edit_id for hit in seen}

        def holds(hit: Hit, spoken: frozenset[str] = spoken, edits: set[str] = edits) -> bool:
            if hit.entry == "answer":
                return hit.edit_id in edits
            return hit.entry != "text" or bool(content_words(hit.fact) & spoken)

        hits = [hit for hit in r.hits if holds(hit)]
        out = [hit for hit in r.hits if not holds(hit)]
        kept.append(replace(r, hits=hits, left_out=[*r.left_out, *out[::-1]]) if out else r)
    return kept


@lru_cache(maxsize=65536)
def content_words(text: str) -> frozenset[str]:
    """The words of a text that say something, in lower case.

    >>> sorted(content_words("The garden lies in the east."))
    ['east', 'garden', 'lies']
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(re.findall(r"\w{2,}", text.lower())).difference(ENGLISH_STOP_WORDS)
