"""The metrics of the field, as torchmetrics classes over one base."""

from .accuracy import (
    METRICS,
    CoEGenerality,
    EditAccuracy,
    HardLocality,
    ImageGenerality,
    Locality,
    RationaleGenerality,
    Reliability,
    TextGenerality,
    editing_metrics,
)
from .functional import matches, normalise

__all__ = [
    "METRICS",
    "CoEGenerality",
    "EditAccuracy",
    "HardLocality",
    "ImageGenerality",
    "Locality",
    "RationaleGenerality",
    "Reliability",
    "TextGenerality",
    "editing_metrics",
    "matches",
    "normalise",
]
