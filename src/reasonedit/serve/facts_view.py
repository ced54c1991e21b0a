"""What the codebook did with a question, as a client is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from reasonedit.codebook import EditMemory, StoredEdit
from reasonedit.errors import ReasonEditError
from reasonedit.explain import UNLIKE
from reasonedit.kinds import KeyKind
from reasonedit.types import Answer, Hit

NOT_ASKED = "edits were not asked for"
NO_PICTURE = "there is no picture"
NO_QUESTION = "there is no question"


def finite(number: float) -> float | None:
    """A number as JSON has it: an infinite one is none."""
    return number if math.isfinite(number) else None


def is_given(edit: StoredEdit, sentence: int) -> bool:
    """Whether a person gave the evidence of a sentence: boxes, or pictures."""
    return sentence < len(edit.given) and bool(edit.given[sentence])


def boxes_of(edit: StoredEdit, sentence: int) -> list[list[float]]:
    """The boxes of a sentence: those that a person gave, else those that were found."""
    given = edit.given[sentence] if sentence < len(edit.given) else []
    found = edit.found[sentence] if sentence < len(edit.found) else []
    return [list(region) for region in given or found if not isinstance(region, str)]


def pictures_of(edit: StoredEdit, sentence: int) -> list[str]:
    """Where this server has the pictures that a person gave as evidence of a sentence."""
    given = edit.given[sentence] if sentence < len(edit.given) else []
    return [f"/v1/edits/{quote(edit.id, safe='')}/pictures/{name}" for name in given if isinstance(name, str)]


def view_fact(hit: Hit, memory: EditMemory) -> dict[str, Any]:
    """A fact with where it comes from."""
    try:
        edit: StoredEdit | None = memory.find(hit.edit_id)
    except ReasonEditError:  # erased since
        edit = None
    sentence = edit.reasoning.index(hit.fact) if edit is not None and hit.fact in edit.reasoning else None
    return {
        "edit_id": hit.edit_id,
        "text": hit.fact,
        "kind": "answer" if hit.kind is KeyKind.ANSWER else "reasoning",
        "distance": finite(hit.distance),
        "visual_match": hit.visual_match,
        "boxes": boxes_of(edit, sentence) if edit is not None and sentence is not None else [],
        "pictures": pictures_of(edit, sentence) if edit is not None and sentence is not None else [],
        "question": edit.question if edit is not None else None,
        "answer": edit.answer if edit is not None else None,
        "author": edit.author if edit is not None else None,
    }


def view_facts(
    answer: Answer | None, memory: EditMemory, ms: Mapping[str, float], why_not: str = NOT_ASKED
) -> dict[str, Any]:
    """The field ``reasonedit`` of an answer.

    Args:
        answer: The answer with its facts; ``None`` where the codebook did not count.
        memory: The codebook.
        ms: Milliseconds of each part.
        why_not: Why the codebook did not count, where it did not.
    """
    times = {name: round(value, 1) for name, value in ms.items()}
    if answer is None:
        gate = {"open": False, "nearest": None, "threshold": 0.0, "reason": why_not}
        nothing: dict[str, Any] = {"edits": False, "in_range": None, "gate": gate}
        return {**nothing, "facts": [], "left_out": [], "edit_ids": [], "ms": times}
    return {
        "edits": True,
        "in_range": answer.in_range,
        "gate": {
            "open": answer.nearest <= answer.threshold,
            "nearest": finite(answer.nearest),
            "threshold": finite(answer.threshold),
            "reason": _reason(answer),
        },
        "facts": [view_fact(hit, memory) for hit in answer.hits],
        "left_out": [view_fact(hit, memory) for hit in answer.left_out],
        "edit_ids": edit_ids_of(answer.hits),
        "ms": times,
    }


def edit_ids_of(hits: Sequence[Hit]) -> list[str]:
    """The edits of facts, each once, in the order of the facts."""
    return list(dict.fromkeys(hit.edit_id for hit in hits))


def headers_of(field: Mapping[str, Any]) -> dict[str, str]:
    """The same in headers. Ids are percent-encoded: some stored text must not begin a header of its own."""
    return {
        "X-ReasonEdit-Facts": str(len(field["facts"])),
        "X-ReasonEdit-Edits": ",".join(quote(name, safe="") for name in field["edit_ids"]),
        "X-ReasonEdit-Gate": "open" if field["gate"]["open"] else "closed",
    }


def _reason(answer: Answer) -> str:
    """Why there are facts, or none, in a sentence."""
    if answer.hits:
        return "the nearest key is within the gate"
    if answer.in_range is False:
        return UNLIKE
    if not math.isfinite(answer.nearest):
        return "there are no edits"
    if answer.nearest > answer.threshold:
        return "the nearest key is beyond the gate"
    return "the picture does not show what the facts near it speak of"
