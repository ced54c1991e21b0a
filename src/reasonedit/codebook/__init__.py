"""The memory of edits."""

from reasonedit.images.augment import augment

from .disk.errors import DamagedError, check_place
from .disk.store import Store
from .drafts import Draft, Entry, Fact
from .fact_graph import FactGraph
from .fingerprint import KEYS_MADE, check_fingerprint
from .memory import EditMemory
from .radius import merges, overlap
from .stored_edit import StoredEdit, as_edit, row_of
from .use import Use, summarise_use

__all__ = [
    "KEYS_MADE",
    "DamagedError",
    "Draft",
    "EditMemory",
    "Entry",
    "Fact",
    "FactGraph",
    "Store",
    "StoredEdit",
    "Use",
    "as_edit",
    "augment",
    "check_fingerprint",
    "check_place",
    "merges",
    "overlap",
    "row_of",
    "summarise_use",
]
