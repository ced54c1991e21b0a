"""Hubness: keys that are near to everything count as farther (section 5 of the method)."""

from __future__ import annotations

import torch
from torch import Tensor

from reasonedit.codebook.key_table import KeyView

NEIGHBOURS = 30
"""Other keys that sigma looks at."""

_ROWS = 4096
"""Keys that are compared at once."""


class HubScale:
    """Sigma of each key: the median distance to its 30 nearest other keys, kept up to date as keys come.

    A new key is compared with all keys once. Sigma changes only for keys that it is nearer to than their 30th
    neighbour.
    """

    def __init__(self) -> None:
        self._nearest = torch.empty(0, NEIGHBOURS)
        self._seen = 0

    @torch.inference_mode(False)  # the tensor is changed in place later, in that mode or not
    def update(self, keys: Tensor | KeyView) -> None:
        """Take in the rows of ``keys`` (N, D) that came since the last call; earlier rows must not have changed."""
        total = len(keys)
        if total == self._seen:
            return
        if total > len(self._nearest):
            grown = torch.full((max(64, 2 * total), NEIGHBOURS), torch.inf)
            grown[: self._seen] = self._nearest[: self._seen]
            self._nearest = grown
        new = keys[self._seen :]
        for start in range(0, total, _ROWS):
            part = slice(start, min(start + _ROWS, total))
            distances = torch.cdist(keys[part], new, compute_mode="donot_use_mm_for_euclid_dist")  # (part, new)
            index = torch.arange(part.start, part.stop)
            own = index[:, None] == torch.arange(self._seen, total)[None]
            distances.masked_fill_(own, torch.inf)
            changed = (distances.amin(1) < self._nearest[part, -1]).nonzero()[:, 0]
            if len(changed):
                both = torch.cat([self._nearest[index[changed]], distances[changed]], dim=1)
                self._nearest[index[changed]] = both.topk(NEIGHBOURS, largest=False).values
        # New keys were compared with new ones only so far; now with the earlier ones.
        if self._seen:
            for start in range(self._seen, total, _ROWS):
                part = slice(start, min(start + _ROWS, total))
                distances = torch.cdist(keys[part], keys[: self._seen], compute_mode="donot_use_mm_for_euclid_dist")
                both = torch.cat([self._nearest[part], distances], dim=1)
                self._nearest[part] = both.topk(NEIGHBOURS, largest=False).values
        self._seen = total

    @property
    def sigma(self) -> Tensor:
        """(N,) float32; 1 for a key that is alone, and never 0."""
        nearest = self._nearest[: self._seen]
        known = nearest.isfinite()
        median = nearest.masked_fill(~known, torch.nan).nanquantile(0.5, dim=1)
        return median.nan_to_num(1.0).clamp(min=1e-6)
