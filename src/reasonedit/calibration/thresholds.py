"""From what unrelated pictures score, and a stated rate of false alarms, to thresholds (ours)."""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

LOWER_QUANTILE = 0.1
"""The null's standard deviation follows from this quantile and the median."""
MARGIN = 1.1
"""What the largest distance of pictures like the reference's is multiplied by: few pictures show little of the tail."""


def match_threshold(scores: Tensor, rate: float) -> float:
    """The visual match that unrelated pictures reach at a stated rate.

    A user's pictures repeat things, so some of the pairs that count as unrelated are related. They are the highest
    scores. So the null is a Gaussian that is fitted to the lower half alone: by the median, and the distance of a lower
    quantile from it. Its upper tail at the rate is the threshold.

    Args:
        scores: Of pairs of pictures that were drawn without looking, rising.
        rate: Rate of false alarms, per pair of a key and a picture.
    """
    return gaussian_threshold(scores, rate)


def gaussian_threshold(scores: Tensor, rate: float) -> float:
    """The tail, at a rate, of a Gaussian that is fitted to the lower half of scores; arguments as above."""
    middle, low = (quantile(scores, q) for q in (0.5, LOWER_QUANTILE))
    deviation = (middle - low) / -NormalDist().inv_cdf(LOWER_QUANTILE)
    return middle + deviation * NormalDist().inv_cdf(1 - rate)


def quantile_threshold(scores: Tensor, rate: float) -> float:
    """The score that the stated share of the pairs themselves reaches; arguments as above."""
    return quantile(scores, 1 - rate)


def range_threshold(scores: Tensor, rate: float) -> float:
    """How far a picture may lie from the reference pictures and still be like them.

    Args:
        scores: How far each of the reference pictures lies from the others.
        rate: The share of pictures like these that may count as unlike.
    """
    return MARGIN * quantile(scores, 1 - rate)


def quantile(values: Tensor, share: float) -> float:
    """The value below which a share of some values lies, interpolated."""
    return float(torch.quantile(values.double(), share))
