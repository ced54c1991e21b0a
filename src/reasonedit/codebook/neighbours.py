"""Search for keys within a small distance: exact, without reading all of every key."""

from __future__ import annotations

import torch
from torch import Tensor

from .key_table import KeyTable

_PROJECTED = 16
_AT_ONCE = 65536


class NeighbourSearch:
    """Finds all keys within a distance.

    A projection onto orthonormal directions makes no distance larger. So keys that are too far apart in 16 random
    directions are too far apart. The caller compares the others in full.
    """

    def __init__(self) -> None:
        self._basis = torch.empty(0, 0)
        self._projected = torch.empty(0, 0)
        self._count = 0

    @torch.inference_mode(False)  # the buffer is changed later, also outside of that mode
    def update(self, keys: Tensor | KeyTable) -> None:
        """Add the rows of ``keys`` (N, D) that came since the last call; earlier rows must not have changed."""
        if self._count == len(keys):
            return
        if self._count == 0:
            generator = torch.Generator().manual_seed(0)
            wide = torch.randn(keys.shape[1], min(_PROJECTED, keys.shape[1]), generator=generator)
            self._basis = torch.linalg.qr(wide).Q  # (D, 16)
        if len(keys) > len(self._projected):
            grown = torch.empty(max(64, 2 * len(keys)), self._basis.shape[1])
            if self._count:
                grown[: self._count] = self._projected[: self._count]
            self._projected = grown
        for start in range(self._count, len(keys), _AT_ONCE):
            stop = min(start + _AT_ONCE, len(keys))
            self._projected[start:stop] = keys[start:stop] @ self._basis
        self._count = len(keys)

    def within(self, key: Tensor, distance: float) -> Tensor:
        """Rows that may lie within ``distance`` of ``key``; none that does is left out."""
        gaps = (self._projected[: self._count] - key @ self._basis).square().sum(1)
        # Rounding, which grows with the key's length, must not lose a key on the border.
        slack = 1e-6 + 1e-5 * float(key.norm())
        return (gaps <= (distance * (1 + 1e-4) + slack) ** 2).nonzero()[:, 0]
