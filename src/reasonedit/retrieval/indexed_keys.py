"""The keys of some kinds with an index of their own, kept up with the codebook."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from reasonedit.codebook import EditMemory
from reasonedit.kinds import KeyKind

from .approximate import EXACT_UP_TO, ApproximateIndex
from .index import ExactIndex, KeyIndex


class IndexedKeys:
    """The keys of some kinds, with an index of their own: exact for few, approximate for very many.

    Args:
        kinds: The kinds of keys that are searched together.
    """

    def __init__(self, kinds: tuple[KeyKind, ...]) -> None:
        self.kinds = kinds
        self.index: KeyIndex = ExactIndex()
        self._kind_numbers = [kind.number for kind in kinds]
        self._last, self._removals = -1, 0

    def update(self, memory: EditMemory) -> None:
        """Take in the keys that came, and drop those that went, since the last call."""
        numbers = memory.numbers.numpy()
        if isinstance(self.index, ExactIndex) and len(numbers) > EXACT_UP_TO:
            of_kinds = self._select(memory, numbers)
            if len(of_kinds) > EXACT_UP_TO:
                self.index = ApproximateIndex(memory.table)
                self.index.change(memory.table, of_kinds)
                self._removals, self._last = memory.removals, int(numbers[-1])
        if memory.removals != self._removals:
            self._removals = memory.removals
            self.index.change(memory.table, self._select(memory, numbers))
        else:
            new = self._select(memory, numbers[np.searchsorted(numbers, self._last, side="right") :])
            if len(new):
                self.index.add(memory.table[torch.from_numpy(new)], new)
        self._last = int(numbers[-1]) if len(numbers) else -1

    def _select(self, memory: EditMemory, numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The numbers of keys of these kinds."""
        return numbers[np.isin(memory.kinds[numbers], self._kind_numbers)]
