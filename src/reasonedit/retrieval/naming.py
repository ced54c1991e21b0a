"""Facts about a thing that another fact says the picture shows (ours)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from reasonedit.codebook import EditMemory, FactGraph
from reasonedit.kinds import KeyKind
from reasonedit.types import Hit

from .config import RetrievalConfig
from .results import Retrieval


def join_named(
    retrievals: Sequence[Retrieval], memory: EditMemory, config: RetrievalConfig, denied: Sequence[Collection[str]]
) -> list[Retrieval]:
    """Add the facts near a query that speak of what its picture shows, though their own pictures do not match it.

    One thing looks different in the pictures of different edits. Where the picture of one of them matches, it is known
    what the query's picture shows; so the facts of the others count as well, if they are near.

    Args:
        retrievals: The facts of each query, of which those that the VLM denied are gone already.
        memory: Where the facts are.
        config: ``config.k`` facts are kept beside answers, the nearest.
        denied: For each query the facts that the VLM does not see in its picture.

    Returns:
        The same, with the added facts in the order of their distances.
    """
    with memory.guard:
        graph = memory.fact_graph
        return [_join(retrieval, graph, config.k, facts) for retrieval, facts in zip(retrievals, denied, strict=True)]


def _join(retrieval: Retrieval, graph: FactGraph, k: int, denied: Collection[str]) -> Retrieval:
    shown = [hit for hit in retrieval.hits if hit.kind.shows_fact]
    if not shown or retrieval.in_range is False:
        return retrieval
    by_term = {term: hit.fact for hit in reversed(shown) for term in graph.terms_of(hit.fact)}
    have = {hit.fact for hit in retrieval.hits}
    added = []
    for hit in retrieval.elsewhere:
        term = next((t for t in sorted(graph.taken_by(hit.fact)) if t in by_term), None)
        if term is not None and hit.fact not in have and hit.fact not in denied:
            added.append(replace(hit, via=by_term[term]))
    if not added:
        return retrieval
    hits: list[Hit] = []
    left_out: list[Hit] = []
    count = 0
    for hit in sorted([*retrieval.hits, *added], key=lambda hit: hit.distance):
        count += hit.kind is not KeyKind.ANSWER
        (hits if hit.kind is KeyKind.ANSWER or count <= k else left_out).append(hit)
    return replace(retrieval, hits=hits, left_out=[*retrieval.left_out, *left_out[::-1]])
