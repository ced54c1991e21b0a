"""Erasing edits for good: out of the codebook, and out of what was written beside it."""

from .erasing import NOT_LOOKED_FOR, Erasure, erasable_ids, erase, erase_from, plan_erasure

__all__ = ["NOT_LOOKED_FOR", "Erasure", "erasable_ids", "erase", "erase_from", "plan_erasure"]
