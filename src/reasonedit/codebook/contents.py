"""What is in a codebook, to be read: keys, radii, facts and edits (section 3 of the method; arXiv 2602.02408)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from reasonedit.errors import ConflictError, NotFoundError
from reasonedit.kinds import KINDS, KeyKind
from reasonedit.util.threads import Guard, guarded

from .column import Column
from .contradictions import answer_entries, contradict
from .drafts import Draft, Entry, Fact
from .events import Event
from .fact_graph import FactGraph
from .key_table import KeyTable, KeyView
from .merging import Merging
from .stored_edit import StoredEdit

T = TypeVar("T")


@dataclass
class Slot:
    """An edit in the codebook.

    Attributes:
        edit: The edit.
        numbers: The numbers of its entries.
        counts: Whether it counts; else it is undone.
        keyless: Whether its keys are lost.
    """

    edit: StoredEdit
    numbers: range
    counts: bool = False
    keyless: bool = False


class Contents:
    """Keys, radii, facts and edits, in the order in which they came. Events build it.

    Args:
        merge: Whether a new key merges into an old one that it nearly coincides with.
        across_kinds: Whether it may be of another kind; see :class:`~reasonedit.codebook.merging.Merging`.
        guard: The lock that each method holds; a thread may take it again. Whoever reads several things that have to
            fit together holds it meanwhile.

    Attributes:
        removals: Grows with every change other than a new edit. Whoever keeps which keys there are compares it.
        renumbered: Grows when numbers may stand for other keys than before, as after an erasure or another calibration.
            Whoever keeps something by number compares it.
        events: What happened, in order.
    """

    def __init__(self, merge: bool, across_kinds: bool, guard: Guard) -> None:
        self.guard = guard
        self.removals = self.renumbered = 0
        self.events: list[Event] = []
        self._merging = Merging(merge, across_kinds)
        self._table = self._merging.table
        self._slots: dict[str, Slot] = {}
        self._order: list[Slot] = []
        self._texts: list[str] = []
        self._owner = Column(np.int64)
        self._cached: dict[str, Any] = {}
        self._fact_graph = FactGraph()

    @property
    def merge(self) -> bool:
        """Whether a new key merges into an old one that it nearly coincides with."""
        return self._merging.merge

    @merge.setter
    def merge(self, merge: bool) -> None:
        self._merging.merge = merge

    @property
    def across_kinds(self) -> bool:
        """Whether a key may merge into one of another kind; not so in codebooks of earlier versions."""
        return self._merging.across_kinds

    @guarded
    def __len__(self) -> int:
        return len(self.numbers)

    @property
    @guarded
    def numbers(self) -> Tensor:
        """The numbers of the keys, ascending: (N,) int64. A key keeps its number, and no other key ever gets it."""
        return self._cache("numbers", lambda: torch.from_numpy(np.flatnonzero(self._merging.is_key.values)))

    @property
    @guarded
    def view(self) -> KeyView:
        """The keys, (N, D); they are read in parts."""
        return self._cache("view", lambda: KeyView(self._table, self.numbers))

    @property
    @guarded
    def keys(self) -> Tensor:
        """All keys: (N, D) float32 on the CPU. They must not be changed."""
        return self._cache("keys", lambda: self.view[:])

    @property
    def table(self) -> KeyTable:
        """All entries that were ever written, by number: (M, D). The keys are among them."""
        return self._table

    @property
    def kinds(self) -> np.ndarray[Any, Any]:
        """The kind of each entry, as :attr:`KeyKind.number`: (M,) uint8."""
        return self._merging.kinds.values

    @property
    def kinds_held(self) -> np.ndarray[Any, Any]:
        """By the number of a key the kinds of its facts, as the sum of ``1 << kind.number``: (M,) uint8."""
        return self._merging.kinds_held.values

    @property
    @guarded
    def radii(self) -> Tensor:
        """The radius of each key: (N,) float32."""
        return torch.from_numpy(self._merging.reach.values[self.numbers.numpy()])

    @guarded
    def radius(self, number: int) -> float:
        """The radius of one key."""
        return float(self._merging.reach.values[number])

    @property
    @guarded
    def entries(self) -> list[list[Fact]]:
        """The facts of each key."""
        return self._cache("entries", lambda: [self.facts(number) for number in self.numbers.tolist()])

    @guarded
    def facts(self, number: int) -> list[Fact]:
        """The distinct facts under one key; the fact of the edit that made the key comes first."""
        facts: dict[str, Fact] = {}
        for fact in self.said(number):
            facts.setdefault(fact.text, fact)
        return list(facts.values())

    @guarded
    def said(self, number: int) -> list[Fact]:
        """What edits say under one key: a fact comes once for each edit and kind of key by which it came there."""
        numbers = (number, *self._merging.members.get(number, ()))
        owners = self._owner.values
        facts = [Fact(self._texts[n], KINDS[self.kinds[n]], self._order[int(owners[n])].edit.id) for n in numbers]
        return list(dict.fromkeys(facts))

    @property
    @guarded
    def edits(self) -> dict[str, StoredEdit]:
        """The edits that count, by id, in the order in which they came."""
        return self._cache("edits", lambda: {s.edit.id: s.edit for s in self._order if s.counts})

    @property
    @guarded
    def fact_graph(self) -> FactGraph:
        """What leads to what among the facts of the edits that count; it is kept up with them."""
        self._fact_graph.update(list(self.edits.values()), self.removals)
        return self._fact_graph

    @property
    @guarded
    def undone(self) -> dict[str, StoredEdit]:
        """The edits that are undone, by id."""
        return self._cache("undone", lambda: {s.edit.id: s.edit for s in self._order if not s.counts})

    @property
    @guarded
    def keyless(self) -> list[str]:
        """Ids of the edits whose keys are lost, undone ones too. They do not answer until they are embedded anew."""
        return [s.edit.id for s in self._order if s.keyless]

    @guarded
    def find(self, edit_id: str) -> StoredEdit:
        """An edit, undone or not.

        Args:
            edit_id: Its whole id.

        Raises:
            NotFoundError: There is none.
        """
        if edit_id not in self._slots:
            raise NotFoundError(f"There is no edit '{edit_id}' in the codebook: 'reasonedit codebook list' shows them.")
        return self._slots[edit_id].edit

    @guarded
    def entries_of(self, edit_id: str) -> list[Entry]:
        """What an edit wrote, as it was before anything merged.

        Raises:
            NotFoundError: There is no such edit.
        """
        self.find(edit_id)
        slot = self._slots[edit_id]
        kinds, radii = self.kinds, self._merging.radii.values
        return [
            Entry(self._table[n].clone(), float(radii[n]), Fact(self._texts[n], KINDS[kinds[n]], slot.edit.id))
            for n in slot.numbers
        ]

    @guarded
    def key_count(self, edit_id: str) -> int:
        """How many keys an edit made. Its other entries merged into keys that were there.

        Raises:
            NotFoundError: There is no such edit.
        """
        self.find(edit_id)
        numbers = self._slots[edit_id].numbers
        return int(self._merging.is_key.values[numbers.start : numbers.stop].sum())

    @guarded
    def check_new(self, edit_id: str) -> None:
        """Refuse an id that is taken.

        Raises:
            ConflictError: It is taken.
        """
        if edit_id in self._slots:
            undone = not self._slots[edit_id].counts
            advice = "restore that one, or give the new one another id" if undone else "give the new one another id"
            what = "an undone edit" if undone else "an edit"
            raise ConflictError(f"There is {what} '{edit_id}' in the codebook already: {advice}.")

    # ---- what builds it

    def _begin_as(self, other: Contents) -> None:
        """Begin with what another holds: its keys are shared, all else is copied."""
        self._merging = other._merging.fork()
        self._table = self._merging.table
        self._order = [replace(slot) for slot in other._order]
        self._slots = {slot.edit.id: slot for slot in self._order}
        self._texts, self._owner = list(other._texts), other._owner.fork()
        self.events, self.removals, self.renumbered = list(other.events), other.removals, other.renumbered

    def _find_contradicted(self, draft: Draft) -> list[str]:
        """Ids of the edits that answer the same question about the same picture differently, as far as keys reach."""
        ids: dict[str, None] = {}
        for entry in answer_entries(draft) if len(self._table) else ():
            key = entry.key.detach().to("cpu", torch.float32)
            rows = self._merging.nearby(key, entry.radius, KeyKind.ANSWER.number)
            for number, distance in zip(rows.tolist(), (self._table[rows] - key).norm(dim=1).tolist(), strict=True):
                if distance <= min(entry.radius, float(self._merging.radii.values[number])):
                    edit = self._order[int(self._owner.values[number])].edit
                    if contradict(draft.edit, edit):
                        ids[edit.id] = None
        return list(ids)

    def _add_slots(self, events: Sequence[Event], radii: np.ndarray[Any, Any]) -> None:
        """Number the entries of edits whose keys are in the table already; the edits do not count yet."""
        first = len(self._order)
        for event in events:
            assert event.edit is not None
            numbers = range(event.first, event.first + len(event.facts))
            slot = Slot(event.edit, numbers, keyless=bool(event.lost_facts))
            self._slots[event.edit.id] = slot
            self._order.append(slot)
            self._texts += [text for text, _ in event.facts]
        kinds = np.array([KeyKind(kind).number for event in events for _, kind in event.facts], np.uint8)
        self._owner.extend(np.repeat(np.arange(first, len(self._order)), [len(event.facts) for event in events]))
        self._merging.extend(kinds, radii)

    def _apply(self, event: Event) -> None:
        """Let an event change what counts."""
        self.events.append(event)
        self._cached.clear()
        if event.op == "erase":  # what was erased is not here
            return
        slot = self._slots[event.edit_id]
        slot.counts = event.op != "undo"
        if event.op == "edit":
            self._merging.add(slot.numbers)
        else:
            self.removals += 1
            self._merging.set_counts(slot.numbers, slot.counts)

    def _cache(self, name: str, make: Callable[[], T]) -> T:
        if name not in self._cached:
            self._cached[name] = make()
        value: T = self._cached[name]
        return value
