"""What a calibration makes of the settings of retrieval (ours)."""

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
