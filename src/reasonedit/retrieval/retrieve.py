"""Nearest facts behind the gate, and their way into a prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reasonedit.codebook import EditMemory, Fact
from reasonedit.kinds import KINDS, KeyKind
from reasonedit.types import Hit

from .approximate import EXACT_UP_TO, ApproximateIndex
from .config import RetrievalConfig
from .gate import PercentileGate
from .hubs import HubScale
from .index import ExactIndex, KeyIndex
from .visual_match import VisualMatch

_FIRST, _DEEPEST = 64, 4096


@dataclass(frozen=True)
class Retrieval:
    """What was found for one query.

    Attributes:
        hits: Distinct facts, nearest first; empty when the gate is closed.
        nearest: Distance of the nearest key (infinite where there is none).
        threshold: Largest distance at which the gate is open.
        left_out: Facts that were found and left out again: the image does not show them, or the prompt was full.
    """

    hits: list[Hit]
    nearest: float
    threshold: float
    left_out: list[Hit] = field(default_factory=list)

    @property
    def facts(self) -> list[str]:
        """The sentences alone."""
        return [hit.fact for hit in self.hits]


@dataclass(frozen=True)
class Near:
    """A key near a query.

    Attributes:
        number: Its number.
        distance: Its distance.
        facts: Its facts.
        visual_match: How near its picture comes to the query's, where that counts.
        within_gate: Whether it is near enough for the gate.
        matches_visually: Whether its picture is near enough.
    """

    number: int
    distance: float
    facts: list[Fact]
    visual_match: float | None
    within_gate: bool
    matches_visually: bool


class FactRetriever:
    """Fetches facts from a memory that may grow between calls.

    Args:
        memory: Where the facts are.
        config: How they are fetched.
        cohort: Vision halves of unrelated pictures, needed for ``config.visual_match``; without them every key matches.
    """

    def __init__(self, memory: EditMemory, config: RetrievalConfig | None = None, cohort: Tensor | None = None) -> None:
        self.config = config or RetrievalConfig()
        self.memory = memory
        self.visual_match = VisualMatch(cohort) if self.config.visual_match is not None and cohort is not None else None
        self.gate = PercentileGate(self.config.percentile)
        self.hubs = HubScale() if self.config.hubness else None
        self._removals = memory.removals
        answers, reasoning = (KeyKind.ANSWER,), tuple(kind for kind in KINDS if kind is not KeyKind.ANSWER)
        self._sorts = [_Sort(KINDS)] if self.config.k_answers is None else [_Sort(answers), _Sort(reasoning)]

    def retrieve(self, queries: Tensor) -> list[Retrieval]:
        """Fetch facts.

        Args:
            queries: One key per query (B, D), or one per region of each query (B, R, D), the whole image last, of which
                the nearest counts.
        """
        if queries.ndim == 2:
            queries = queries[:, None]
        with self.memory.guard:
            return self._retrieve(queries)

    def _retrieve(self, queries: Tensor) -> list[Retrieval]:
        if len(self.memory) == 0:
            return [Retrieval([], math.inf, 0.0) for _ in queries]
        sigma = self._take_in()
        threshold = self.gate.threshold(len(self.memory.edits), sigma)
        fetched = []
        for sort in self._sorts:
            answers = sort.kinds == (KeyKind.ANSWER,)
            k = self.config.k if self.config.verify is None else max(self.config.k, self.config.candidates)
            if answers and self.config.k_answers is not None:
                k = self.config.k_answers
            fetched.append(self._fetch(queries, sort, k, threshold, sigma))
        found = []
        for parts in zip(*fetched, strict=True):
            nearest = min(part[0] for part in parts)
            hits: dict[str, Hit] = {}
            if nearest <= threshold:
                for hit in sorted((hit for part in parts for hit in part[1]), key=lambda hit: hit.distance):
                    hits.setdefault(hit.fact, hit)
            found.append(Retrieval(list(hits.values()), nearest, threshold))
        return found

    def nearest(self, query: Tensor, count: int) -> list[Near]:
        """The nearest keys of one query, whether their facts count or not.

        Args:
            query: The query's keys (R, D), as in :meth:`retrieve`.
            count: How many of each sort: answers, where they are fetched apart, and others.
        """
        with self.memory.guard:
            return self._nearest(query, count)

    def _nearest(self, query: Tensor, count: int) -> list[Near]:
        if len(self.memory) == 0:
            return []
        sigma = self._take_in()
        threshold = self.gate.threshold(len(self.memory.edits), sigma)
        found = []
        for sort in self._sorts:
            if not len(sort.index.numbers):
                continue
            near, numbers = self._search(query[None], sort, count, sigma)[0]
            seen = (
                self.visual_match.score(self.memory, query, numbers).tolist() if self.visual_match is not None else []
            )
            for i, (number, distance) in enumerate(zip(numbers.tolist()[:count], near.tolist(), strict=False)):
                facts = self.memory.facts(number)
                visual_match = seen[i] if seen and facts[0].kind.picture else None
                matches_visually = visual_match is None or visual_match >= self._least_match(facts[0].kind)
                found.append(Near(number, distance, facts, visual_match, distance <= threshold, matches_visually))
        return sorted(found, key=lambda near: near.distance)

    def _take_in(self) -> Tensor | None:
        """Take in what the memory became; what distances to each key are divided by, where they are, by number."""
        memory, keys = self.memory, self.memory.view
        if memory.removals != self._removals:
            self._removals = memory.removals
            self.gate = PercentileGate(self.config.percentile)
            self.hubs = HubScale() if self.config.hubness else None
        self.gate.update(keys)
        if self.visual_match is not None:
            self.visual_match.update(memory)
        for sort in self._sorts:
            sort.update(memory)
        if self.hubs is None:
            return None
        self.hubs.update(keys)
        return self.hubs.sigma

    def _fetch(
        self, queries: Tensor, sort: _Sort, k: int, threshold: float, sigma: Tensor | None
    ) -> list[tuple[float, list[Hit]]]:
        """Distance of the nearest key of one sort, and the hits among them, for each query."""
        total = len(sort.index.numbers)
        if total == 0:
            return [(math.inf, [])] * len(queries)
        if k == 0:
            return [(float(near[0]), []) for near, _ in self._search(queries, sort, 1, sigma)]
        # Only counting facts, or leaving keys out, may take more than K keys.
        more = self.config.k_counts == "facts" or self.visual_match is not None or sigma is not None
        depth = min(total, max(k, _FIRST) if more else k)
        while True:
            results, enough = [], True
            for query, (near, rows) in zip(queries, self._search(queries, sort, depth, sigma), strict=True):
                hits, complete = self._hits(query, near, rows, k, threshold)
                # What is farther than the gate lets through is not needed.
                enough &= complete or (self.config.gate_per_fact and len(near) > 0 and float(near[-1]) > threshold)
                results.append((float(near[0]), hits))
            if enough or not more or depth >= min(total, _DEEPEST):
                return results
            depth = min(total, 4 * depth)

    def _search(self, queries: Tensor, sort: _Sort, depth: int, sigma: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """The nearest keys of each query over all its regions: distances, rising, and numbers."""
        count, regions, width = queries.shape
        if sigma is not None:
            depth = min(len(sort.index.numbers), max(depth, _DEEPEST))  # the order is another one
        distances, rows = sort.index.search(queries.reshape(count * regions, width), depth)
        if sigma is not None:
            distances = distances / sigma[torch.searchsorted(self.memory.numbers, rows)]
        found = []
        for near, mine in zip(distances.view(count, -1), rows.view(count, -1), strict=True):
            order = near.argsort(stable=True)
            seen: dict[int, float] = {}
            for row, distance in zip(mine[order].tolist(), near[order].tolist(), strict=True):
                if distance < math.inf:
                    seen.setdefault(row, distance)
            # Beyond the depth of one region another one may still have nearer keys.
            kept = list(seen.items())[:depth]
            found.append((torch.tensor([d for _, d in kept]), torch.tensor([r for r, _ in kept], dtype=torch.long)))
        return found

    def _hits(self, query: Tensor, near: Tensor, rows: Tensor, k: int, threshold: float) -> tuple[list[Hit], bool]:
        """The hits of one query, and whether K were found."""
        config, hits = self.config, dict[str, Hit]()
        seen = self.visual_match.score(self.memory, query, rows) if self.visual_match is not None else None
        keys = 0
        for i, (row, distance) in enumerate(zip(rows.tolist(), near.tolist(), strict=True)):
            if config.gate_per_fact and distance > threshold:
                break
            if (keys if config.k_counts == "keys" else len(hits)) >= k:
                return list(hits.values()), True
            facts: list[Fact] = self.memory.facts(row)
            match = float(seen[i]) if seen is not None and facts[0].kind.picture else None
            if match is not None and match < self._least_match(facts[0].kind):
                continue
            keys += 1
            for fact in facts:
                hit = hits.get(fact.text)
                if hit is None:
                    hits[fact.text] = Hit(fact.text, distance, fact.kind, fact.edit_id, match)
                elif hit.visual_match is not None and match is not None and match > hit.visual_match:
                    hits[fact.text] = replace(hit, visual_match=match)
        kept = list(hits.values())
        if config.k_counts == "facts":
            kept = kept[:k]
        return kept, (keys if config.k_counts == "keys" else len(hits)) >= k

    def _least_match(self, kind: KeyKind) -> float:
        """The least visual match of a key that counts; what the VLM can be asked about may fall short by the margin."""
        least = self.config.visual_match or 0.0
        return least - (self.config.visual_margin or 0.0) if kind.verifiable else least


class _Sort:
    """The keys of some kinds, with an index of their own."""

    def __init__(self, kinds: tuple[KeyKind, ...]) -> None:
        self.kinds = kinds
        self.index: KeyIndex = ExactIndex()
        self._numbers = [kind.number for kind in kinds]
        self._last, self._removals = -1, 0

    def update(self, memory: EditMemory) -> None:
        """Take in what came, and let go of what went, since the last call."""
        numbers = memory.numbers.numpy()
        if isinstance(self.index, ExactIndex) and len(numbers) > EXACT_UP_TO:
            mine = self._mine(memory, numbers)
            if len(mine) > EXACT_UP_TO:
                self.index = ApproximateIndex(memory.table)
                self.index.change(memory.table, mine)
                self._removals, self._last = memory.removals, int(numbers[-1])
        if memory.removals != self._removals:
            self._removals = memory.removals
            self.index.change(memory.table, self._mine(memory, numbers))
        else:
            new = self._mine(memory, numbers[np.searchsorted(numbers, self._last, side="right") :])
            if len(new):
                self.index.add(memory.table[torch.from_numpy(new)], new)
        self._last = int(numbers[-1]) if len(numbers) else -1

    def _mine(self, memory: EditMemory, numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return numbers[np.isin(memory.kinds[numbers], self._numbers)]
