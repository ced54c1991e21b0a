"""What was fetched on its way into a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reasonedit.prompts import with_facts
from reasonedit.vlm import VLM, Vision
from reasonedit.vlm.generation import thought_through

from .retrieve import Retrieval


def fitting(
    vlm: VLM,
    vision: Vision,
    questions: Sequence[str],
    found: Sequence[Retrieval],
    choices: Sequence[Sequence[str] | None] | None,
    max_new_tokens: int,
) -> tuple[list[str], list[Retrieval]]:
    """Put facts before questions; where they do not fit into the model's context the farthest go first.

    Args:
        vlm: The VLM.
        vision: One image per question.
        questions: The questions.
        found: What was retrieved for each.
        choices: Their choices: they take room in the prompt.
        max_new_tokens: Tokens that are kept free for an open answer; for a choice, as many as the longest takes.

    Returns:
        The texts to ask, and what was retrieved, with what was left out.
    """
    texts, kept = [], []
    choices = choices if choices is not None else [None] * len(questions)
    for seen, question, retrieval, options in zip(vision.images, questions, found, choices, strict=True):
        # The facts are data: whoever reads the prompt next must not find the tokenizer's own marks in them.
        hits = list(retrieval.hits)
        facts = [vlm.clean(hit.fact) for hit in hits]
        longest = max_new_tokens
        if hits and options:
            bare = thought_through(vlm.prompt(question, options))
            longest = max(len(vlm.continuation(bare, option)) for option in options) + vlm.length(bare)
            longest -= vlm.length(vlm.prompt(question, options))  # a thought that the prompt begins is ended first
        room = vlm.context - seen.size - longest
        while hits and vlm.length(vlm.prompt(with_facts(facts, question), options)) > room:
            hits.pop()
            facts.pop()
        texts.append(with_facts(facts, question))
        out = retrieval.hits[len(hits) :]
        kept.append(replace(retrieval, hits=hits, left_out=[*retrieval.left_out, *out[::-1]]) if out else retrieval)
    return texts, kept
