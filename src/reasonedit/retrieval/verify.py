"""Verified retrieval: facts are kept only if the query's image shows what they speak of (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reasonedit.evidence import question_of
from reasonedit.vlm import VLM, Vision

from .retrieve import Retrieval


def verified(vlm: VLM, vision: Vision, found: Sequence[Retrieval], threshold: float) -> list[Retrieval]:
    """Leave out the facts that the VLM does not affirm of the query's image.

    Only facts found under a patch key are asked about: for them the VLM had found evidence in the edit's own image, so
    it can tell. The image prefix runs once for all questions about an image.

    Args:
        vlm: The VLM.
        vision: The queries' images.
        found: What was retrieved for each.
        threshold: A fact stays if ``p_yes`` is above it.
    """
    asked = [[hit for hit in r.hits if hit.entry == "patch"] for r in found]
    rows = [i for i, hits in enumerate(asked) if hits]
    if not rows:
        return list(found)
    questions = [[question_of(hit.fact) for hit in asked[i]] for i in rows]
    checked = list(found)
    for i, p in zip(rows, vlm.p_yes(vision.select(rows), questions), strict=True):
        out = {hit.fact for hit, value in zip(asked[i], p.tolist(), strict=True) if value <= threshold}
        checked[i] = replace(
            found[i],
            hits=[hit for hit in found[i].hits if hit.fact not in out],
            left_out=[*found[i].left_out, *(hit for hit in found[i].hits if hit.fact in out)],
        )
    return checked
