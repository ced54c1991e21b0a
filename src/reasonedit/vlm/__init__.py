"""Vision-language models behind one interface, on this machine (one file per family) or behind an endpoint."""

from __future__ import annotations

from .base import LocalVLM
from .devices import best_dtype
from .generation import Generation, generation_of
from .interface import VLM, Turn
from .load import load_vlm
from .reply import Reply
from .vision import IMAGE_FEATURES, Seen, Vision
from .wrap import as_vlm

__all__ = [
    "IMAGE_FEATURES",
    "VLM",
    "Generation",
    "LocalVLM",
    "Reply",
    "Seen",
    "Turn",
    "Vision",
    "as_vlm",
    "best_dtype",
    "generation_of",
    "load_vlm",
]
