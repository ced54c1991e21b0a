"""Calibration: what unlabelled pictures like the user's say of one VLM."""

from .applied import calibrated, cautious
from .calibration import Calibration
from .measure import calibrate
from .pictures import CalibrationPictures
from .ranges import PictureRange
from .record import CalibrationRecord
from .thresholds import match_threshold, range_threshold

__all__ = [
    "Calibration",
    "CalibrationPictures",
    "CalibrationRecord",
    "PictureRange",
    "calibrate",
    "calibrated",
    "cautious",
    "match_threshold",
    "range_threshold",
]
