"""The metrics of model editing, as torchmetrics classes over one base."""

from reasonedit.matching import COMPARISON, accuracy, contains, exact_match, matches, most_common_answer
from reasonedit.wording import normalise

from .edit_accuracy import (
    METRICS,
    CoEGenerality,
    CompositionalGenerality,
    EditAccuracy,
    HardLocality,
    ImageGenerality,
    Locality,
    Portability,
    RationaleGenerality,
    Reliability,
    TextGenerality,
    TextLocality,
    WordLocality,
    editing_metrics,
)
from .token_accuracy import TokenAccuracy, token_metrics
from .verdict_share import VerdictShare, verdict_shares

__all__ = [
    "COMPARISON",
    "METRICS",
    "CoEGenerality",
    "CompositionalGenerality",
    "EditAccuracy",
    "HardLocality",
    "ImageGenerality",
    "Locality",
    "Portability",
    "RationaleGenerality",
    "Reliability",
    "TextGenerality",
    "TextLocality",
    "TokenAccuracy",
    "VerdictShare",
    "WordLocality",
    "accuracy",
    "contains",
    "editing_metrics",
    "exact_match",
    "matches",
    "most_common_answer",
    "normalise",
    "token_metrics",
    "verdict_shares",
]
