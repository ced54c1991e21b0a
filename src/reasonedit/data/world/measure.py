"""How well a VLM does what the embedded VLM can do."""

from __future__ import annotations

import random
from collections.abc import Iterator

from reasonedit.matching import matches
from reasonedit.vlm import VLM

from . import tasks
from .abilities import Ability, Item
from .questions import draw_choices

_HELD_OUT = 10**6
"""Scenes are drawn with seeds from here on, which no training scene uses."""


def items(ability: Ability, count: int, seed: int) -> Iterator[Item]:
    """Questions of one ability, on scenes that no training picture shows; the same for the same seed."""
    rng = random.Random(f"{_HELD_OUT + seed}-{ability.name}")
    drawn = 0
    while drawn < count:
        item = ability.make(rng)
        if item is not None:
            drawn += 1
            yield item


def measure(vlm: VLM, ability: Ability, count: int, seed: int = 0, batch_size: int = 16) -> tuple[float, int]:
    """Ask the VLM questions of one ability.

    Args:
        vlm: The VLM.
        ability: The ability.
        count: How many questions.
        seed: Seed of the questions and their choices.
        batch_size: Questions per batch.

    Returns:
        The share of right answers (or, for a loss, the difference of two shares) and the number of questions.
    """
    rng = random.Random(seed)
    asked = list(items(ability, count, seed))
    right = right_without_facts = 0
    for start in range(0, count, batch_size):
        batch = asked[start : start + batch_size]
        vision = vlm.see([image for image, _, _ in batch])
        questions = [t.question for _, _, t in batch]
        with_facts = [f"{facts} {q}".strip() for (_, facts, _), q in zip(batch, questions, strict=True)]
        choices = [
            draw_choices(rng, t.answer, tuple(tasks.pool_of(t))) if ability.choices else None for _, _, t in batch
        ]
        right += _count_right(vlm.answer(vision, with_facts, choices), batch)
        if ability.without_facts:
            right_without_facts += _count_right(vlm.answer(vision, questions), batch)
    return ((right_without_facts - right) if ability.without_facts else right) / count, count


def _count_right(answers: list[str], batch: list[Item]) -> int:
    return sum(
        any(matches(a, right) for right in (t.answer, *t.also)) for a, (_, _, t) in zip(answers, batch, strict=True)
    )
