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
        self._keys = torch.empty(0, 0)

    def update(self, keys: Tensor) -> None:
        """Take in the rows of ``keys`` (N, D) that came since the last call; earlier rows must not have changed."""
        try:
            import faiss
        except ImportError as error:
            raise ReasonEditError(
                "The search for nearest keys takes FAISS: pip install 'reasonedit[cpu]' or '[gpu]'."
            ) from error

        if self._index is None:
            self._index = faiss.IndexFlatL2(keys.shape[1])
            # Below this product of batch and width FAISS would use a plain loop, slower from some ten queries on.
            faiss.cvar.distance_compute_blas_threshold = 8 * keys.shape[1]
        if len(keys) > len(self._keys):
            self._index.add(np.ascontiguousarray(keys[len(self._keys) :].numpy()))
        self._keys = keys

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``min(k, N)`` nearest keys of each query.

        Args:
            queries: (B, D) float32.
            k: How many.

        Returns:
            Distances (B, k), rising, and the rows of the keys (B, k). Distances are computed from differences, so that
            a key finds itself at exactly 0.
        """
        k = min(k, len(self._keys))
        if k == 0:
            return torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
        _, found = self._index.search(np.ascontiguousarray(queries.numpy()), k)
        rows = torch.from_numpy(found)
        distances = (self._keys[rows] - queries[:, None]).norm(dim=-1)  # (B, k)
        order = distances.argsort(dim=1, stable=True)
        return distances.gather(1, order), rows.gather(1, order)
