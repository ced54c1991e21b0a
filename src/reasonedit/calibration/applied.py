"""What a calibration, or the want of one, makes of the settings of retrieval (ours)."""

from __future__ import annotations

from dataclasses import replace

from reasonedit.embedding import Statistics
from reasonedit.retrieval import RetrievalConfig

from .thresholds import match_threshold


def calibrated(retrieval: RetrievalConfig, statistics: Statistics | None) -> RetrievalConfig:
    """The settings with the visual match at which their rate of false alarms is kept.

    Args:
        retrieval: The settings.
        statistics: What the pictures of the calibration have in common. Where they do not say how near these come to
            each other, the settings stay as they are.
    """
    unrelated = statistics.unrelated if statistics is not None else None
    if retrieval.false_alarms is None or unrelated is None:
        return retrieval
    return replace(retrieval, visual_match=match_threshold(unrelated.scores, retrieval.false_alarms))


def cautious(retrieval: RetrievalConfig) -> RetrievalConfig:
    """The settings for statistics of pictures that may be nothing like the user's.

    False alarms are allowed a 250th as often, a visual match has to be better by three standard deviations, the gate
    opens for a fifth of the share of distances, and each fact has to match by its own picture.
    """
    rate, match = retrieval.false_alarms, retrieval.visual_match
    return replace(
        retrieval,
        false_alarms=None if rate is None else rate / 250,
        visual_match=None if match is None else match + 3,
        percentile=retrieval.percentile / 5,
        naming=False,
    )
