"""Exact nearest keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from reasonedit.errors import ReasonEditError


class ExactIndex:
    """Exact Euclidean search over a growing set of keys (FAISS, flat)."""

    def __init__(self) -> None:
        self._index: Any = None
        self._keys: Any = None

    def __len__(self) -> int:
        return 0 if self._index is None else int(self._index.ntotal)

    def add(self, keys: Tensor) -> None:
        """Add keys (N, D); they are numbered in the order in which they come."""
        try:
            import faiss
        except ImportError as error:
            raise ReasonEditError(
                "The search for nearest keys takes FAISS: pip install 'reasonedit[cpu]' or '[gpu]'."
            ) from error

        if self._index is None:
            self._index = faiss.IndexFlatL2(keys.shape[1])
        self._index.add(np.ascontiguousarray(keys.numpy()))
        # A view of what the index holds: nothing is kept twice.
        flat = faiss.rev_swig_ptr(self._index.get_xb(), self._index.ntotal * self._index.d)
        self._keys = torch.from_numpy(flat).view(self._index.ntotal, self._index.d)

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``min(k, N)`` nearest keys of each query.

        Args:
            queries: (B, D) float32.
            k: How many.

        Returns:
            Distances (B, k), rising, and the numbers of the keys (B, k). Distances are computed from differences, so
            that a key finds itself at exactly 0.
        """
        k = min(k, len(self))
        if k == 0:
            return torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
        import faiss

        # Below this product of batch and width FAISS would use a plain loop, slower from some ten queries on.
        faiss.cvar.distance_compute_blas_threshold = 8 * queries.shape[1]
        _, found = self._index.search(np.ascontiguousarray(queries.numpy()), k)
        rows = torch.from_numpy(found)
        distances = (self._keys[rows] - queries[:, None]).norm(dim=-1)  # (B, k)
        order = distances.argsort(dim=1, stable=True)
        return distances.gather(1, order), rows.gather(1, order)
