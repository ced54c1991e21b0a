"""The search in an index that is not to be changed, with some keys more and some less."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from reasonedit.codebook.key_table import KeyTable

from .index import ExactIndex, KeyIndex


class OverlaidIndex:
    """An index over another one, which it searches and never changes; keys that are added are searched exactly.

    Args:
        base: The other index. It must not change while this one is used.
    """

    def __init__(self, base: KeyIndex) -> None:
        self._base = base
        self._added = ExactIndex()
        self._gone = np.empty(0, np.int64)
        self._numbers = base.numbers

    @property
    def numbers(self) -> np.ndarray[Any, Any]:
        """The numbers of the keys, (N,)."""
        return self._numbers

    def add(self, keys: Tensor, numbers: np.ndarray[Any, Any]) -> None:
        """Add keys (n, D) with their numbers (n,)."""
        self._added.add(keys, numbers)
        self._numbers = np.concatenate([self._numbers, numbers])

    def change(self, table: KeyTable, numbers: np.ndarray[Any, Any]) -> None:
        """Hold these keys of a table from now on and no others; their numbers rise."""
        self._gone = np.setdiff1d(self._base.numbers, numbers)
        self._added.change(table, np.setdiff1d(numbers, self._base.numbers))
        self._numbers = numbers

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``min(k, N)`` nearest keys of each query.

        Args:
            queries: (B, D) float32.
            k: How many.

        Returns:
            Distances (B, k), rising, and the numbers of the keys (B, k); of keys at the same distance the earlier one
            comes first.
        """
        k = min(k, len(self._numbers))
        found = self._base.search(queries, k + len(self._gone)), self._added.search(queries, k)
        distances, numbers = (torch.cat(parts, dim=1).numpy() for parts in zip(*found, strict=True))
        distances = np.where(np.isin(numbers, self._gone), np.inf, distances)
        order = np.lexsort((numbers, distances))[:, :k]
        each = np.arange(len(numbers))[:, None]
        return torch.from_numpy(distances[each, order]), torch.from_numpy(numbers[each, order])
