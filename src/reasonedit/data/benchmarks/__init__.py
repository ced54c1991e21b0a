"""Benchmarks of multimodal knowledge editing, as their authors publish them: JSON files with a folder of images."""

from .cckeb import CCKEB
from .mmedit import EIC, EVQA
from .mmke import MMKE
from .vlkeb import VLKEB

__all__ = ["CCKEB", "EIC", "EVQA", "MMKE", "VLKEB"]
