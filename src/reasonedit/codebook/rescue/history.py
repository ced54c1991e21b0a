"""What is known of what happened to a codebook whose journal is damaged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..disk.checksums import Checksums
from ..events import Event
from ..stored_edit import StoredEdit

REPAIR = "codebook repair"
"""The author of an undo that a repair writes in the place of one that can be read in part only."""


@dataclass(frozen=True)
class Record:
    """A record of the journal.

    Attributes:
        start: The byte at which it begins.
        op: What it is: ``"create"``, ``"edit"``, ``"undo"``, ``"restore"``, ``"erase"``; nothing where nobody knows.
        edit_id: The edit it speaks of, as far as that is known.
        state: ``"whole"``, ``"corrected"`` (damaged, but its sum proves what it was), ``"changed"`` (it reads, but is
            not what was written), ``"unreadable"``, ``"missing"``, ``"repeated"`` or ``"never acknowledged"``.
        what: What is wrong, where anything is.
    """

    start: int
    op: str
    edit_id: str
    state: str
    what: str = ""


@dataclass
class EditTrace:
    """What the journal says of an edit, up to some record.

    Attributes:
        event: The event that brought it; none where that record is lost.
        start: The byte at which that record begins.
        counts: Whether it counts, rather than being undone.
        doubt: Why it may be the other way round.
        guess: What can be read of the lost record.
        changed: What the record says, where it reads but is not what was written.
        sums: The file of its keys, as it was written.
    """

    event: Event | None
    start: int
    counts: bool = True
    doubt: str = ""
    guess: dict[str, str] = field(default_factory=dict)
    changed: StoredEdit | None = None
    sums: Checksums | None = None


@dataclass
class Gap:
    """Records of which nobody knows what they said.

    Attributes:
        start: The byte at which they are or were.
        records: How many there are; none where that is not known.
        candidates: The edits that they may have undone, where these count now, or restored, where they do not.
        place: The number of the first of them among the records.
        first: The number of the first key that comes after them.
        may_have_edit: Whether an edit may be among them; else they brought no keys.
    """

    start: int
    records: int | None
    candidates: set[str]
    place: int = 0
    first: int = 0
    may_have_edit: bool = True


@dataclass
class History:
    """What is known of what happened.

    Attributes:
        head: What the codebook was made with.
        records: Each record.
        events: What happened, in order, as far as it is known.
        edits: Each edit by its id; where the id is lost too, by a name that says where it was.
        problems: What is wrong, and the byte at which it is.
        gaps: The records of which nobody knows what they said.
    """

    head: dict[str, Any] | None = None
    records: list[Record] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    edits: dict[str, EditTrace] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


@dataclass(frozen=True)
class Counted:
    """Which keys counted at some time, as the file says that says which keys merged.

    Attributes:
        records: After how many events.
        counts: Whether each number counted: (numbers,) bool.
    """

    records: int
    counts: np.ndarray[Any, Any]


def unnamed(start: int | str) -> str:
    """What an edit is called whose id cannot be read.

    Args:
        start: The byte at which its record is; nothing for how all such names begin.
    """
    return f"(at byte {start})" if start else "(at byte "
