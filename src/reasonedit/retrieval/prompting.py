"""Retrieved facts on their way into a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reasonedit.prompts import with_facts
from reasonedit.types import Hit
from reasonedit.vlm import VLM, Turn, Vision

from .results import Retrieval


def fit_prompts(
    vlm: VLM,
    vision: Vision,
    questions: Sequence[str],
    retrievals: Sequence[Retrieval],
    choices: Sequence[Sequence[str] | None] | None,
    max_new_tokens: int,
    earlier: Sequence[Sequence[Turn]] | None = None,
) -> tuple[list[str], list[Retrieval]]:
    """Put facts before questions; where they do not fit, the farthest go first, and joined ones before all others.

    Args:
        vlm: The VLM.
        vision: One image per question.
        questions: The questions.
        retrievals: The facts of each.
        choices: Their choices: they take room in the prompt.
        max_new_tokens: The most tokens of an open answer; see :meth:`~reasonedit.vlm.VLM.answer_length`.
        earlier: The turns before each question, which take room, too.

    Returns:
        The texts to ask, and the facts that are in them, the others in ``left_out``.
    """
    texts, fitted = [], []
    choices = choices if choices is not None else [None] * len(questions)
    turns = earlier if earlier is not None else [()] * len(questions)
    parts = zip(vision.images, questions, retrievals, choices, turns, strict=True)
    for image, question, retrieval, options, before in parts:
        hits, dropped = list(retrieval.hits), list[Hit]()
        # Facts are data: a tokenizer's special tokens in them must not reach the prompt.
        facts = [vlm.clean(hit.fact) for hit in hits]
        answer_length = vlm.answer_length(question, options, max_new_tokens, before) if hits else max_new_tokens
        while hits:
            if vlm.has_room(image, vlm.prompt(with_facts(facts, question), options, before), answer_length):
                break
            last = _last_of(hits)
            dropped.append(hits.pop(last))
            facts.pop(last)
        texts.append(with_facts(facts, question))
        if dropped:
            retrieval = replace(retrieval, hits=hits, left_out=[*retrieval.left_out, *dropped])  # noqa: PLW2901
        fitted.append(retrieval)
    return texts, fitted


def _last_of(hits: Sequence[Hit]) -> int:
    """The number of the fact that a prompt can best do without: the farthest that was joined to another, if any was."""
    return max(range(len(hits)), key=lambda number: (bool(hits[number].via), number))
