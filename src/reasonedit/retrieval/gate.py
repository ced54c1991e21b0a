"""The rejection gate: no facts for a query that is far from all keys (section 5 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from reasonedit.errors import ReasonEditError


class PercentileGate:
    """Opens for queries nearer to a key than a percentile of the distances between keys.

    With few edits the percentile means little: it is raised to 100 / (number of edits) where that is larger, and the
    gate is open while there is a single edit.

    Args:
        percentile: p, above 0 and up to 100.

    Raises:
        ReasonEditError: ``percentile`` is out of range.
    """

    def __init__(self, percentile: float = 10.0) -> None:
        if not 0 < percentile <= 100:
            raise ReasonEditError(f"percentile must be above 0 and at most 100, not {percentile}.")
        self.percentile = percentile
        self._seen = 0
        self._distances: list[np.ndarray[tuple[int], np.dtype[np.float32]]] = []
        self._thresholds: dict[int, float] = {}

    def update(self, keys: Tensor) -> None:
        """Take in the distances of the rows of ``keys`` (N, D) that came since the last call to all earlier ones."""
        if len(keys) > self._seen:
            new = torch.cdist(keys[self._seen :], keys, compute_mode="donot_use_mm_for_euclid_dist")
            for i, row in enumerate(new):
                self._distances.append(row[: self._seen + i].numpy())
            self._seen = len(keys)
            self._thresholds.clear()

    def threshold(self, edits: int) -> float:
        """The largest distance to the nearest key at which the gate is open.

        Args:
            edits: Number of edits the keys come from.

        Returns:
            A distance; infinite for a single edit or a single key, 0 for none.
        """
        if edits == 0:
            return 0.0
        if edits == 1 or self._seen < 2:
            return math.inf
        if edits not in self._thresholds:
            p = max(self.percentile, 100 / edits)
            self._thresholds[edits] = float(np.percentile(np.concatenate(self._distances), p))
        return self._thresholds[edits]
