"""From what unrelated pictures score, and a stated rate of false alarms, to thresholds (ours)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def match_threshold(scores: Tensor, rate: float) -> float:
    """The visual match that two pictures reach at a stated rate.

    The pictures are drawn without looking, and a user's pictures repeat things. So the rate is of all pairs, related
    ones included. A Gaussian fitted to the lower half, which should hold unrelated pairs alone, was tried and dropped:
    scores of crops have a heavy lower tail, so that its bound at 1 % was 4.4 where the pairs' own was 3.2.

    Args:
        scores: Of pairs of pictures that were drawn without looking, rising.
        rate: Rate of false alarms, per pair of a key and a picture.
    """
    return quantile(scores, 1 - rate)


def range_threshold(scores: Tensor, rate: float) -> float:
    """How far a picture may lie from the reference pictures and still be like them.

    Few pictures show little of the tail, and what is new lies farther from few than they do from each other. So the
    quantile is multiplied by ``1 + 2 / sqrt(number of pictures)``: of held-out pictures of the embedded world 0 to 2 %
    then lie beyond it, after 24 pictures as after 150; with one factor for all it were up to 9.5 %.

    Args:
        scores: How far each of the reference pictures lies from the others.
        rate: The share of pictures like these that may count as unlike.
    """
    return (1 + 2 / math.sqrt(len(scores))) * quantile(scores, 1 - rate)


def quantile(values: Tensor, share: float) -> float:
    """The value below which a share of some values lies, interpolated."""
    return float(torch.quantile(values.double(), share))
