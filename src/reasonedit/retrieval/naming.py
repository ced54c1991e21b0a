"""Facts about a thing that another fact says the picture shows (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reasonedit.codebook import EditMemory, FactGraph
from reasonedit.kinds import KeyKind
from reasonedit.types import Hit

from .config import RetrievalConfig
from .results import Retrieval


def join_named(retrievals: Sequence[Retrieval], memory: EditMemory, config: RetrievalConfig) -> list[Retrieval]:
    """Add the facts near a query that speak of what its picture shows, though their own pictures do not match it.

    One thing looks different in the pictures of different edits. Where the picture of one of them matches, it is known
    what the query's picture shows; so the facts of the others count as well, if they are near.

    Args:
        retrievals: The facts of each query, of which those that the VLM denied are gone already.
        memory: Where the facts are.
        config: ``config.k`` facts are kept beside answers, the nearest; added ones only with what they are added to.

    Returns:
        The same, with the added facts in the order of their distances.
    """
    with memory.guard:
        graph = memory.fact_graph
        return [_join(retrieval, graph, config.k) for retrieval in retrievals]


def _join(retrieval: Retrieval, graph: FactGraph, k: int) -> Retrieval:
    shown = [hit.fact for hit in retrieval.hits if hit.kind.shows_fact]
    if not shown or retrieval.in_range is False:
        return retrieval
    terms = {fact: graph.terms_of(fact) for fact in shown}
    have = {hit.fact for hit in retrieval.hits}
    joined = []
    for hit in retrieval.elsewhere:
        # All that it takes up, not a word of it: a magnifying glass is no wine glass.
        taken = graph.taken_by(hit.fact)
        leading = next((fact for fact in shown if taken and taken <= terms[fact]), None)
        if leading is not None and hit.fact not in have and hit.fact not in retrieval.denied:
            joined.append(replace(hit, via=leading))
    if not joined:
        return retrieval
    hits = sorted([*retrieval.hits, *joined], key=lambda hit: hit.distance)
    kept = _keep(hits, k)
    left_out = [hit for hit in hits if hit.fact not in kept]
    return replace(
        retrieval,
        hits=[hit for hit in hits if hit.fact in kept],
        left_out=[*retrieval.left_out, *left_out[::-1]],
    )


def _keep(hits: Sequence[Hit], k: int) -> set[str]:
    """The nearest K facts beside answers, each that was joined together with the one that the picture shows."""
    kept: set[str] = set()
    for hit in hits:
        more = {hit.fact, hit.via or hit.fact} - kept
        if hit.kind is not KeyKind.ANSWER and len(more) <= k:
            kept |= more
            k -= len(more)
    return kept | {hit.fact for hit in hits if hit.kind is KeyKind.ANSWER}
