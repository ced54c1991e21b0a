"""From the nearest facts to those that are put before a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reasonedit.codebook import EditMemory
from reasonedit.vlm import VLM, Vision

from .chain import link_facts
from .config import RetrievalConfig
from .naming import join_named
from .results import Retrieval
from .verify import verify_facts
from .walk import walk_facts

NEAREST = "not among the K nearest"
"""Why a fact is not among those that the first step gives."""


def choose_facts(
    vlm: VLM,
    vision: Vision,
    questions: Sequence[str],
    retrieved: list[Retrieval],
    memory: EditMemory,
    config: RetrievalConfig,
) -> Iterator[tuple[str, list[Retrieval]]]:
    """Leave out facts step by step; add those about things that the others show, and at last those that all lead to.

    Args:
        vlm: The VLM, which verifies facts.
        vision: The images, seen.
        questions: One per image.
        retrieved: Their nearest facts.
        memory: Where the facts are.
        config: Which steps are taken.

    Yields:
        Why a step leaves facts out, and what is left after it.
    """
    yield NEAREST, retrieved
    if config.verify is not None:
        retrieved = verify_facts(vlm, vision, retrieved, config)
        yield "the VLM does not see it in the picture, or K others were nearer", retrieved
    if config.naming and any(r.elsewhere for r in retrieved):
        retrieved = join_named(retrieved, memory, config)
        yield "K others were nearer", retrieved
    if config.chain and any(r.hits for r in retrieved):
        retrieved = link_facts(retrieved, questions)
        yield "nothing that the picture shows leads to it", retrieved
    if config.walk and any(r.hits for r in retrieved):
        yield "nothing leads to it", walk_facts(retrieved, memory, config)
