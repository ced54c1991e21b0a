"""Why an answer came about: the keys near the query, and what became of their facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reasonedit.codebook import Fact, StoredEdit
from reasonedit.kinds import KeyKind
from reasonedit.retrieval import NearKey, Retrieval
from reasonedit.types import Answer
from reasonedit.vlm import Reply

CONSIDERED = 16
"""How many of the nearest keys are explained, of answers where they are fetched apart, and of the others; and beyond
them the nearest key of each fact that was fetched."""

USED = "used"
UNLIKE = "the picture is unlike all pictures of the calibration"

Candidate = tuple[NearKey, Mapping[str, StoredEdit], float]
"""A key near a query, the edits that say its facts by their ids, and its radius."""


@dataclass(frozen=True)
class ConsideredKey:
    """A key near a query, and what became of its facts: of each edit that says some, and for each fate, one by itself.

    Attributes:
        distance: Its distance from the query.
        radius: How far it reaches (see section 3 of the method); keys within each other's reach merge.
        kind: What it is made of.
        facts: Its sentences of which the fate is told.
        edit: The edit that says them; ``edit.image`` names its picture.
        visual_match: How near its picture comes to the query's; ``None`` where that does not count.
        fate: ``"used"``, or why not: where they were fetched, by this key or another, why they were left out again.
    """

    distance: float
    radius: float
    kind: KeyKind
    facts: list[str]
    edit: StoredEdit
    visual_match: float | None
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
    keys: list[ConsideredKey]
    open: bool


def explain_answer(
    answer: Answer, near: Sequence[Candidate], steps: Sequence[tuple[str, Retrieval]], *, gate_per_fact: bool
) -> Explanation:
    """Say what became of the keys near a query.

    Args:
        answer: The answer.
        near: The keys, the nearest first, each with the edits that say its facts, and its radius. Of those beyond the
            nearest the ones are explained whose facts a step gave.
        steps: The facts that were left after each step, with the reason for which that step leaves facts out; after the
            last step they are those that the answer used.
        gate_per_fact: Whether every fact had to pass the gate.
    """
    last = steps[-1][1]
    is_open = last.nearest <= last.threshold
    fates: dict[str, str] = {}  # of the facts that a step gave: why the step behind the last such one left them out
    for (_, retrieval), then in zip(steps, [*(why for why, _ in steps[1:]), USED], strict=True):
        fates.update(dict.fromkeys(retrieval.facts, then))
    keys = []
    for key, edits, radius in near:
        if key.rank >= CONSIDERED and fates.keys().isdisjoint(fact.text for fact in key.facts):
            continue
        if not is_open:
            other = "the gate is closed"
        elif gate_per_fact and not key.within_gate:
            other = "beyond the gate"
        else:
            other = steps[0][0] if key.matches_visually else "its picture does not match"
        told: dict[tuple[str, str], list[Fact]] = {}
        by_text = {(fact.edit_id, fact.text) for fact in key.facts if not fact.kind.picture}
        for fact in key.facts:
            unlike = answer.in_range is False and (fact.edit_id, fact.text) not in by_text
            told.setdefault((fact.edit_id, fates.get(fact.text, UNLIKE if unlike else other)), []).append(fact)
        for (name, fate), facts in told.items():
            texts, kind = list(dict.fromkeys(fact.text for fact in facts)), facts[0].kind
            keys.append(ConsideredKey(key.distance, radius, kind, texts, edits[name], key.visual_match, fate))
    return Explanation(answer, keys, is_open)


def make_answer(reply: Reply, retrieved: Retrieval, prompt: str) -> Answer:
    """An answer with what led to it: the VLM's reply to a prompt with the retrieved facts."""
    return Answer(
        reply.text,
        retrieved.hits,
        prompt,
        retrieved.nearest,
        retrieved.threshold,
        retrieved.left_out,
        thought=reply.thought,
        finish_reason=reply.finish_reason,
        in_range=retrieved.in_range,
    )
