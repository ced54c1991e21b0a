"""Verified retrieval: facts are kept only if the query's image shows what they speak of (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reasonedit.kinds import KeyKind
from reasonedit.prompts import verification_question
from reasonedit.types import Hit
from reasonedit.vlm import VLM, Vision

from .config import RetrievalConfig
from .results import Retrieval


def verify_facts(vlm: VLM, vision: Vision, retrievals: Sequence[Retrieval], config: RetrievalConfig) -> list[Retrieval]:
    """Leave out the facts that the VLM does not affirm of the query's image, and keep the nearest K of the others.

    Only facts of patch keys are verified: the VLM affirmed them of the edit's own image, so it can tell. The image
    prefix runs once for all questions about an image. A fact that is too long to be asked about with this image counts
    as denied.

    Args:
        vlm: The VLM.
        vision: The queries' images.
        retrievals: The facts of each query.
        config: A fact stays if ``p_yes`` is above ``config.verify``; ``config.k`` facts are kept beside answers.

    Returns:
        The same, with the facts that were left out at the end of ``left_out``, and with those that are ``denied``.
    """
    threshold = config.verify or 0.0
    asked: list[list[Hit]] = [[] for _ in retrievals]
    denied: list[set[str]] = [set() for _ in retrievals]
    for i, (image, retrieval) in enumerate(zip(vision.images, retrievals, strict=True)):
        for hit in retrieval.hits:
            if hit.kind.verifiable and not _matches_clearly(hit, config):
                if vlm.has_room(image, vlm.prompt(verification_question(hit.fact))):
                    asked[i].append(hit)
                else:
                    denied[i].add(hit.fact)
    if any(asked):
        prefix = vlm.read(vision)
        questions = [[verification_question(hit.fact) for hit in hits] for hits in asked]
        for i, p in enumerate(vlm.p_yes(prefix, questions)):
            denied[i] |= {hit.fact for hit, value in zip(asked[i], p.tolist(), strict=True) if value <= threshold}
        vision.prefix = prefix  # the answers need the images that were read
    return [_leave_out(retrieval, facts, config.k) for retrieval, facts in zip(retrievals, denied, strict=True)]


def _leave_out(retrieval: Retrieval, denied: set[str], k: int) -> Retrieval:
    """A retrieval without the denied facts and without what is beyond the nearest K; answers do not count for K.

    A denied fact that was found by its text, too, is left as one that the picture does not show.
    """
    hits: list[Hit] = []
    dropped: list[Hit] = []
    count = 0
    not_shown = denied & retrieval.by_text
    denied = denied - not_shown
    for found in retrieval.hits:
        hit = replace(found, kind=KeyKind.TEXT, visual_match=None) if found.fact in not_shown else found
        is_answer = hit.kind is KeyKind.ANSWER
        count += hit.fact not in denied and not is_answer
        (dropped if hit.fact in denied or (not is_answer and count > k) else hits).append(hit)
    return replace(retrieval, hits=hits, left_out=[*retrieval.left_out, *dropped[::-1]], denied=denied)


def _matches_clearly(hit: Hit, config: RetrievalConfig) -> bool:
    """Whether the picture of a fact matches so well that the VLM need not be asked."""
    if config.visual_margin is None or config.visual_match is None or hit.visual_match is None:
        return False
    return hit.visual_match >= config.visual_match
