"""What happens to a codebook, and how the journal records it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from typing import Any

from reasonedit.kinds import KINDS

from .stored_edit import StoredEdit

OPS = ("edit", "undo", "restore", "erase")
PICTURE = re.compile(r"[0-9a-f]{64}")


@cache
def package_version() -> str:
    """The version of this package, which is recorded with all that it does."""
    return metadata.version("reasonedit")


@dataclass(frozen=True)
class Event:
    """An edit was added, undone or restored; or edits were erased, of which nothing else is left.

    Attributes:
        op: ``"edit"``, ``"undo"``, ``"restore"`` or ``"erase"``.
        edit_id: The edit; empty where edits were erased.
        author: Who did it.
        time: When, in UTC (ISO 8601).
        version: The version of this package that did it.
        edit: The edit itself, where it was added.
        facts: The text and the kind of each entry that it wrote, in order.
        first: The number of its first entry.
        lost_facts: Its facts in the place of ``facts`` where their keys are lost; it does not answer then.
        count: How many edits were erased.
    """

    op: str
    edit_id: str
    author: str
    time: str
    version: str
    edit: StoredEdit | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    first: int = 0
    lost_facts: list[tuple[str, str]] = field(default_factory=list)
    count: int = 0

    @classmethod
    def of_edit(cls, edit: StoredEdit, facts: list[tuple[str, str]], first: int) -> Event:
        """An edit is added; ``first`` is the number of its first entry."""
        return cls("edit", edit.id, edit.author, edit.time, edit.version, edit, facts, first)

    @classmethod
    def now(cls, op: str, edit_id: str, author: str) -> Event:
        """An edit is undone or restored now."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(op, edit_id, author, now, package_version())

    @classmethod
    def of_erasure(cls, count: int, author: str) -> Event:
        """Edits are erased now."""
        return replace(cls.now("erase", "", author), count=count)

    def without_keys(self) -> Event:
        """The same event of an edit whose keys are lost."""
        return replace(self, facts=[], lost_facts=self.facts or self.lost_facts)

    def to_dict(self) -> dict[str, Any]:
        """The record of the journal."""
        if self.edit is None:
            turn = {"op": self.op, "id": self.edit_id, "author": self.author, "time": self.time, "by": self.version}
            return {**turn, "count": self.count} if self.op == "erase" else turn
        edit = asdict(self.edit)
        if not self.edit.answers:  # as records were before edits could have several
            del edit["answers"]
        record = {"op": self.op, "edit": edit, "facts": self.lost_facts or self.facts, "first": self.first}
        return {**record, "keys": None, "lost": "keys"} if self.lost_facts else record

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Event:
        """The event of a record.

        Raises:
            KeyError: A field is missing.
            TypeError: A field is of another type.
            ValueError: A field has an unknown value.
        """
        op = values["op"]
        if op not in OPS:
            raise ValueError(f"'{op}' is not a known operation")
        if op != "edit":
            texts = [values[name] for name in ("id", "author", "time", "by")]
            if not all(isinstance(t, str) for t in texts):
                raise TypeError("a text is not a string")
            count = values["count"] if op == "erase" else 0
            if type(count) is not int or count < 0:
                raise TypeError("the number of erased edits is not a number")
            return replace(cls(op, *texts), count=count)
        edit = StoredEdit.from_dict(values["edit"])
        for name in edit.pictures:  # names become paths
            if not PICTURE.fullmatch(name):
                raise ValueError(f"'{name[:80]}' is not the name of a picture")
        facts = [(text, kind) for text, kind in values["facts"]]
        if not all(isinstance(text, str) and kind in KINDS for text, kind in facts):
            raise ValueError("a fact is of an unknown kind")
        if not isinstance(values["first"], int) or values["first"] < 0:
            raise ValueError("the number of the first key is not a number")
        if values.get("lost") not in (None, "keys"):
            raise ValueError("what is lost of an edit is unknown")
        event = cls.of_edit(edit, facts, values["first"])
        return event.without_keys() if values.get("lost") else event
