"""The memory of edits."""

from .memory import EditMemory, Entry, Fact, StoredEdit
from .radius import augmented, merges, overlap

__all__ = ["EditMemory", "Entry", "Fact", "StoredEdit", "augmented", "merges", "overlap"]
