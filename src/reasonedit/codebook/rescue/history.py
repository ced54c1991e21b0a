"""What happened to a codebook, from a journal of which some may be lost: which edits count, and which are in doubt."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..disk.checksums import Checksums
from ..disk.journal import Mark
from ..events import Event
from ..records import StoredEdit
from .readable import parse_edit, parse_head, recognise
from .salvage import Piece

REPAIR = "codebook repair"
"""Who is said to have undone an edit whose undo can be read in part only."""


@dataclass(frozen=True)
class Record:
    """A record of the journal.

    Attributes:
        start: The byte at which it begins.
        op: What it is: ``"create"``, ``"edit"``, ``"undo"``, ``"restore"``, ``"erase"``; nothing where nobody knows.
        edit_id: The edit it speaks of, as far as that is known.
        state: ``"whole"``, ``"corrected"`` (damaged, and proven by its sum again), ``"changed"`` (it reads, but is not
            what was written), ``"unreadable"``, ``"missing"``, ``"repeated"`` or ``"never acknowledged"``.
        what: What is wrong, where anything is.
    """

    start: int
    op: str
    edit_id: str
    state: str
    what: str = ""


@dataclass
class Trace:
    """An edit on its way through the journal.

    Attributes:
        event: How it came; none where the record of that is lost.
        start: The byte at which that was.
        alive: Whether it counts.
        doubt: Why that may be otherwise.
        guess: What can be read of it, where its record is lost.
        changed: What its record says, where it reads but is not what was written.
        sums: Those of the file of its keys, as they were written.
    """

    event: Event | None
    start: int
    alive: bool = True
    doubt: str = ""
    guess: dict[str, str] = field(default_factory=dict)
    changed: StoredEdit | None = None
    sums: Checksums | None = None


@dataclass
class Gap:
    """Records of which nobody knows what they said.

    Attributes:
        start: The byte at which they are or were.
        records: How many they are; none where that is not known.
        candidates: The edits that they may have turned: undone those that count now, restored those that do not.
        place: The number of the first of them among the records.
        first: The number of the first key that comes after them.
        brought: Whether an edit may be among them; else no keys came with them.
    """

    start: int
    records: int | None
    candidates: set[str]
    place: int = 0
    first: int = 0
    brought: bool = True


@dataclass
class History:
    """What can be told of what happened.

    Attributes:
        head: What the codebook was made with.
        records: Each record.
        events: What happened, where that is known, in order.
        edits: Each edit, by id; one whose id is lost too under a name that says where it was.
        problems: What is wrong, with the byte at which it is.
        gaps: The records of which nobody knows what they said.
    """

    head: dict[str, Any] | None = None
    records: list[Record] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    edits: dict[str, Trace] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


@dataclass(frozen=True)
class Counted:
    """Which numbers counted when so many things had happened; it comes from what merged where."""

    records: int
    counts: np.ndarray[Any, Any]


def trace_history(
    pieces: Sequence[Piece], last: Mark | None = None, numbers: int | None = None, counted: Counted | None = None
) -> History:
    """What happened, as far as the records say it.

    Args:
        pieces: The records, up to the last one that was acknowledged.
        last: What the manifest says of the last one.
        numbers: How many keys were ever written, where the manifest says it.
        counted: Which of them counted at some time, where that is known.
    """
    return _Tracing(last, numbers, counted).through(pieces)


class _Tracing:
    def __init__(self, last: Mark | None, numbers: int | None, counted: Counted | None) -> None:
        self.last, self.numbers, self.counted = last, numbers, counted
        self.found = History()
        self.total = 0
        self.hidden: int | None = 0

    def through(self, pieces: Sequence[Piece]) -> History:
        mine = self._once(pieces)
        missing, self.hidden = self._missing(mine)
        before, place = "", 0
        for number, piece in enumerate(mine):
            if self._breaks(mine[number - 1] if number else None, piece):
                self._gap(piece.start, missing, place)
                place += missing or 0
            place += 1
            self._piece(piece, place)
            place += 0 if piece.values is not None else self.hidden or 0
            before = piece.sum
        if self.last is not None and mine and before not in ("", self.last.sum):
            self._gap(mine[-1].start + len(mine[-1].raw) + 1, missing, place)
        if self.numbers is not None:
            self._numbered(self.numbers)
        self._looked_up()
        self._doubted()
        return self.found

    def _once(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces without such as are there twice."""
        sums, kept = set[str](), list[Piece]()
        for piece in pieces:
            if piece.values is not None and piece.sum in sums:
                self._note(piece, "repeated", "it is there twice")
            else:
                kept.append(piece)
            sums.add(piece.sum)
        return kept

    @staticmethod
    def _breaks(before: Piece | None, piece: Piece) -> bool:
        """Whether something is missing before a record, as far as the two say it."""
        if piece.values is None or (before is not None and before.values is None):
            return False
        return piece.after != ("" if before is None else before.sum)

    def _missing(self, pieces: Sequence[Piece]) -> tuple[int | None, int | None]:
        """How many records are missing where some are, and how many more became one with what cannot be read.

        None where that cannot be told.
        """
        if self.last is None:
            return None, None
        count = self.last.records - len(pieces)
        unread = sum(piece.values is None for piece in pieces)
        breaks = sum(self._breaks(a, b) for a, b in itertools.pairwise([None, *pieces]) if b is not None)
        breaks += bool(pieces) and pieces[-1].sum not in ("", self.last.sum)
        if count <= 0:
            return None, 0
        if not breaks and unread == 1:
            return None, count
        return (count, 0) if breaks == 1 and not unread else (None, None)

    # ---- record by record

    def _piece(self, piece: Piece, place: int) -> None:
        if piece.values is None:
            self._unread(piece, place)
            return
        try:
            self._happened(piece, piece.values)
        except (KeyError, TypeError, ValueError) as error:
            self._unread(replace(piece, problem=f"the record makes no sense ({error})"), place)

    def _happened(self, piece: Piece, values: Mapping[str, Any]) -> None:
        state = "corrected" if piece.problem else "whole"
        if values["op"] == "create":
            self.found.head = self.found.head or parse_head(values)
            self._note(piece, state, piece.problem, "create")
            return
        event = Event.from_dict(values)
        sums = Checksums.from_dict(values["keys"]) if values.get("keys") else None
        if event.edit is not None and event.edit_id in self.found.edits:
            raise ValueError(f"there is an edit '{event.edit_id}' before it")
        self._note(piece, state, piece.problem, event.op, event.edit_id)
        if event.edit is not None:
            self._numbered(event.first)
            self.total += len(event.facts)
            for other in event.edit.contradicts:  # each of them counted then
                self._counts(other)
            self.found.edits[event.edit_id] = Trace(event, piece.start, sums=sums)
        elif event.op in ("undo", "restore"):
            self._turned(event, piece)
        self.found.events.append(event)

    def _turned(self, event: Event, piece: Piece) -> None:
        trace = self.found.edits.get(event.edit_id)
        if trace is None:
            trace = self._named(event.edit_id, piece.start)
        if trace.alive == (event.op == "restore"):  # what turned it before is lost, and was this
            self._explained(event.edit_id)
        else:
            self._cleared(event.edit_id)
        trace.alive, trace.doubt = event.op == "restore", ""

    def _named(self, name: str, start: int) -> Trace:
        """An edit whose record is lost; it may be one of which only the id was not known."""
        unnamed = [other for other in self.found.edits if other.startswith(_unnamed(""))]
        lost = self.found.edits.pop(unnamed[0]) if len(unnamed) == 1 else Trace(None, start)
        for gap in self.found.gaps:
            if unnamed and unnamed[0] not in self.found.edits and unnamed[0] in gap.candidates:
                gap.candidates = {*gap.candidates - {unnamed[0]}, name}
        self.found.problems.append((start, f"it speaks of the edit '{name}', whose record is lost"))
        self.found.edits[name] = lost
        return lost

    def _unread(self, piece: Piece, place: int) -> None:
        op, ids, told = recognise(piece.raw, self.found.edits)
        known = True
        if op in ("create", "erase") or place == 1:
            self._note(piece, "unreadable", piece.problem, op or "create")
        elif op in ("undo", "restore") and len(ids) == 1:
            self._half_turned(piece, op, ids[0], told)
        elif op == "edit":
            self._lost_edit(piece, told)
        else:
            known = False
            self._note(piece, "unreadable", piece.problem)
        if known and self.hidden == 0:
            return
        records = None if self.hidden is None else self.hidden + (not known)
        turned = set(ids) if len(ids) > 1 and records == 1 else set(self.found.edits)
        self.found.gaps.append(Gap(piece.start, records, turned, place + known, self.total))

    def _half_turned(self, piece: Piece, op: str, name: str, told: Mapping[str, str]) -> None:
        """A turn that is known, though its record is not whole: the edit does not count, whichever it was."""
        done = {"undo": "undone", "restore": "restored"}[op]
        what = f"{piece.problem}; it says that the edit '{name}' was {done}, which is taken as undone"
        self._note(piece, "unreadable", what, op, name)
        trace = self.found.edits[name]
        if trace.alive and op == "undo" and all(n in told for n in ("author", "time", "by")):
            self.found.events.append(Event("undo", name, told["author"], told["time"], told["by"]))
        trace.alive = False
        if op == "restore":
            trace.doubt = f"the record at byte {piece.start}, of which not all can be read, may have restored it"

    def _lost_edit(self, piece: Piece, told: dict[str, str]) -> None:
        changed = parse_edit(piece.raw)
        name = told.get("id") or _unnamed(piece.start)
        self._note(piece, "unreadable" if changed is None else "changed", piece.problem, "edit", told.get("id", ""))
        if name in self.found.edits:
            name = f"{name} {_unnamed(piece.start)}"
        self.found.edits[name] = Trace(None, piece.start, guess=told, changed=changed)
        # Its keys have numbers, of which only the next edit tells how many.
        self.found.gaps.append(Gap(piece.start, 0, set(), 0, self.total))

    def _note(self, piece: Piece, state: str, what: str, op: str = "", name: str = "") -> None:
        self.found.records.append(Record(piece.start, op, name, state, what))
        if state != "whole":
            also = {"corrected": ": its sum proves what it was", "repeated": ""}.get(state, "")
            self.found.problems.append((piece.start, what + also))

    def _gap(self, start: int, records: int | None, place: int) -> None:
        many = "records are" if records is None else "a record is" if records == 1 else f"{records} records are"
        self.found.records.append(Record(start, "", "", "missing", f"{many} missing before it"))
        self.found.problems.append((start, f"{many} missing before this byte"))
        if place or records != 1:  # else what is missing is what the codebook was made with
            self.found.gaps.append(Gap(start, records, set(self.found.edits), place + 1, self.total))

    # ---- what later records say of those that are lost

    def _numbered(self, first: int) -> None:
        """What lies before has so many keys: a lost record that brought some was an edit, and undid nothing."""
        behind = [gap for gap in self.found.gaps if gap.first == self.total and gap.records != 0]
        edits = [gap for gap in self.found.gaps if gap.first == self.total and gap.records == 0]
        if first == self.total:
            for gap in behind:
                gap.brought = False
        elif len(behind) == 1 and behind[0].records == 1 and not edits:
            (gap,) = behind
            self.found.edits[_unnamed(gap.start)] = Trace(None, gap.start)
            self.found.gaps.remove(gap)
            self.found.records = [
                replace(r, op="edit") if r.start == gap.start and not r.op else r for r in self.found.records
            ]
        self.total = max(self.total, first)

    def _counts(self, name: str) -> None:
        """An edit counted at this place, says another."""
        trace = self.found.edits.get(name)
        if trace is not None and not trace.alive:
            self._explained(name)
            trace.alive, trace.doubt = True, ""
        else:
            self._cleared(name)

    def _cleared(self, name: str) -> None:
        for gap in self.found.gaps:
            gap.candidates.discard(name)

    def _explained(self, name: str) -> None:
        """A lost record turned this edit: where one alone is lost, it turned no other."""
        open_ones = [gap for gap in self.found.gaps if gap.records != 0]
        if len(open_ones) == 1 and open_ones[0].records == 1:
            open_ones[0].candidates.clear()
        self._cleared(name)

    def _looked_up(self) -> None:
        """What merged where tells what counted at its time, and so what lost records before that came to."""
        if self.counted is None:
            return
        at = self.counted.records + 1  # the first record made the codebook
        last = self.last is not None and at >= self.last.records
        unsure = any(gap.records is None for gap in self.found.gaps)
        for gap in list(self.found.gaps):
            if last or not (unsure or gap.records is None or gap.place + gap.records - 1 > at):
                for name in sorted(gap.candidates):
                    self._compared(name, gap)

    def _compared(self, name: str, gap: Gap) -> None:
        trace, counted = self.found.edits[name], self.counted
        if counted is None or trace.event is None or not trace.event.facts:
            return
        mine = counted.counts[trace.event.first : trace.event.first + len(trace.event.facts)]
        if len(mine) < len(trace.event.facts):  # it came later
            return
        if bool(mine.all()) == trace.alive:
            gap.candidates.discard(name)
            return
        trace.alive, trace.doubt = bool(mine.all()), ""
        done = "restored" if trace.alive else "undone"
        self.found.problems.append((gap.start, f"the edit '{name}' was {done} there, as what merged where tells"))
        self._explained(name)

    def _doubted(self) -> None:
        for gap in self.found.gaps:
            for name in sorted(gap.candidates):
                trace = self.found.edits[name]
                done = "undone" if trace.alive else "restored"
                trace.doubt = trace.doubt or f"a record that is lost at byte {gap.start} may have {done} it"


def _unnamed(start: int | str) -> str:
    """What an edit is called of which not even the id can be read; the beginning of that, where no byte is given."""
    return f"(at byte {start})" if start else "(at byte "
