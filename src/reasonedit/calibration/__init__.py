"""Calibration: what unlabelled pictures like the user's say of one VLM."""

from .applied import calibrated
from .ranges import PictureRange
from .thresholds import match_threshold, range_threshold

__all__ = ["PictureRange", "calibrated", "match_threshold", "range_threshold"]
