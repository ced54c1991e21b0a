"""The search for the nearest keys among very many, nearly exact."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reasonedit.codebook.key_table import KeyTable

from .index import faiss

EXACT_UP_TO = 32_768
"""Keys up to which the exact search is used. With so many a question with its ten regions takes some 10 ms on one core,
little beside the VLM's own time; the exact search takes longer with every further key (``scripts/bench scale``)."""

_CELLS, _PROBED, _PER_CELL = 2.0, 16, 64
"""Cells per square root of the number of keys; fewest cells that are searched; keys per cell to train them on."""

_AT_ONCE = 65_536


class ApproximateIndex:
    """Search in the cells nearest to the query (FAISS, inverted file), then exactly among what was found there.

    The index holds one byte per dimension of a key. Distances are computed from the keys themselves, which may lie in a
    file: so they are exact, but some of the nearest keys may be missed. The cells are made anew whenever there are four
    times as many keys.

    Args:
        table: All keys that were ever written.
    """

    def __init__(self, table: KeyTable) -> None:
        self._table = table
        self._index: Any = None
        self._numbers = np.empty(0, np.int64)
        self._built_for = 0

    @property
    def numbers(self) -> np.ndarray[Any, Any]:
        """The numbers of the keys, (N,)."""
        return self._numbers

    def add(self, keys: Tensor, numbers: np.ndarray[Any, Any]) -> None:
        """Add keys (n, D) with their numbers (n,)."""
        self._numbers = np.concatenate([self._numbers, numbers])
        if len(self._numbers) > 4 * self._built_for:
            self._build()
        else:
            self._index.add_with_ids(np.ascontiguousarray(keys.numpy()), numbers)

    def change(self, table: KeyTable, numbers: np.ndarray[Any, Any]) -> None:
        """Hold these keys of a table from now on and no others; their numbers rise."""
        self._table = table
        gone, new = np.setdiff1d(self._numbers, numbers), np.setdiff1d(numbers, self._numbers)
        if len(gone):
            self._index.remove_ids(gone)
        self._numbers = np.setdiff1d(self._numbers, gone)
        for start in range(0, len(new), _AT_ONCE):
            part = new[start : start + _AT_ONCE]
            self.add(table[torch.from_numpy(part)], part)

    def _build(self) -> None:
        """Make the cells and fill them with all keys."""
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
        self._built_for = count

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Nearly the ``min(k, N)`` nearest keys of each query.

        Args:
            queries: (B, D) float32.
            k: How many.

        Returns:
            Exact distances (B, k), rising, and the numbers of the keys (B, k). Where fewer keys are found, the others
            have an infinite distance.
        """
        k = min(k, len(self._numbers))
        if k == 0:
            return torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
        wanted = min(len(self._numbers), k + max(16, k // 4))  # the order by the bytes is not quite the exact one
        per_cell = max(1.0, len(self._numbers) / self._index.nlist)
        self._index.nprobe = min(self._index.nlist, max(_PROBED, math.ceil(4 * wanted / per_cell)))
        numbers = torch.from_numpy(self._index.search(np.ascontiguousarray(queries.numpy()), wanted)[1])
        keys = self._table[numbers.clamp(min=0).flatten()].view(*numbers.shape, -1)
        distances = (keys - queries[:, None]).norm(dim=-1).masked_fill(numbers < 0, torch.inf)
        order = distances.argsort(dim=1, stable=True)[:, :k]
        return distances.gather(1, order), numbers.clamp(min=0).gather(1, order)
