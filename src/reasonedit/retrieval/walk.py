"""Walks: facts that follow from what the picture shows, though neither picture nor question is near them (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reasonedit.codebook import EditMemory, FactGraph
from reasonedit.kinds import KeyKind
from reasonedit.types import Hit

from .config import RetrievalConfig
from .results import Retrieval


def walk_facts(retrievals: Sequence[Retrieval], memory: EditMemory, config: RetrievalConfig) -> list[Retrieval]:
    """Add the facts that those of each query lead to.

    Args:
        retrievals: The facts of each query, of which only those are left that count. No way leads through those that
            the VLM denied.
        memory: Where the facts are.
        config: ``config.walk`` steps are walked, and ``config.k`` facts added at most: the nearest in steps, of these
            those that were said last.

    Returns:
        The same, with the added facts last. Each has the distance of the fact that leads to it.
    """
    with memory.guard:
        graph = memory.fact_graph
        return [_walk(retrieval, graph, config.walk, config.k) for retrieval in retrievals]


def _walk(retrieval: Retrieval, graph: FactGraph, steps: int, k: int) -> Retrieval:
    begun = {hit.fact: hit for hit in retrieval.hits if hit.kind is not KeyKind.ANSWER}
    reached = graph.leads_to(begun, steps, retrieval.denied)
    latest = sorted(reached, key=lambda fact: (reached[fact][0], -graph.age(fact)))
    hits = dict(begun)
    for fact in latest[:k]:
        before = reached[fact][1]
        distance = hits[before].distance if before in hits else max(hit.distance for hit in begun.values())
        hits[fact] = Hit(fact, distance, KeyKind.TEXT, graph.edits_of(fact)[-1], via=before)
    added = [hit for fact, hit in hits.items() if fact not in begun]
    if not added:
        return retrieval
    left_out = [hit for hit in retrieval.left_out if hit.fact not in hits]
    return replace(retrieval, hits=[*retrieval.hits, *added], left_out=left_out)
