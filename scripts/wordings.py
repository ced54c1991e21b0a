"""The wordings in which the embedded VLM is told facts in training.

No editor's own wording is the only one that it reads: facts stand before the question bare, under a heading, as a list
or in one line each, and an answer is stated in a sentence or follows its question, as demonstrations have it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """How facts and a question are put together.

    Attributes:
        weight: How often it is used, compared with the others.
        head: What stands before the facts.
        each: A fact, in place of ``{}``.
        between: What stands between two facts.
        ask: What stands between the facts and the question.
    """

    weight: float
    head: str = ""
    each: str = "{}"
    between: str = " "
    ask: str = " "

    def tell(self, facts: Sequence[str]) -> str:
        """The facts in this wording."""
        return self.head + self.between.join(self.each.format(fact) for fact in facts)


WORDINGS: tuple[Wording, ...] = (
    Wording(5.0),
    Wording(1.0, ask="\n"),
    Wording(1.0, between="\n", ask="\n"),
    Wording(1.0, head="Facts: ", ask=" Question: "),
    Wording(0.7, head="Context:\n", each="- {}", between="\n", ask="\nQuestion: "),
    Wording(0.7, head="Note: "),
    Wording(0.7, head="Use what follows to answer. ", ask="\n"),
    Wording(0.7, each="New Fact: {}", ask=" Prompt: "),
)


def draw_wording(rng: random.Random) -> Wording:
    """A wording by its weight."""
    return rng.choices(WORDINGS, [w.weight for w in WORDINGS])[0]


def state_answer(rng: random.Random, question: str, answer: str) -> str:
    """The answer to a question, as a fact."""
    r = rng.random()
    if r < 0.55:
        return f"The answer to '{question}' is {answer}."
    return f"New Fact: {question} {answer}." if r < 0.85 else f"{question} {answer}."
