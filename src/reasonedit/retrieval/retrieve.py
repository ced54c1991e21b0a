"""The nearest facts behind the gate (section 5 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reasonedit.codebook import EditMemory, Fact
from reasonedit.kinds import KINDS, KeyKind
from reasonedit.types import Hit

from .config import RetrievalConfig
from .gate import PercentileGate
from .gathering import GatheredFacts
from .hubs import HubScale
from .indexed_keys import IndexedKeys
from .results import NearKey, Retrieval
from .visual_match import VisualMatch

_FIRST, _DEEPEST = 64, 4096
"""Keys that are searched at first, where more than K may be needed, and at most."""


@dataclass(frozen=True)
class _Near:
    """The nearest keys of one query: their distances, rising, and numbers, and what their pictures are to its own.

    Attributes:
        matches: The visual match of each; ``None`` where pictures do not count.
        same: Of which the picture is the query's own.
        pictures: Whether keys with a picture count though it is another.
    """

    distances: Tensor
    numbers: Tensor
    matches: list[float] | None
    same: list[bool]
    pictures: bool


class FactRetriever:
    """Fetches facts from a memory that may grow between calls.

    Args:
        memory: Where the facts are.
        config: How they are fetched.
        cohort: Vision halves of unrelated pictures, needed for ``config.visual_match``; without them every key matches.
            What ``config.false_alarms`` makes of that is for the caller to say: see
            :func:`reasonedit.calibration.calibrated`.
    """

    def __init__(self, memory: EditMemory, config: RetrievalConfig | None = None, cohort: Tensor | None = None) -> None:
        self.config = config or RetrievalConfig()
        self.memory = memory
        self.visual_match = VisualMatch(cohort) if self.config.matches_pictures and cohort is not None else None
        self.gate = PercentileGate(self.config.percentile)
        self.hubs = HubScale() if self.config.hubness else None
        self._removals, self._renumbered = memory.removals, memory.renumbered
        self._groups = self._make_groups()

    def _make_groups(self) -> list[IndexedKeys]:
        if self.config.k_answers is None:
            return [IndexedKeys(KINDS)]
        return [IndexedKeys((KeyKind.ANSWER,)), IndexedKeys(tuple(k for k in KINDS if k is not KeyKind.ANSWER))]

    def fork(self, memory: EditMemory) -> FactRetriever:
        """What fetches facts from a fork of the memory, made now.

        Its index is that of this one with what differs: whoever uses it holds the guard of this one's memory meanwhile.
        """
        if len(self.memory):
            self._update()
        fork = copy(self)
        fork.memory, fork._groups = memory, [group.fork() for group in self._groups]
        fork.gate, fork.hubs, fork.visual_match = deepcopy(self.gate), deepcopy(self.hubs), copy(self.visual_match)
        return fork

    def retrieve(self, queries: Tensor, in_range: Sequence[bool | None] | None = None) -> list[Retrieval]:
        """Fetch facts.

        Args:
            queries: One key per query (B, D), or one per region of each query (B, R, D), the whole image last, of which
                the nearest counts.
            in_range: Whether the picture of each is like those of the calibration, as far as that is known. Keys with
                a picture do not match one that is unlike.
        """
        if queries.ndim == 2:
            queries = queries[:, None]
        with self.memory.guard:
            return self._retrieve(queries, in_range or [None] * len(queries))

    def _retrieve(self, queries: Tensor, in_range: Sequence[bool | None]) -> list[Retrieval]:
        if len(self.memory) == 0:
            return [Retrieval([], math.inf, 0.0, in_range=known) for known in in_range]
        sigma = self._update()
        threshold = self.gate.threshold(len(self.memory.edits), sigma)
        levels = self._levels(queries)
        fetched = [self._fetch(queries, levels, group, threshold, sigma, in_range) for group in self._groups]
        retrievals = []
        for known, *of_query in zip(in_range, *fetched, strict=True):
            nearest = min(distance for distance, _ in of_query)
            found = GatheredFacts()
            for _, of_group in of_query if nearest <= threshold else ():
                found.join(of_group)
            hits = list(found.hits.values())
            made_of = {"in_range": known, "said_by": found.said_by, "by_text": found.by_text}
            made_of["elsewhere"] = [hit for text, hit in found.elsewhere.items() if text not in found.hits]
            retrievals.append(Retrieval(hits, nearest, threshold, **made_of))
        return retrievals

    def _count(self, group: IndexedKeys) -> int:
        """K for a group of keys: answers may have their own, and more are fetched where the VLM leaves some out."""
        if group.kinds == (KeyKind.ANSWER,) and self.config.k_answers is not None:
            return self.config.k_answers
        return self.config.k if self.config.verify is None else max(self.config.k, self.config.candidates)

    def nearest(self, query: Tensor, count: int, also: Sequence[Hit] = ()) -> list[NearKey]:
        """The nearest keys of one query, whether their facts count or not.

        Args:
            query: The query's keys (R, D), as in :meth:`retrieve`.
            count: How many of each group: answers, where they are fetched apart, and the others.
            also: Facts whose nearest keys are among them, however many are nearer.
        """
        with self.memory.guard:
            return self._nearest(query, count, also)

    def _nearest(self, query: Tensor, count: int, also: Sequence[Hit]) -> list[NearKey]:
        if len(self.memory) == 0:
            return []
        sigma = self._update()
        threshold = self.gate.threshold(len(self.memory.edits), sigma)
        keys = []
        for group in self._groups:
            if not len(group.index.numbers):
                continue
            wanted = {hit.fact for hit in also if hit.kind in group.kinds}
            distances, numbers, ranks = self._search_until(query, group, count, wanted, sigma)
            matches = self._match_pictures(query, self._levels(query), numbers)
            for i, (number, distance) in enumerate(zip(numbers.tolist(), distances.tolist(), strict=True)):
                facts = self._said(number, group)
                match = matches[i] if matches is not None else None
                visually = any(self._matches(fact.kind, match) for fact in facts)
                visual_match = match if any(fact.kind.picture for fact in facts) else None
                keys.append(NearKey(number, distance, facts, visual_match, distance <= threshold, visually, ranks[i]))
        return sorted(keys, key=lambda key: key.distance)

    def _search_until(
        self, query: Tensor, group: IndexedKeys, count: int, wanted: set[str], sigma: Tensor | None
    ) -> tuple[Tensor, Tensor, list[int]]:
        """The nearest keys of one query, and beyond them the first of each fact that is wanted; with their ranks."""
        depth = count
        while True:
            distances, numbers = self._search(query[None], group, depth, sigma)[0]
            left, ranks = set(wanted), list[int]()
            for rank, number in enumerate(numbers.tolist()):
                texts = {fact.text for fact in self._said(number, group)}
                if rank < count or left & texts:
                    ranks.append(rank)
                left -= texts
            if not left or depth >= min(len(group.index.numbers), _DEEPEST):
                return distances[ranks], numbers[ranks], ranks
            depth *= 4

    def _levels(self, queries: Tensor) -> Tensor | None:
        """How near unrelated pictures come to queries; ``None`` where pictures do not count."""
        return None if self.visual_match is None else self.visual_match.level(queries)

    def _match_pictures(self, query: Tensor, level: Tensor | None, numbers: Tensor) -> list[float] | None:
        """The visual match of keys with a query, by their numbers; ``None`` where it does not count."""
        if self.visual_match is None or level is None:
            return None
        matches: list[float] = self.visual_match.score(self.memory, query, level, numbers).tolist()
        return matches

    def _same_pictures(self, query: Tensor, level: Tensor | None, numbers: Tensor) -> list[bool]:
        """Of which keys the picture is the query's own; of none where that is not looked at."""
        if self.visual_match is None or level is None:
            return [False] * len(numbers)
        same: list[bool] = self.visual_match.same_picture(self.memory, query, level, numbers).tolist()
        return same

    def _update(self) -> Tensor | None:
        """Take in the keys that the memory has now.

        Returns:
            What distances to each key are divided by, in the order of the memory's numbers; ``None`` where hubs do not
            count.
        """
        memory, keys = self.memory, self.memory.view
        if memory.removals != self._removals:
            self._removals = memory.removals
            self.gate = PercentileGate(self.config.percentile)
            self.hubs = HubScale() if self.config.hubness else None
        if memory.renumbered != self._renumbered:
            self._renumbered = memory.renumbered
            self._groups = self._make_groups()
            self.visual_match = VisualMatch(self.visual_match.cohort) if self.visual_match is not None else None
        self.gate.update(keys)
        if self.visual_match is not None:
            self.visual_match.update(memory)
        for group in self._groups:
            group.update(memory)
        if self.hubs is None:
            return None
        self.hubs.update(keys)
        return self.hubs.sigma

    def _fetch(
        self,
        queries: Tensor,
        levels: Tensor | None,
        group: IndexedKeys,
        threshold: float,
        sigma: Tensor | None,
        in_range: Sequence[bool | None],
    ) -> list[tuple[float, GatheredFacts]]:
        """For each query the distance of the nearest key of a group, and the facts of its keys."""
        total, k = len(group.index.numbers), self._count(group)
        if total == 0:
            return [(math.inf, GatheredFacts())] * len(queries)
        if k == 0:
            return [(_first(distances), GatheredFacts()) for distances, _ in self._search(queries, group, 1, sigma)]
        # More than K keys are needed where facts are counted, keys may be left out, or it matters which edits say a
        # fact: of all queries, or of none.
        looked_at = any(known is not None for known in in_range)
        leaves_out = self.visual_match is not None or sigma is not None or looked_at
        more = leaves_out or self.config.chain or self.config.k_counts == "facts"
        depth = min(total, max(k, _FIRST) if more else k)
        while True:
            results, enough = [], True
            nearest = self._search(queries, group, depth, sigma)
            for i, (known, (distances, numbers)) in enumerate(zip(in_range, nearest, strict=True)):
                level = None if levels is None else levels[i]
                matches = self._match_pictures(queries[i], level, numbers)
                same = self._same_pictures(queries[i], level, numbers)
                near = _Near(distances, numbers, matches, same, known is not False)
                facts, complete = self._collect(near, group, threshold)
                passed = self.config.gate_per_fact and len(distances) > 0 and float(distances[-1]) > threshold
                enough &= complete or passed  # beyond the gate there is nothing to look for
                results.append((_first(distances), facts))
            if enough or not more or depth >= min(total, _DEEPEST):
                return results
            depth = min(total, 4 * depth)

    def _search(
        self, queries: Tensor, group: IndexedKeys, depth: int, sigma: Tensor | None
    ) -> list[tuple[Tensor, Tensor]]:
        """The nearest keys of each query over all its regions: distances, rising, and the keys' numbers."""
        count, regions, width = queries.shape
        if sigma is not None:  # sigma changes the order: a key that is farther may come first
            depth = min(len(group.index.numbers), max(depth, _DEEPEST))
        distances, numbers = group.index.search(queries.reshape(count * regions, width), depth)
        if sigma is not None:
            distances = distances / sigma[torch.searchsorted(self.memory.numbers, numbers)]
        results = []
        for of_query, numbers_of_query in zip(
            distances.view(count, -1).numpy(), numbers.view(count, -1).numpy(), strict=True
        ):
            order = of_query.argsort(kind="stable")
            order = order[of_query[order] < math.inf]
            # Of a key that several regions came near to, the nearest counts.
            first = np.sort(np.unique(numbers_of_query[order], return_index=True)[1])
            # Each region was searched to this depth: farther than that, another region may have nearer keys.
            complete = order[first[:depth]]
            results.append((torch.from_numpy(of_query[complete]), torch.from_numpy(numbers_of_query[complete])))
        return results

    def _collect(self, near: _Near, group: IndexedKeys, threshold: float) -> tuple[GatheredFacts, bool]:
        """The facts of one query among its nearest keys, and whether there are K."""
        config, found, k = self.config, GatheredFacts(), self._count(group)
        matches, same = near.matches, near.same
        keys = 0
        for i, (number, distance) in enumerate(zip(near.numbers.tolist(), near.distances.tolist(), strict=True)):
            if config.gate_per_fact and distance > threshold:
                break
            complete = (keys if config.k_counts == "keys" else len(found.hits)) >= k
            if complete and i >= _FIRST:  # until there, others may say what is here
                break
            match = matches[i] if matches is not None else None
            said = self._said(number, group)
            facts = [fact for fact in said if self._matches(fact.kind, match)]
            for fact in said if config.naming else ():
                if fact.kind.shows_fact and fact not in facts:
                    found.note(fact, distance)
            if not near.pictures:  # only the edits of this very picture
                facts = [fact for fact in facts if not fact.kind.picture or same[i]]
            keys += bool(facts) and not complete
            for fact in facts:
                found.take(fact, distance, match if fact.kind.picture else None, same[i], new=not complete)
        counted = keys if config.k_counts == "keys" else len(found.hits)
        found.keep(k if config.k_counts == "facts" else None)
        return found, counted >= k

    def _said(self, number: int, group: IndexedKeys) -> list[Fact]:
        """What is said under a key, of the kinds of a group: facts of several kinds may stand under one key."""
        return [fact for fact in self.memory.said(number) if fact.kind in group.kinds]

    def _matches(self, kind: KeyKind, match: float | None) -> bool:
        """Whether the picture of a key matches well enough for a fact of some kind; some facts need none."""
        return match is None or not kind.picture or match >= self._least_match(kind)

    def _least_match(self, kind: KeyKind) -> float:
        """The visual match that a key needs to count; one that the VLM can verify may fall short by the margin."""
        least = self.config.visual_match
        if least is None:  # there is a rate alone, and no statistics that make a bound of it
            return -math.inf
        return least - (self.config.visual_margin or 0.0) if kind.verifiable else least


def _first(distances: Tensor) -> float:
    """The nearest of rising distances; infinite where an approximate search found none."""
    return float(distances[0]) if len(distances) else math.inf
