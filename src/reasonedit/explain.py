"""Why an answer came about: the keys that were considered, and what became of their facts."""

from __future__ import annotations

from dataclasses import dataclass

from reasonedit.codebook import StoredEdit
from reasonedit.edits import Answer, Query
from reasonedit.method import Method
from reasonedit.vlm import Vision

_CONSIDERED = 16
USED = "used"


@dataclass(frozen=True)
class Considered:
    """A key that came near a query.

    Attributes:
        distance: Its distance from the query.
        radius: How far it reaches (see section 3 of the method); keys within each other's reach merge.
        entry: What it is made of; see :class:`~reasonedit.codebook.Fact`.
        facts: Its sentences.
        edit: The edit that made it; ``edit.image`` names its picture.
        sight: How near its picture comes to the query's, where that counts.
        fate: ``"used"``, or why not.
    """

    distance: float
    radius: float
    entry: str
    facts: list[str]
    edit: StoredEdit
    sight: float | None
    fate: str


@dataclass(frozen=True)
class Explanation:
    """An answer with all that led to it.

    Attributes:
        answer: The answer, with the facts used and the prompt.
        keys: The keys considered, the nearest first.
        open: Whether the gate was open: whether the nearest key was within the threshold.
    """

    answer: Answer
    keys: list[Considered]
    open: bool


def explained(method: Method, vision: Vision, query: Query) -> Explanation:
    """Answer a query and say what became of the keys near it.

    Args:
        method: The method with its codebook.
        vision: The query's image, from the embedder's ``see``.
        query: The query.
    """
    questions, choices = [query.question], [query.choices]
    steps = [(why, found[0]) for why, found in method.steps(vision, questions)]
    texts, kept = method.prompts(vision, questions, [steps[-1][1]], choices)
    steps.append(("no room in the prompt", kept[0]))
    last = kept[0]
    text = method.vlm.answer(vision, texts, choices)[0]
    answer = Answer(text, last.hits, texts[0], last.nearest, last.threshold, last.left_out)
    opened = last.nearest <= last.threshold
    each = method.design.retrieval.each
    keys = []
    near = method.retriever.nearest(method.queries(vision, questions)[0], _CONSIDERED) if method.memory.edits else []
    for key in near:
        facts = [fact.text for fact in key.facts]
        left = [why for why, found in steps if not set(facts) & set(found.facts)]
        fate = left[0] if left else USED
        if fate != USED and not opened:
            fate = "the gate is closed"
        elif fate != USED and each and not key.in_gate:
            fate = "beyond the gate"
        elif fate != USED and not key.in_sight:
            fate = "its picture is not in sight"
        edit = method.memory.find(key.facts[0].edit_id)
        radius = method.memory.radius(key.number)
        keys.append(Considered(key.distance, radius, key.facts[0].entry, facts, edit, key.sight, fate))
    return Explanation(answer, keys, opened)
