"""Tells what happened to a codebook from a journal of which some may be lost."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..disk.checksums import Checksums
from ..disk.journal import Mark
from ..events import Event
from .deduction import Deduction
from .history import Counted, EditTrace, Gap, History, Record, unnamed
from .readable import parse_edit, parse_head, recognise
from .salvage import Piece


def trace_history(
    pieces: Sequence[Piece], last: Mark | None = None, numbers: int | None = None, counted: Counted | None = None
) -> History:
    """Tell what happened, as far as the records say it.

    Args:
        pieces: The records, up to the last one that was acknowledged.
        last: Where the journal ends, as the manifest says it.
        numbers: How many keys were ever written, where the manifest says it.
        counted: Which of them counted at some time, where that is known.
    """
    tracer = _Tracer(last)
    tracer.read(pieces)
    if numbers is not None:
        tracer.deduction.reach(numbers)
    if counted is not None:
        tracer.deduction.compare(counted, None if last is None else last.records)
    tracer.deduction.note_doubts()
    return tracer.history


class _Tracer:
    """Reads the records one by one.

    Args:
        last: Where the journal ends, as the manifest says it.
    """

    def __init__(self, last: Mark | None) -> None:
        self.last = last
        self.history = History()
        self.deduction = Deduction(self.history)
        self.hidden: int | None = 0
        """How many more records each unreadable piece held; none where that cannot be told."""

    def read(self, pieces: Sequence[Piece]) -> None:
        pieces = self._drop_repeated(pieces)
        missing, self.hidden = self._count_missing(pieces)
        sum_before, place = "", 0
        for number, piece in enumerate(pieces):
            if _is_break(pieces[number - 1] if number else None, piece):
                self._add_missing(piece.start, missing, place)
                place += missing or 0
            place += 1
            self._read_piece(piece, place)
            place += 0 if piece.values is not None else self.hidden or 0
            sum_before = piece.sum
        if self.last is not None and pieces and sum_before not in ("", self.last.sum):
            self._add_missing(pieces[-1].start + len(pieces[-1].raw) + 1, missing, place)

    def _drop_repeated(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces, each once."""
        sums, unique = set[str](), list[Piece]()
        for piece in pieces:
            if piece.values is not None and piece.sum in sums:
                self._note(piece, "repeated", "it appears twice")
            else:
                unique.append(piece)
            sums.add(piece.sum)
        return unique

    def _count_missing(self, pieces: Sequence[Piece]) -> tuple[int | None, int | None]:
        """Count lost records by how many the manifest says there were.

        Returns:
            How many are missing where some are, and how many more became one with the piece that cannot be read; none
            where that cannot be told.
        """
        if self.last is None:
            return None, None
        lost = self.last.records - len(pieces)
        unreadable = sum(piece.values is None for piece in pieces)
        breaks = sum(_is_break(a, b) for a, b in itertools.pairwise([None, *pieces]) if b is not None)
        breaks += bool(pieces) and pieces[-1].sum not in ("", self.last.sum)
        if lost <= 0:
            return None, 0
        if not breaks and unreadable == 1:
            return None, lost
        return (lost, 0) if breaks == 1 and not unreadable else (None, None)

    # ---- what can be read

    def _read_piece(self, piece: Piece, place: int) -> None:
        if piece.values is None:
            self._read_damaged(piece, place)
            return
        try:
            self._read_record(piece, piece.values)
        except (KeyError, TypeError, ValueError) as error:
            self._read_damaged(replace(piece, problem=f"the record makes no sense ({error})"), place)

    def _read_record(self, piece: Piece, values: Mapping[str, Any]) -> None:
        state = "corrected" if piece.problem else "whole"
        if values["op"] == "create":
            self.history.head = self.history.head or parse_head(values)
            self._note(piece, state, piece.problem, "create")
            return
        event = Event.from_dict(values)
        sums = Checksums.from_dict(values["keys"]) if values.get("keys") else None
        if event.edit is not None and event.edit_id in self.history.edits:
            raise ValueError(f"there is an edit '{event.edit_id}' before it")
        self._note(piece, state, piece.problem, event.op, event.edit_id)
        if event.edit is not None:
            self.deduction.reach(event.first)
            self.deduction.numbers += len(event.facts)
            for name in event.edit.contradicts:  # each of them counted then
                self.deduction.see_counting(name)
            self.history.edits[event.edit_id] = EditTrace(event, piece.start, sums=sums)
        elif event.op in ("undo", "restore"):
            if event.edit_id not in self.history.edits:
                self.deduction.see_name(event.edit_id, piece.start)
            self.deduction.see_turn(event.edit_id, restored=event.op == "restore")
        self.history.events.append(event)

    # ---- what is lost

    def _read_damaged(self, piece: Piece, place: int) -> None:
        op, ids, fields = recognise(piece.raw, self.history.edits)
        is_known = True
        if op in ("create", "erase") or place == 1:
            self._note(piece, "unreadable", piece.problem, op or "create")
        elif op in ("undo", "restore") and len(ids) == 1:
            self._add_half_read_turn(piece, op, ids[0], fields)
        elif op == "edit":
            self._add_lost_edit(piece, fields)
        else:
            is_known = False
            self._note(piece, "unreadable", piece.problem)
        if is_known and self.hidden == 0:
            return
        records = None if self.hidden is None else self.hidden + (not is_known)
        candidates = set(ids) if len(ids) > 1 and records == 1 else set(self.history.edits)
        self._add_gap(piece.start, records, candidates, place + is_known)

    def _add_half_read_turn(self, piece: Piece, op: str, name: str, fields: Mapping[str, str]) -> None:
        """Take an edit for undone where a record of which not all can be read undid or restored it."""
        done = {"undo": "undone", "restore": "restored"}[op]
        what = f"{piece.problem}; it says that the edit '{name}' was {done}, which is taken as undone"
        self._note(piece, "unreadable", what, op, name)
        trace = self.history.edits[name]
        if trace.counts and op == "undo" and all(n in fields for n in ("author", "time", "by")):
            self.history.events.append(Event("undo", name, fields["author"], fields["time"], fields["by"]))
        trace.counts = False
        if op == "restore":
            trace.doubt = f"the record at byte {piece.start}, of which not all can be read, may have restored it"

    def _add_lost_edit(self, piece: Piece, fields: dict[str, str]) -> None:
        changed = parse_edit(piece.raw)
        name = fields.get("id") or unnamed(piece.start)
        self._note(piece, "unreadable" if changed is None else "changed", piece.problem, "edit", fields.get("id", ""))
        if name in self.history.edits:
            name = f"{name} {unnamed(piece.start)}"
        self.history.edits[name] = EditTrace(None, piece.start, guess=fields, changed=changed)
        self._add_gap(piece.start, 0, set(), 0)  # only the next edit tells how many keys this one had

    def _add_missing(self, start: int, records: int | None, place: int) -> None:
        many = "records are" if records is None else "a record is" if records == 1 else f"{records} records are"
        self.history.records.append(Record(start, "", "", "missing", f"{many} missing before it"))
        self.history.problems.append((start, f"{many} missing before this byte"))
        if place or records != 1:  # else only the record is missing that made the codebook
            self._add_gap(start, records, set(self.history.edits), place + 1)

    def _add_gap(self, start: int, records: int | None, candidates: set[str], place: int) -> None:
        self.history.gaps.append(Gap(start, records, candidates, place, self.deduction.numbers))

    def _note(self, piece: Piece, state: str, what: str, op: str = "", name: str = "") -> None:
        self.history.records.append(Record(piece.start, op, name, state, what))
        if state != "whole":
            remark = {"corrected": ": its sum proves what it was", "repeated": ""}.get(state, "")
            self.history.problems.append((piece.start, what + remark))


def _is_break(before: Piece | None, piece: Piece) -> bool:
    """Whether something is missing before a record, as far as the two say it."""
    if piece.values is None or (before is not None and before.values is None):
        return False
    return piece.after != ("" if before is None else before.sum)
