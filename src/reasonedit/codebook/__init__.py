"""Where edits are kept: keys, the facts under them, and the edits they come from."""

from .memory import EditMemory, Fact, StoredEdit, entries_of

__all__ = ["EditMemory", "Fact", "StoredEdit", "entries_of"]
