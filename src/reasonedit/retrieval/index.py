"""The search for the nearest keys, exactly."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from reasonedit.codebook.key_table import KeyTable
from reasonedit.errors import UnavailableError

_MARGIN = 16
"""Keys that are read beyond those that are asked for, where these may be as near as others."""
_ROUNDING = 2e-6
"""How much FAISS may be wrong in a squared distance, as a share of what it is computed from."""


class KeyIndex(Protocol):
    """Finds the nearest of a changing set of keys, each known by its number."""

    @property
    def numbers(self) -> np.ndarray[Any, Any]:
        """The numbers of the keys, (N,)."""
        ...

    def add(self, keys: Tensor, numbers: np.ndarray[Any, Any]) -> None:
        """Add keys (n, D) with their numbers (n,)."""
        ...

    def change(self, table: KeyTable, numbers: np.ndarray[Any, Any]) -> None:
        """Hold these keys of a table from now on and no others; their numbers rise."""
        ...

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``min(k, N)`` nearest keys of each query: distances (B, k), rising, and numbers (B, k)."""
        ...


def faiss() -> Any:
    """The FAISS module.

    Raises:
        UnavailableError: It is not installed.
    """
    try:
        import faiss as module
    except ImportError as error:
        raise UnavailableError(
            "The search for nearest keys needs FAISS: pip install 'reasonedit[cpu]' or '[gpu]'."
        ) from error
    return module


class ExactIndex:
    """Exact Euclidean search (FAISS, flat)."""

    def __init__(self) -> None:
        self._index: Any = None
        self._keys: Any = None
        self._numbers = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def numbers(self) -> np.ndarray[Any, Any]:
        """The numbers of the keys, (N,)."""
        return self._numbers

    def add(self, keys: Tensor, numbers: np.ndarray[Any, Any] | None = None) -> None:
        """Add keys (n, D); they are numbered in the order in which they come, unless numbers (n,) are given."""
        if self._index is None:
            self._index = faiss().IndexFlatL2(keys.shape[1])
        if numbers is None:
            numbers = np.arange(len(self), len(self) + len(keys))
        self._index.add(np.ascontiguousarray(keys.numpy()))
        self._numbers = np.concatenate([self._numbers, numbers])
        self._view_keys()

    def change(self, table: KeyTable, numbers: np.ndarray[Any, Any]) -> None:
        """Begin anew with these keys of a table: of keys at the same distance the earlier one comes first."""
        self._index, self._numbers = None, np.empty(0, np.int64)
        if len(numbers):
            self.add(table[torch.from_numpy(numbers)], numbers)

    def _view_keys(self) -> None:
        """Look at the keys inside the index, so that they are in memory once."""
        flat = faiss().rev_swig_ptr(self._index.get_xb(), self._index.ntotal * self._index.d)
        self._keys = flat.reshape(self._index.ntotal, self._index.d)

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``min(k, N)`` nearest keys of each query.

        Args:
            queries: (B, D) float32.
            k: How many.

        Returns:
            Distances (B, k), rising, and the numbers of the keys (B, k); of keys at the same distance the earlier one
            comes first. Distances are computed from differences, so that a key finds itself at exactly 0.
        """
        k = min(k, len(self))
        if k == 0:
            return torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
        # FAISS uses a plain loop below this product of batch and width: that is slower from some ten queries on.
        faiss().cvar.distance_compute_blas_threshold = 8 * queries.shape[1]
        # NumPy, because its calls cost less than torch's where there is so little to compute.
        rows_of_queries = np.ascontiguousarray(queries.numpy())
        squared, rows = self._index.search(rows_of_queries, min(k + 1, len(self)))
        if rows.shape[1] > k:
            # FAISS rounds otherwise where a key stands elsewhere: it may leave out the first of equal ones.
            gap, scale = squared[:, k] - squared[:, k - 1], np.einsum("bd,bd->b", rows_of_queries, rows_of_queries)
            if (gap <= _ROUNDING * (scale + squared[:, k])).any():
                rows = self._index.search(rows_of_queries, min(k + _MARGIN, len(self)))[1]
            else:
                rows = rows[:, :k]
        gaps = self._keys[rows]
        gaps -= rows_of_queries[:, None]
        distances = np.sqrt(np.einsum("bkd,bkd->bk", gaps, gaps))
        numbers = self._numbers[rows]
        order = np.lexsort((numbers, distances))[:, :k]
        each = np.arange(len(rows))[:, None]
        return torch.from_numpy(distances[each, order]), torch.from_numpy(numbers[each, order])
