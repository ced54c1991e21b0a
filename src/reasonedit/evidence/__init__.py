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
    "shrunk",
    "windows_of",
]
