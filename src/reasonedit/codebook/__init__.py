"""The memory of edits."""

from .disk.errors import DamagedError
from .disk.store import Store
from .fingerprint import KEYS_MADE, check_fingerprint
from .memory import EditMemory
from .radius import augment, merges, overlap
from .records import Draft, Entry, Fact, StoredEdit, as_edit, row_of

__all__ = [
    "KEYS_MADE",
    "DamagedError",
    "Draft",
    "EditMemory",
    "Entry",
    "Fact",
    "Store",
    "StoredEdit",
    "as_edit",
    "augment",
    "check_fingerprint",
    "merges",
    "overlap",
    "row_of",
]
