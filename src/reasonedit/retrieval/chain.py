"""Chains: facts that no picture shows, and answers, count only behind what the query's own picture shows (ours)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from reasonedit.vlm import VLM, Vision
from reasonedit.vlm.prefix import ImagePrefix

from .retrieve import Retrieval

_SEEN = ("image", "patch", "given")


def chained(
    vlm: VLM, images: Vision | ImagePrefix, found: Sequence[Retrieval], questions: Sequence[str], sway: float | None
) -> list[Retrieval]:
    """Leave out what hangs in the air.

    A fact that was found by its text alone ("The garden lies in the east.") stays if a fact that the picture bears out,
    or the question, speaks of the same thing: shares a word that is no function word. An answer stays if a fact of the
    same edit that the picture bears out does.

    Where no such fact stays, the step that leads to one may be among what the VLM knows by itself. It is asked: told
    one of them alone, a VLM that reads is swayed by what bears on the question, and hardly by anything else.

    Args:
        vlm: The VLM.
        images: The queries' images.
        found: What was retrieved for each query; facts that the picture does not bear out are gone already.
        questions: The queries' questions.
        sway: By how many nats what the VLM would begin to answer must become less likely; the fact that sways it the
            most stays. Not asked when not given.

    Returns:
        The same, with what was left out at the end of ``left_out``.
    """
    kept = [_linked(r, question) for r, question in zip(found, questions, strict=True)]
    if sway is None:
        return kept
    loose = [
        [hit for hit in r.hits if hit.entry == "text"] if not any(h.entry == "text" for h in k.hits) else []
        for r, k in zip(found, kept, strict=True)
    ]
    if not any(loose):
        return kept
    told = [[hit.fact for hit in mine] for mine in loose]
    for i, nats in enumerate(vlm.swayed(images, questions, told)):
        if len(nats) and float(nats.max()) > sway:
            hit = loose[i][int(nats.argmax())]
            hits = sorted([*kept[i].hits, hit], key=lambda h: h.distance)
            kept[i] = replace(kept[i], hits=hits, left_out=[h for h in kept[i].left_out if h is not hit])
    return kept


def _linked(r: Retrieval, question: str) -> Retrieval:
    """What of a retrieval does not hang in the air."""
    seen = [hit for hit in r.hits if hit.entry in _SEEN]
    spoken = content_words(question).union(*(content_words(hit.fact) for hit in seen))
    edits = {hit.edit_id for hit in seen}
    held = [
        hit.edit_id in edits if hit.entry == "answer" else hit.entry != "text" or bool(content_words(hit.fact) & spoken)
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
