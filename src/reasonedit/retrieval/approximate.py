"""Nearest keys among very many, nearly all of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reasonedit.codebook.key_table import KeyTable

from .index import faiss

EXACT_UP_TO = 32_768
"""Keys up to which the exact search is used: there a question with its ten regions takes some 10 ms on one core, little
beside the VLM's own time; from there on the cost of exactness grows with every key (``scripts/bench scale``)."""

_CELLS, _PROBED, _PER_CELL = 2.0, 16, 64
_AT_ONCE = 65_536


class ApproximateIndex:
    """Search in the cells nearest to the query (FAISS, inverted file), then exactly among what was found there.

    The index keeps a byte per number of a key; exact distances are computed from the keys themselves, which may lie in
    a file. What it finds it finds with exact distances; it may miss some. The cells are made anew whenever there are
    four times as many keys.

    Args:
        table: All keys that were ever written.
    """

    def __init__(self, table: KeyTable) -> None:
        self._table = table
        self._index: Any = None
        self._numbers = np.empty(0, np.int64)
        self._made_for = 0

    @property
    def numbers(self) -> np.ndarray[Any, Any]:
        """The numbers of the keys, (N,)."""
        return self._numbers

    def add(self, keys: Tensor, numbers: np.ndarray[Any, Any]) -> None:
        """Add keys (n, D) with their numbers (n,)."""
        self._numbers = np.concatenate([self._numbers, numbers])
        if len(self._numbers) > 4 * self._made_for:
            self._make()
        else:
            self._index.add_with_ids(np.ascontiguousarray(keys.numpy()), numbers)

    def change(self, table: KeyTable, numbers: np.ndarray[Any, Any]) -> None:
        """Have these keys of a table from now on, by their rising numbers, and no others."""
        self._table = table
        gone, new = np.setdiff1d(self._numbers, numbers), np.setdiff1d(numbers, self._numbers)
        if len(gone):
            self._index.remove_ids(gone)
        self._numbers = np.setdiff1d(self._numbers, gone)
        for start in range(0, len(new), _AT_ONCE):
            part = new[start : start + _AT_ONCE]
            self.add(table[torch.from_numpy(part)], part)

    def _make(self) -> None:
        module, count = faiss(), len(self._numbers)
        cells = max(1, round(_CELLS * math.sqrt(count)))
        width = self._table.width or 0
        sample = np.random.default_rng(0).permutation(self._numbers)[: _PER_CELL * cells]
        self._index = module.IndexIVFScalarQuantizer(
            module.IndexFlatL2(width), width, cells, module.ScalarQuantizer.QT_8bit, module.METRIC_L2
        )
        self._index.cp.niter, self._index.cp.min_points_per_centroid = 6, 1
        self._index.train(np.ascontiguousarray(self._table[torch.from_numpy(np.sort(sample))].numpy()))
        for start in range(0, count, _AT_ONCE):
            part = self._numbers[start : start + _AT_ONCE]
            self._index.add_with_ids(np.ascontiguousarray(self._table[torch.from_numpy(part)].numpy()), part)
        self._made_for = count

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Nearly the ``min(k, N)`` nearest keys of each query.

        Args:
            queries: (B, D) float32.
            k: How many.

        Returns:
            Exact distances (B, k), rising, and the numbers of the keys (B, k). Where fewer are found, the distance of
            those that are missing is infinite.
        """
        k = min(k, len(self._numbers))
        if k == 0:
            return torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
        wanted = min(len(self._numbers), k + max(16, k // 4))  # a byte per number is not quite exact
        in_cell = max(1.0, len(self._numbers) / self._index.nlist)
        self._index.nprobe = min(self._index.nlist, max(_PROBED, math.ceil(4 * wanted / in_cell)))
        _, found = self._index.search(np.ascontiguousarray(queries.numpy()), wanted)
        numbers = torch.from_numpy(found)
        keys = self._table[numbers.clamp(min=0).flatten()].view(*numbers.shape, -1)
        distances = (keys - queries[:, None]).norm(dim=-1).masked_fill(numbers < 0, torch.inf)
        order = distances.argsort(dim=1, stable=True)[:, :k]
        return distances.gather(1, order), numbers.clamp(min=0).gather(1, order)
