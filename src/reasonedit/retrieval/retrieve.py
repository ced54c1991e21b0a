"""Nearest facts behind the gate, and their way into a prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from reasonedit.codebook import EditMemory
from reasonedit.edits import Hit
from reasonedit.errors import ReasonEditError

from .gate import PercentileGate
from .index import ExactIndex

DEFAULT_K = 5
DEFAULT_PERCENTILE = 10.0
"""The lower end of the range in which the paper finds p robust."""


@dataclass(frozen=True)
class Retrieval:
    """What was found for one query.

    Attributes:
        hits: Distinct facts, nearest first; empty when the gate is closed.
        nearest: Distance of the nearest key (infinite where there is none).
        threshold: Largest distance at which the gate is open.
    """

    hits: list[Hit]
    nearest: float
    threshold: float

    @property
    def facts(self) -> list[str]:
        """The sentences alone."""
        return [hit.fact for hit in self.hits]


class FactRetriever:
    """Fetches the facts of the K nearest keys from a memory that may grow between calls.

    Args:
        memory: Where the facts are.
        k: K, the number of nearest keys.
        percentile: p of the rejection gate.

    Raises:
        ReasonEditError: An argument is out of range.
    """

    def __init__(self, memory: EditMemory, k: int = DEFAULT_K, percentile: float = DEFAULT_PERCENTILE) -> None:
        if k < 1:
            raise ReasonEditError(f"k must be 1 or more, not {k}.")
        self.memory = memory
        self.k = k
        self.gate = PercentileGate(percentile)
        self.index = ExactIndex()

    def retrieve(self, queries: Tensor) -> list[Retrieval]:
        """Fetch facts for each row of ``queries`` (B, D)."""
        keys = self.memory.keys
        if len(keys) == 0:
            return [Retrieval([], math.inf, 0.0) for _ in queries]
        self.index.update(keys)
        self.gate.update(keys)
        threshold = self.gate.threshold(len(self.memory.edits))
        distances, rows = self.index.search(queries, self.k)
        found = []
        for near, entries in zip(distances.tolist(), rows.tolist(), strict=True):
            hits: dict[str, Hit] = {}
            if near[0] <= threshold:
                for distance, row in zip(near, entries, strict=True):
                    for fact in self.memory.entries[row]:
                        hits.setdefault(fact.text, Hit(fact.text, distance, fact.entry, fact.edit_id))
            found.append(Retrieval(list(hits.values()), near[0], threshold))
        return found


def with_facts(facts: Sequence[str], question: str) -> str:
    """The facts, nearest first, before the question, joined by spaces (section 5 of the method).

    >>> with_facts(["A kettle is used for sailing."], "What is the red object used for?")
    'A kettle is used for sailing. What is the red object used for?'
    """
    return " ".join([*facts, question])
