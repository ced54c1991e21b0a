"""Visual evidence: the image regions that the sentences of a reasoning speak of."""

from .find import GUESSED, Evidence, EvidenceConfig, EvidenceFinder, Shortlist, WindowScore, choose, question_of
from .windows import area, crop, shrunk, windows_of

__all__ = [
    "GUESSED",
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
