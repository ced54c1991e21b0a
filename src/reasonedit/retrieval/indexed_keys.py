"""The keys of some kinds with an index of their own, kept up with the codebook."""

from __future__ import annotations

import numpy as np
import torch

from reasonedit.codebook import EditMemory
from reasonedit.kinds import KeyKind

from .approximate import EXACT_UP_TO, ApproximateIndex
from .index import ExactIndex, KeyIndex
from .overlaid import OverlaidIndex


class IndexedKeys:
    """The keys of some kinds, with an index of their own: exact for few, approximate for very many.

    Args:
        kinds: The kinds of keys that are searched together.
    """

    def __init__(self, kinds: tuple[KeyKind, ...]) -> None:
        self.kinds = kinds
        self.index: KeyIndex = ExactIndex()
        self._mask = np.uint8(sum(1 << kind.number for kind in kinds))
        self._taken, self._removals = 0, 0

    def fork(self) -> IndexedKeys:
        """The same keys for a fork of the codebook; their index is shared, and must not change meanwhile."""
        fork = IndexedKeys(self.kinds)
        fork.index, fork._taken, fork._removals = OverlaidIndex(self.index), self._taken, self._removals
        return fork

    def update(self, memory: EditMemory) -> None:
        """Take in the keys that came, and drop those that went, since the last call.

        A key that is there already comes when a fact of these kinds merges into it.
        """
        if memory.removals == self._removals and len(memory.table) == self._taken:
            return
        numbers = memory.numbers.numpy()
        of_kinds = numbers[(memory.kinds_held[numbers] & self._mask) != 0]
        new = of_kinds[np.searchsorted(of_kinds, self._taken) :]
        exact, approximate = (isinstance(self.index, kind) for kind in (ExactIndex, ApproximateIndex))
        if (exact and len(of_kinds) > EXACT_UP_TO) or (approximate and len(of_kinds) <= EXACT_UP_TO):
            self.index = ApproximateIndex(memory.table) if exact else ExactIndex()
            self.index.change(memory.table, of_kinds)
        elif memory.removals != self._removals or len(self.index.numbers) + len(new) != len(of_kinds):
            self.index.change(memory.table, of_kinds)
        elif len(new):
            self.index.add(memory.table[torch.from_numpy(new)], new)
        self._taken, self._removals = len(memory.table), memory.removals
