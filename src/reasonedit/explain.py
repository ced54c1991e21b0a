"""Why an answer came about: the keys that were considered, and what became of their facts."""

from __future__ import annotations

from dataclasses import dataclass

from reasonedit.codebook import StoredEdit
from reasonedit.edits import Answer, Query
from reasonedit.method import Method, answered
from reasonedit.vlm import Generation, Vision

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


def explained(method: Method, vision: Vision, query: Query, generation: Generation | None = None) -> Explanation:
    """Answer a query and say what became of the keys near it.

    Args:
        method: The method with its codebook.
        vision: The query's image, from the embedder's ``see``.
        query: The query.
        generation: How the answer is made.
    """
    questions, choices = [query.question], [query.choices]
    memory = method.memory
    keys = method.queries(vision, questions) if memory.edits else None
    with memory.guard:  # what was fetched and what is said of it are of one moment
        found = method.found(questions, keys)
        near = method.retriever.nearest(keys[0], _CONSIDERED) if keys is not None else []
        edits = [memory.find(key.facts[0].edit_id) for key in near]
        radii = [memory.radius(key.number) for key in near]
    steps = [(why, left[0]) for why, left in method.steps(vision, questions, found)]
    texts, kept = method.prompts(vision, questions, [steps[-1][1]], choices, generation)
    steps.append(("no room in the prompt", kept[0]))
    last = kept[0]
    answer = answered(method.vlm.reply(vision, texts, choices, generation)[0], last, texts[0])
    opened = last.nearest <= last.threshold
    each = method.design.retrieval.each
    considered = []
    for key, edit, radius in zip(near, edits, radii, strict=True):
        facts = [fact.text for fact in key.facts]
        left = [why for why, rest in steps if not set(facts) & set(rest.facts)]
        fate = left[0] if left else USED
        if fate != USED and not opened:
            fate = "the gate is closed"
        elif fate != USED and each and not key.in_gate:
            fate = "beyond the gate"
        elif fate != USED and not key.in_sight:
            fate = "its picture is not in sight"
        considered.append(Considered(key.distance, radius, key.facts[0].entry, facts, edit, key.sight, fate))
    return Explanation(answer, considered, opened)
