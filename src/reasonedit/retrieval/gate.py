"""The rejection gate: no facts for a query that is far from all keys (section 5 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reasonedit.codebook.key_table import KeyView
from reasonedit.errors import InputError

SAMPLE = 2**17
"""Pairs of keys that the percentile is taken from: all of them up to 512 keys, from there on a uniform sample.

The share of all pairs below the threshold then differs from p by less than 0.6 percentage points, except in one case of
10,000 (the bound of Dvoretzky, Kiefer, Wolfowitz and Massart: 2 exp(-2 n e^2) with n = 2**17 and e = 0.006).
"""

_GROWTH = 1.125
_AT_ONCE = 8192


class PercentileGate:
    """Opens for queries nearer to a key than a percentile of the distances between keys.

    With few edits the percentile means little: it is raised to 100 / (number of edits) where that is larger, and the
    gate is open while there is a single edit. Pairs are sampled as keys come (reservoir sampling), with a fixed seed,
    so the more keys there are, the less work is each new one. The sample is drawn anew whenever the keys have grown by
    an eighth: of many keys that come at once only the last need be gone through. It depends on the keys and their order
    alone.

    Args:
        percentile: p, above 0 and up to 100.
        sample: Number of pairs in the sample.

    Raises:
        InputError: ``percentile`` is out of range.
    """

    def __init__(self, percentile: float = 10.0, sample: int = SAMPLE) -> None:
        if not 0 < percentile <= 100:
            raise InputError(f"percentile must be above 0 and at most 100, not {percentile}.")
        self.percentile = percentile
        self._sample = sample
        self._seen = 0
        self._filled = 0
        self._distances = np.empty(0, np.float32)
        self._pairs = np.empty((0, 2), np.int64)
        self._thresholds: dict[int, float] = {}

    def update(self, keys: Tensor | KeyView) -> None:
        """Take in the rows of ``keys`` (N, D) that came since the last call."""
        total, start = len(keys), self._seen
        if total == start:
            return
        self._thresholds.clear()
        for row in range(max(start, self._last_draw(total)), total):
            if row and self._last_draw(row + 1) == row:
                self._draw(keys, row)
            self._take(keys, row)
        self._seen = total

    def _last_draw(self, total: int) -> int:
        """The largest number of rows below ``total`` at which the sample is drawn anew; 0 where all pairs are in it."""
        first = 2 * math.isqrt(self._sample)
        if total <= first:
            return 0
        steps = math.floor(math.log(total / first, _GROWTH)) + 1
        return next(rows for s in range(steps, -1, -1) if (rows := int(first * _GROWTH**s)) < total)

    def _draw(self, keys: Tensor | KeyView, rows: int) -> None:
        """Draw the sample anew from the pairs of the first rows, each as likely as any other."""
        rng = np.random.default_rng((rows, self._sample, 1))
        first = rng.integers(0, rows, self._sample)
        second = rng.integers(0, rows - 1, self._sample)
        second += second >= first
        self._pairs = np.stack([first, second], axis=1)
        self._distances = np.empty(self._sample, np.float32)
        self._filled = self._sample
        for start in range(0, self._sample, _AT_ONCE):
            part = torch.from_numpy(self._pairs[start : start + _AT_ONCE])
            gaps = keys[part[:, 0]] - keys[part[:, 1]]
            self._distances[start : start + _AT_ONCE] = gaps.norm(dim=1).numpy()

    def _take(self, keys: Tensor | KeyView, row: int) -> None:
        """Add the pairs of one key with all earlier ones: all while there is room, then each with its chance."""
        if self._filled + row > len(self._distances):
            size = min(self._sample, max(1024, 2 * (self._filled + row)))
            self._distances = np.resize(self._distances, size)
            self._pairs = np.resize(self._pairs, (size, 2))
        room = min(row, self._sample - self._filled)
        slots, others = np.arange(self._filled, self._filled + room), np.arange(room)
        self._filled += room
        if room < row:
            # Pair number t enters the sample with probability sample / t; among the pairs of one key t hardly changes.
            rng = np.random.default_rng((row, self._sample))
            number = (row * row + room) / 2
            drawn = rng.integers(room, row, rng.binomial(row - room, min(1.0, self._sample / number)))
            slots = np.concatenate([slots, rng.integers(0, self._sample, len(drawn))])
            others = np.concatenate([others, drawn])
        if len(slots):
            distances = (keys[torch.from_numpy(others)] - keys[row]).norm(dim=1).numpy()
            self._distances[slots] = distances  # where two pairs get one slot the later stays, here and below
            self._pairs[slots] = np.stack([np.full(len(others), row), others], axis=1)

    def threshold(self, edits: int, sigma: Tensor | None = None) -> float:
        """The largest distance to the nearest key at which the gate is open.

        Args:
            edits: Number of edits the keys come from.
            sigma: What distances to each key are divided by, (N,), where they are corrected for hubs.

        Returns:
            A distance; infinite for a single edit or a single key, 0 for none.
        """
        if edits == 0:
            return 0.0
        if edits == 1 or self._filled == 0:
            return math.inf
        p = max(self.percentile, 100 / edits)
        distances = self._distances[: self._filled]
        if sigma is not None:
            divisors = sigma.numpy()[self._pairs[: self._filled]]
            return percentile_of(np.concatenate([distances / divisors[:, 0], distances / divisors[:, 1]]), p)
        if edits not in self._thresholds:
            self._thresholds[edits] = percentile_of(distances, p)
        return self._thresholds[edits]


def percentile_of(values: np.ndarray[Any, Any], p: float) -> float:
    """A percentile, between two values in proportion: as ``numpy.percentile``, which takes ten times as long.

    Args:
        values: At least one, in any order.
        p: From 0 to 100.
    """
    place = p / 100 * (len(values) - 1)
    below = math.floor(place)
    parted = np.partition(values, below)
    low = float(parted[below])
    if below + 1 == len(values):
        return low
    return low + (float(parted[below + 1 :].min()) - low) * (place - below)
