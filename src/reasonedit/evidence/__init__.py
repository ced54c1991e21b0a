"""Visual evidence: the image regions that the sentences of a reasoning speak of."""

from .choice import GUESSED, LIKELIEST, Evidence, WindowScore, choose_windows
from .config import EvidenceConfig
from .find import EvidenceFinder
from .shortlist import Shortlist
from .windows import area, crop, shrink, windows_of

__all__ = [
    "GUESSED",
    "LIKELIEST",
    "Evidence",
    "EvidenceConfig",
    "EvidenceFinder",
    "Shortlist",
    "WindowScore",
    "area",
    "choose_windows",
    "crop",
    "shrink",
    "windows_of",
]
