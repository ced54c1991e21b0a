"""What was found in a codebook's folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ..disk.errors import DamagedError
from ..disk.manifest import Manifest
from ..events import Event
from ..stored_edit import StoredEdit
from .history import Record
from .keyfiles import Rows


@dataclass(frozen=True)
class FoundEdit:
    """An edit, and what is there of it.

    Attributes:
        id: Its id; where that cannot be read, where its record is, in brackets.
        start: The byte of the journal at which its record begins.
        counts: Whether it counts, rather than being undone.
        doubt: Why it may be the other way round; nothing where that is certain.
        event: The event that brought it, with its text; none where that record is lost.
        guess: What can be read of a lost record: ``question``, ``answer``, ``author``, ``time``.
        changed: What its record says, where it reads but is not what was written.
        keys: Whether its keys are whole: if not, it does not answer until it is embedded anew.
        pictures: Names of those of its pictures that are whole.
    """

    id: str
    start: int
    counts: bool
    doubt: str
    event: Event | None
    guess: dict[str, str]
    changed: StoredEdit | None
    keys: bool
    pictures: tuple[str, ...] = ()

    @property
    def lost(self) -> list[str]:
        """What is lost of it: ``"text"``, ``"keys"``, ``"picture"`` (its own) and ``"crops"`` (of its evidence)."""
        if self.event is None or self.event.edit is None:
            return ["text"]
        missing = [name for name in self.event.edit.pictures if name not in self.pictures]
        own = self.event.edit.image not in self.pictures
        crops = any(name != self.event.edit.image for name in missing)
        return [*(["keys"] * (not self.keys)), *(["picture"] * own), *(["crops"] * crops)]


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        damages: What is damaged.
        notes: What is harmless: files that do not count, and what cannot be told.
        edits: Each edit that is there, or is known to have been there, in the order in which they came.
        records: Each record of the journal.
        losses: What a repair would not bring back, or might wrongly let count; one sentence each.
        manifest: What the codebook was made with and how far it goes; none where nothing says that any more.
        events: What happened, in order, as far as it is known.
        keys: The keys and radii of each edit that still has them, by id.
        pictures: Names of the pictures that are whole.
        statistics: What the embedding needs, where it is there.
        lost_reference: Of which pictures it was, in words, where it is lost: then all keys, which were made by it,
            count as lost. Nothing where it is there, or is not needed.
    """

    damages: list[DamagedError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    edits: list[FoundEdit] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    manifest: Manifest | None = None
    events: list[Event] = field(default_factory=list)
    keys: dict[str, Rows] = field(default_factory=dict)
    pictures: set[str] = field(default_factory=set)
    statistics: dict[str, Tensor] = field(default_factory=dict)
    lost_reference: str = ""

    @property
    def whole(self) -> list[str]:
        """Ids of the edits with text and keys, undone ones too."""
        return [e.id for e in self.edits if e.event is not None and e.keys]

    @property
    def keyless(self) -> list[Event]:
        """Edits with text but without keys: they can be embedded anew where their picture is whole."""
        return [e.event for e in self.edits if e.event is not None and not e.keys]

    @property
    def unread(self) -> int:
        """How many records of the journal cannot be read."""
        return sum(r.state in ("changed", "unreadable") for r in self.records)
