"""Sentences of an edit that may be false or beside the point: what the VLM and the other sentences say of each (ours).

What has changed since a VLM was trained it denies with confidence, so its belief cannot tell a false fact from a new
one. What it can tell is what a picture shows; and where a chain of sentences leads it, whatever it believes.
"""

from __future__ import annotations

from dataclasses import dataclass

from reasonedit.codebook import StoredEdit
from reasonedit.kinds import KeyKind
from reasonedit.matching import matches
from reasonedit.pipeline import EditingPipeline
from reasonedit.sentences import content_words
from reasonedit.types import Hit, Query
from reasonedit.vlm import Generation, Vision

from .asking import ask_with
from .shown import SEEN, rate_shown

LEADS_ELSEWHERE, NOT_SEEN, ALONE = "leads elsewhere", "not seen", "beside the point"


@dataclass(frozen=True)
class Doubt:
    """A sentence that may be wrong.

    Attributes:
        text: The sentence.
        why: ``"leads elsewhere"``, ``"not seen"`` or ``"beside the point"``.
        says: What was found, in a sentence.
    """

    text: str
    why: str
    says: str


def doubt_sentences(
    pipeline: EditingPipeline, edit: StoredEdit, query: Query, vision: Vision, generation: Generation | None
) -> list[Doubt]:
    """Find the sentences of an edit that may be wrong; each is named once, for the first of these reasons.

    - **leads elsewhere**: by the sentences alone, without the edit's answer, the VLM answers something else, and this
      sentence says it;
    - **not seen**: it speaks of the picture ("the red object …", "the image shows …"), and the VLM does not affirm it
      of the whole picture. So it does not affirm what it never learnt to see;
    - **beside the point**: it shares no content word with the question, the answer and the other sentences.

    Args:
        pipeline: What works on the codebook.
        edit: The edit.
        query: Its question.
        vision: Its picture.
        generation: How answers are made.
    """
    told = [Hit(text, 0.0, KeyKind.TEXT, edit.id) for text in edit.reasoning]
    reply = ask_with(pipeline, vision, query, [told], generation)[0]
    leads = content_words(reply) - content_words(edit.answer) if not matches(reply, edit.targets) else frozenset[str]()
    shown = rate_shown(pipeline, vision, edit.reasoning)
    doubts = []
    for i, text in enumerate(edit.reasoning):
        others = [edit.question, edit.answer, *edit.reasoning[:i], *edit.reasoning[i + 1 :]]
        words = content_words(text)
        if leads and leads <= words:
            doubts.append(Doubt(text, LEADS_ELSEWHERE, f"By the sentences alone the answer would be '{reply}'."))
        elif shown[i] <= SEEN:
            doubts.append(Doubt(text, NOT_SEEN, f"The model does not see it in the picture ({shown[i]:.2f})."))
        elif words and not words & frozenset[str]().union(*map(content_words, others)):
            doubts.append(Doubt(text, ALONE, "Nothing else of the edit speaks of it."))
    return doubts
