"""Visual evidence: the image regions that the sentences of a reasoning speak of."""

from .find import (
    GUESSED,
    LIKELIEST,
    Evidence,
    EvidenceConfig,
    EvidenceFinder,
    Shortlist,
    WindowScore,
    choose,
    question_of,
)
from .windows import area, crop, shrunk, windows_of

__all__ = [
    "GUESSED",
    "LIKELIEST",
    "Evidence",
    "EvidenceConfig",
    "EvidenceFinder",
    "Shortlist",
    "WindowScore",
    "area",
    "choose",
    "crop",
    "question_of",
    "shrunk",
    "windows_of",
]
