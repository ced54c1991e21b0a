"""Whether a picture shows what a sentence says of it, by the VLM."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reasonedit.codebook import StoredEdit
from reasonedit.evidence import Evidence
from reasonedit.keys import is_guess
from reasonedit.own_reasoning import UNNAMED
from reasonedit.pipeline import EditingPipeline
from reasonedit.prompts import verification_question
from reasonedit.vlm import Vision

SEEN = 0.5
"""``p_yes`` above which a picture shows what a sentence says."""
_PICTURE = re.compile(r"\b(image|picture|photo|photograph)\b", re.IGNORECASE)


def unsure_sentences(edit: StoredEdit, evidence: Sequence[Evidence]) -> list[str]:
    """The sentences of an edit, if the VLM affirms none of them of any window; none where one is sure, or given.

    Args:
        edit: The edit.
        evidence: What was found for each sentence, where it was sought.
    """
    given = [i < len(edit.given) and bool(edit.given[i]) for i in range(len(edit.reasoning))]
    is_sure = [has or (bool(e.boxes) and not is_guess(e)) for has, e in zip(given, evidence, strict=True)]
    return [] if any(is_sure) else list(edit.reasoning)


def rate_shown(pipeline: EditingPipeline, vision: Vision, sentences: Sequence[str]) -> list[float]:
    """``p_yes`` of the sentences that speak of the picture; 1 for others, and where there is no room to ask."""
    return _ask(pipeline, vision, [i for i, s in enumerate(sentences) if _speaks_of_picture(s)], sentences)


def rate_same(pipeline: EditingPipeline, vision: Vision, sentences: Sequence[str]) -> float:
    """How sure the VLM is that a picture shows what an edit says of its own.

    Returns:
        The least ``p_yes`` of the sentences that speak of the picture; where none does, the largest of all.
    """
    if any(map(_speaks_of_picture, sentences)):
        return min(rate_shown(pipeline, vision, sentences))
    return max(_ask(pipeline, vision, range(len(sentences)), sentences))


def _speaks_of_picture(sentence: str) -> bool:
    return bool(UNNAMED.search(sentence) or _PICTURE.search(sentence))


def _ask(pipeline: EditingPipeline, vision: Vision, rows: Sequence[int], sentences: Sequence[str]) -> list[float]:
    """``p_yes`` of some of the sentences; 1 for the others, and where there is no room to ask."""
    vlm = pipeline.vlm
    questions = {i: verification_question(sentences[i]) for i in rows}
    asked = {i: q for i, q in questions.items() if vlm.has_room(vision.images[0], vlm.prompt(q))}
    if not asked:
        return [1.0] * len(sentences)
    rated = dict(zip(asked, vlm.p_yes(vision, [list(asked.values())])[0].tolist(), strict=True))
    return [rated.get(i, 1.0) for i in range(len(sentences))]
