"""What the records that can be read say of those that are lost."""

from __future__ import annotations

from dataclasses import replace

from .history import Counted, EditTrace, Gap, History, unnamed


class Deduction:
    """Deduces from each record, in their order, what the lost records before it can have said.

    Args:
        history: What is known; it is changed in place.

    Attributes:
        numbers: How many keys the records so far have brought.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.numbers = 0

    def reach(self, first: int) -> None:
        """The records so far have brought this many keys: a lost one that brought some was an edit, and undid nothing.

        Args:
            first: The number of the next key.
        """
        gaps = [gap for gap in self.history.gaps if gap.first == self.numbers and gap.records != 0]
        lost_edits = [gap for gap in self.history.gaps if gap.first == self.numbers and gap.records == 0]
        if first == self.numbers:
            for gap in gaps:
                gap.may_have_edit = False
        elif len(gaps) == 1 and gaps[0].records == 1 and not lost_edits:
            self._take_for_edit(gaps[0])
        self.numbers = max(self.numbers, first)

    def _take_for_edit(self, gap: Gap) -> None:
        history = self.history
        history.edits[unnamed(gap.start)] = EditTrace(None, gap.start)
        history.gaps.remove(gap)
        history.records = [replace(r, op="edit") if r.start == gap.start and not r.op else r for r in history.records]

    def see_counting(self, name: str) -> None:
        """A record says that an edit counted when it was written."""
        trace = self.history.edits.get(name)
        if trace is not None and not trace.counts:
            self._explain(name)
            trace.counts, trace.doubt = True, ""
        else:
            self._clear(name)

    def see_turn(self, name: str, *, restored: bool) -> None:
        """A record says that an edit was undone or restored, so that it was the other way round before."""
        trace = self.history.edits[name]
        if trace.counts == restored:  # what turned it before is lost
            self._explain(name)
        else:
            self._clear(name)
        trace.counts, trace.doubt = restored, ""

    def see_name(self, name: str, start: int) -> None:
        """A record speaks of an edit whose own record is lost; it may be one of which only the id was not known.

        Args:
            name: The edit's id.
            start: The byte at which the record begins.
        """
        history = self.history
        nameless = [other for other in history.edits if other.startswith(unnamed(""))]
        trace = history.edits.pop(nameless[0]) if len(nameless) == 1 else EditTrace(None, start)
        for gap in history.gaps:
            if nameless and nameless[0] not in history.edits and nameless[0] in gap.candidates:
                gap.candidates = {*gap.candidates - {nameless[0]}, name}
        history.problems.append((start, f"it speaks of the edit '{name}', whose record is lost"))
        history.edits[name] = trace

    def _clear(self, name: str) -> None:
        """No lost record so far left this edit turned."""
        for gap in self.history.gaps:
            gap.candidates.discard(name)

    def _explain(self, name: str) -> None:
        """A lost record turned this edit: where only one is lost, it turned no other."""
        gaps = [gap for gap in self.history.gaps if gap.records != 0]
        if len(gaps) == 1 and gaps[0].records == 1:
            gaps[0].candidates.clear()
        self._clear(name)

    # ---- at the end

    def compare(self, counted: Counted, records: int | None) -> None:
        """Settle what lost records came to by what counted at some time after them.

        Args:
            counted: What counted.
            records: How many records the journal had, where that is known.
        """
        place = counted.records + 1  # the first record made the codebook
        at_end = records is not None and place >= records
        any_unsure = any(gap.records is None for gap in self.history.gaps)
        for gap in list(self.history.gaps):
            if at_end or not (any_unsure or gap.records is None or gap.place + gap.records - 1 > place):
                for name in sorted(gap.candidates):
                    self._compare_edit(name, gap, counted)

    def _compare_edit(self, name: str, gap: Gap, counted: Counted) -> None:
        trace = self.history.edits[name]
        if trace.event is None or not trace.event.facts:
            return
        counts = counted.counts[trace.event.first : trace.event.first + len(trace.event.facts)]
        if len(counts) < len(trace.event.facts):  # the edit came later
            return
        if bool(counts.all()) == trace.counts:
            gap.candidates.discard(name)
            return
        trace.counts, trace.doubt = bool(counts.all()), ""
        done = "restored" if trace.counts else "undone"
        self.history.problems.append((gap.start, f"the edit '{name}' was {done} there, as what merged where tells"))
        self._explain(name)

    def note_doubts(self) -> None:
        """Say of each edit that a lost record may have turned why it is in doubt."""
        for gap in self.history.gaps:
            for name in sorted(gap.candidates):
                trace = self.history.edits[name]
                done = "undone" if trace.counts else "restored"
                trace.doubt = trace.doubt or f"a record that is lost at byte {gap.start} may have {done} it"
