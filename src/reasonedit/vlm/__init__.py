"""Vision-language models behind one interface; one file per family."""

from __future__ import annotations

from .base import VLM
from .devices import best_dtype
from .generation import Generation, generation_of
from .load import load_vlm
from .reply import Reply
from .texts import Turn
from .vision import IMAGE_FEATURES, Seen, Vision
from .wrap import as_vlm

__all__ = [
    "IMAGE_FEATURES",
    "VLM",
    "Generation",
    "Reply",
    "Seen",
    "Turn",
    "Vision",
    "as_vlm",
    "best_dtype",
    "generation_of",
    "load_vlm",
]
