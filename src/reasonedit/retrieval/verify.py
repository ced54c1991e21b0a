"""Verified retrieval: facts are kept only if the query's image shows what they speak of (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reasonedit.kinds import KeyKind
from reasonedit.prompts import verification_question
from reasonedit.types import Hit
from reasonedit.vlm import VLM, Vision

from .config import RetrievalConfig
from .retrieve import Retrieval


def verified(vlm: VLM, vision: Vision, found: Sequence[Retrieval], config: RetrievalConfig) -> list[Retrieval]:
    """Leave out the facts that the VLM does not affirm of the query's image, and keep the nearest K of the others.

    Only facts found under a patch key are asked about: for them the VLM had found evidence in the edit's own image, so
    it can tell. The image prefix runs once for all questions about an image. A fact that is longer than the VLM reads
    with this image is none that it affirms.

    Args:
        vlm: The VLM.
        vision: The queries' images.
        found: What was retrieved for each.
        config: A fact stays if ``p_yes`` is above ``config.verify``; ``config.k`` facts are kept beside answers.
    """
    threshold = config.verify or 0.0
    asked: list[list[Hit]] = [[] for _ in found]
    denied: list[set[str]] = [set() for _ in found]
    for i, (seen, r) in enumerate(zip(vision.images, found, strict=True)):
        for hit in r.hits:
            if hit.kind.verifiable and _needs_asking(hit, config):
                if vlm.has_room(seen, vlm.prompt(verification_question(hit.fact))):
                    asked[i].append(hit)
                else:
                    denied[i].add(hit.fact)
    rows = [i for i, hits in enumerate(asked) if hits]
    if rows:
        questions = [[verification_question(hit.fact) for hit in asked[i]] for i in rows]
        for i, p in zip(rows, vlm.p_yes(vision.select(rows), questions), strict=True):
            denied[i] |= {hit.fact for hit, value in zip(asked[i], p.tolist(), strict=True) if value <= threshold}
    kept = []
    for r, out in zip(found, denied, strict=True):
        hits: list[Hit] = []
        dropped: list[Hit] = []
        facts = 0
        for hit in r.hits:
            facts += hit.fact not in out and hit.kind is not KeyKind.ANSWER
            (dropped if hit.fact in out or (hit.kind is not KeyKind.ANSWER and facts > config.k) else hits).append(hit)
        kept.append(replace(r, hits=hits, left_out=[*r.left_out, *dropped[::-1]]))
    return kept


def _needs_asking(hit: Hit, config: RetrievalConfig) -> bool:
    clear = (
        config.visual_margin is not None
        and hit.visual_match is not None
        and hit.visual_match >= (config.visual_match or 0.0)
    )
    return not clear
