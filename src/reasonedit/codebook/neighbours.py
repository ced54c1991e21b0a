"""Search for keys within a small distance: exact, without reading all of every key."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .key_table import KeyTable

_PROJECTED = 16
_AT_ONCE = 65536
_NUMBERS_AT_ONCE = 1 << 22
_ROUNDING = 1e-5
"""Share of squared lengths by which their difference may be wrong."""


class NeighbourSearch:
    """Finds all keys within a distance.

    A projection onto orthonormal directions makes no distance larger. So keys that are too far apart in 16 random
    directions are too far apart. The caller compares the others in full.
    """

    def __init__(self) -> None:
        self._basis = self._origin = torch.empty(0, 0)
        self._projected = torch.empty(0, 0)
        self._norms = torch.empty(0)
        self._count = 0

    def fork(self) -> NeighbourSearch:
        """A search that begins with the same rows, which are shared: to add one, it copies what is projected."""
        fork = NeighbourSearch()
        fork._basis, fork._origin, fork._count = self._basis, self._origin, self._count
        fork._projected, fork._norms = self._projected[: self._count], self._norms[: self._count]
        return fork

    @torch.inference_mode(False)  # the buffer is changed later, also outside of that mode
    def update(self, keys: Tensor | KeyTable) -> None:
        """Add the rows of ``keys`` (N, D) that came since the last call; earlier rows must not have changed."""
        if self._count == len(keys):
            return
        if self._count == 0:
            generator = torch.Generator().manual_seed(0)
            wide = torch.randn(keys.shape[1], min(_PROJECTED, keys.shape[1]), generator=generator)
            self._basis = torch.linalg.qr(wide).Q  # (D, 16)
            self._origin = keys[:1] @ self._basis  # about which less is lost to rounding
        if len(keys) > len(self._projected):
            grown = torch.empty(max(64, 2 * len(keys)), self._basis.shape[1])
            if self._count:
                grown[: self._count] = self._projected[: self._count]
            self._projected = grown
            self._norms = torch.cat([self._norms[: self._count], torch.empty(len(grown) - self._count)])
        for start in range(self._count, len(keys), _AT_ONCE):
            stop = min(start + _AT_ONCE, len(keys))
            self._projected[start:stop] = keys[start:stop] @ self._basis - self._origin
            self._norms[start:stop] = (1 - _ROUNDING) * self._projected[start:stop].square().sum(1)
        self._count = len(keys)

    def within(self, key: Tensor, distance: float) -> Tensor:
        """Rows that may lie within ``distance`` of ``key``; none that does is left out."""
        return self.within_each(key[None], [distance])[0]

    def within_each(self, keys: Tensor, distances: Sequence[float]) -> list[Tensor]:
        """For each of some keys (n, D) what :meth:`within` gives: the rows are gone through once for many keys."""
        projected, norms = self._projected[: self._count], self._norms[: self._count]
        found: list[Tensor] = []
        most = max(1, _NUMBERS_AT_ONCE // max(1, self._count))
        for start in range(0, len(keys), most):
            part = keys[start : start + most]
            own = part @ self._basis - self._origin
            lengths = own.square().sum(1)
            # Rounding, which grows with the lengths, must not lose a key on the border.
            slack = 1e-6 + 1e-5 * part.norm(dim=1)
            reach = (torch.tensor(distances[start : start + most]) * (1 + 1e-4) + slack).square()
            bounds = reach - (1 - _ROUNDING) * lengths
            gaps = torch.addmm(norms, own, projected.T, alpha=-2)  # (n, N): squared distances less the keys' lengths
            found += [row.nonzero()[:, 0] for row in gaps <= bounds[:, None]]
        return found
