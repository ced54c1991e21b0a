"""The codebook: keys with the facts they stand for (section 3 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reasonedit.edits import Edit, checked_name
from reasonedit.errors import ReasonEditError
from reasonedit.threads import Guard, guarded

from .contradictions import among, answers, contradict
from .events import Event
from .merging import Column, Merging
from .records import ENTRIES, Draft, Entry, Fact, StoredEdit
from .store import Store, Written
from .table import KeyTable, KeyView

T = TypeVar("T")

_log = logging.getLogger(__name__)

_KINDS = {entry: number for number, entry in enumerate(ENTRIES)}
_ANSWER = _KINDS["answer"]


@dataclass
class _Slot:
    """An edit, the numbers of what it wrote, whether it counts (or is undone), and whether its keys are lost."""

    edit: StoredEdit
    numbers: range
    alive: bool = False
    keyless: bool = False


class EditMemory:
    """Keys, radii, facts and edits, in the order in which they came.

    Everything an edit writes has a number that it keeps. Most of it becomes a key; some merges into a key that is there
    already. Which does depends only on the edits that count and on their order: undoing one leaves what the others
    alone would have made, and restoring it what was there before.

    Args:
        merge: Whether a new key merges into an old one that it nearly coincides with.

    Attributes:
        store: The folder in which every change is kept before it counts; none while the memory is only a memory.
        guard: Held by whoever reads it: a lock that a thread may take again. Each reading is of one moment; who needs
            several of the same moment holds it meanwhile, and changes nothing then: see :meth:`changing`.
        removals: Grows whenever anything else than new edits changed; whoever keeps something by number looks here.
        events: What happened, in order.
    """

    def __init__(self, merge: bool = True) -> None:
        self.store: Store | None = None
        self.removals = 0
        self.guard = Guard(self._after_fork)
        self._stale = False  # what is known may be half of what is in the folder
        self.events: list[Event] = []
        self._merging = Merging(merge)
        self._table = self._merging.table
        self._slots: dict[str, _Slot] = {}
        self._order: list[_Slot] = []
        self._texts: list[str] = []
        self._owner = Column(np.int64)
        self._pictures: dict[str, Image.Image] = {}
        self._cached: dict[str, Any] = {}

    @classmethod
    def open(cls, store: Store) -> EditMemory:
        """The memory that a folder holds.

        Raises:
            ReasonEditError: The folder is damaged.
        """
        memory = cls._read(store)
        if memory.keyless:
            _log.warning(
                "%d of %d edits in '%s' have lost their keys and do not answer: 'reasonedit codebook repair' embeds "
                "them anew.",
                len(memory.keyless),
                len(memory._order),
                store.folder,
            )
        return memory

    @classmethod
    def _read(cls, store: Store) -> EditMemory:
        memory = cls(store.manifest.merge)
        memory.store = store
        memory._take_in()
        return memory

    # ---- what is there

    @property
    def merge(self) -> bool:
        """Whether a new key merges into an old one that it nearly coincides with."""
        return self._merging.merge

    @merge.setter
    def merge(self, merge: bool) -> None:
        self._merging.merge = merge

    @guarded
    def __len__(self) -> int:
        return len(self.numbers)

    @property
    @guarded
    def numbers(self) -> Tensor:
        """The numbers of the keys, rising: (N,) int64. A key keeps its number; no other ever gets it."""
        return self._cache("numbers", lambda: torch.from_numpy(np.flatnonzero(self._merging.is_key.values)))

    @property
    @guarded
    def view(self) -> KeyView:
        """The keys, to be read in parts."""
        return self._cache("view", lambda: KeyView(self._table, self.numbers))

    @property
    @guarded
    def keys(self) -> Tensor:
        """All keys: (N, D) float32 on the CPU; must not be changed."""
        return self._cache("keys", lambda: self.view[:])

    @property
    def table(self) -> KeyTable:
        """Everything that was ever written, by number; keys are among it."""
        return self._table

    @property
    def kinds(self) -> np.ndarray[Any, Any]:
        """What each number is made of, as its place in ``ENTRIES``: (M,) uint8."""
        return self._merging.kinds.values

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
        """For each key its facts."""
        return self._cache("entries", lambda: [self.facts(number) for number in self.numbers.tolist()])

    @guarded
    def facts(self, number: int) -> list[Fact]:
        """The distinct facts under one key, that of the edit that made it first."""
        found: dict[str, Fact] = {}
        for n in (number, *self._merging.members.get(number, ())):
            text = self._texts[n]
            if text not in found:
                owner = self._order[int(self._owner.values[n])].edit.id
                found[text] = Fact(text, ENTRIES[int(self.kinds[n])], owner)
        return list(found.values())

    @property
    @guarded
    def edits(self) -> dict[str, StoredEdit]:
        """The edits that count, by id, in the order in which they came."""
        return self._cache("edits", lambda: {s.edit.id: s.edit for s in self._order if s.alive})

    @property
    @guarded
    def undone(self) -> dict[str, StoredEdit]:
        """The edits that were undone."""
        return self._cache("undone", lambda: {s.edit.id: s.edit for s in self._order if not s.alive})

    @property
    @guarded
    def keyless(self) -> list[str]:
        """Ids of the edits whose keys are lost, undone ones too: they do not answer until they are embedded anew."""
        return [s.edit.id for s in self._order if s.keyless]

    @guarded
    def find(self, edit_id: str) -> StoredEdit:
        """An edit, whether it counts or not; the first characters of its id will do where they tell it from others.

        Raises:
            ReasonEditError: There is none, or there are several.
        """
        if edit_id in self._slots:
            return self._slots[edit_id].edit
        near = [name for name in self._slots if edit_id and name.startswith(edit_id)]
        if len(near) > 1:
            raise ReasonEditError(f"Several edits begin with '{edit_id}': {', '.join(near[:5])}. Write more of the id.")
        if not near:
            raise ReasonEditError(f"There is no edit '{edit_id}' in the codebook: 'reasonedit edits list' shows them.")
        return self._slots[near[0]].edit

    @guarded
    def written(self, edit_id: str) -> list[Entry]:
        """What an edit wrote, as it wrote it.

        Raises:
            ReasonEditError: There is no such edit.
        """
        slot = self._slots[self.find(edit_id).id]
        kinds, radii = self.kinds, self._merging.radii.values
        return [
            Entry(self._table[n].clone(), float(radii[n]), Fact(self._texts[n], ENTRIES[int(kinds[n])], slot.edit.id))
            for n in slot.numbers
        ]

    @guarded
    def picture(self, name: str) -> Image.Image:
        """A picture of an edit by its name.

        Raises:
            ReasonEditError: It is not there, or damaged.
        """
        if name in self._pictures:
            return self._pictures[name]
        if self.store is None:
            raise ReasonEditError(f"The picture {name} is not in the codebook.")
        return self.store.picture(name)

    # ---- what changes it

    @guarded
    def check_new(self, edit_id: str) -> None:
        """Refuse an id that is taken.

        Raises:
            ReasonEditError: It is.
        """
        if edit_id in self._slots:
            undone = not self._slots[edit_id].alive
            what = "restore that one, or give the new one another id" if undone else "give the new one another id"
            there = "an undone edit" if undone else "an edit"
            raise ReasonEditError(f"There is {there} '{edit_id}' in the codebook already: {what}.")

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Be the one who changes it, also within itself; what others wrote into the folder is taken in first.

        The folder's lock is taken before the guard, so that nobody who only reads waits for another writer.

        Raises:
            ReasonEditError: Somebody else writes the folder, or it is damaged or must not be changed.
        """
        while True:
            store = self.store
            with store.writing() if store is not None else nullcontext(), self.guard:
                if self.store is store:  # else it was saved elsewhere meanwhile
                    if store is not None and (self._stale or store.changed()):
                        self._catch_up()
                    yield
                    return

    def write(self, edit: Edit, entries: Sequence[Entry]) -> int:
        """Add an edit.

        Args:
            edit: The edit.
            entries: What it writes.

        Returns:
            How many keys are new.

        Raises:
            ReasonEditError: As for :meth:`add`.
        """
        with self.changing():
            self.add([Draft.of(edit, entries)])
            return self.made(edit.id)

    @guarded
    def made(self, edit_id: str) -> int:
        """How many of the keys an edit made; what else it wrote is part of others.

        Raises:
            ReasonEditError: There is no such edit.
        """
        numbers = self._slots[self.find(edit_id).id].numbers
        return int(self._merging.is_key.values[numbers.start : numbers.stop].sum())

    def add(self, drafts: Sequence[Draft]) -> list[StoredEdit]:
        """Add edits, all of them or none. Where there is a folder, they are on the disk when this returns.

        Returns:
            The edits as they are kept, with the edits that each contradicts.

        Raises:
            ReasonEditError: An edit of this id is there already, the keys are of another width or not finite, or the
                folder cannot be written; nothing has changed then.
        """
        with self.changing():
            return self._add(drafts)

    def _add(self, drafts: Sequence[Draft]) -> list[StoredEdit]:
        self._check(drafts)
        # Lightning calls in inference mode; what is kept must be an ordinary tensor.
        with torch.inference_mode(False):
            told: list[Draft] = []
            for draft in drafts:
                contradicts = list(dict.fromkeys([*self._contradicted(draft), *among(draft, told)]))
                told.append(replace(draft, edit=replace(draft.edit, contradicts=contradicts)))
            keys = [[e.key.detach().to("cpu", torch.float32) for e in d.entries] for d in told]
            stacked = [torch.stack(mine).clone() if mine else torch.empty(0, self._table.width or 0) for mine in keys]
            radii = [np.array([e.radius for e in d.entries], np.float32) for d in told]
            events, first = [], len(self._table)
            for draft in told:
                facts = [(e.fact.text, e.fact.entry) for e in draft.entries]
                events.append(Event.of_edit(draft.edit, facts, first))
                first += len(facts)
            self._stale = True  # whatever cuts this short: what is on the disk counts
            if self.store is None:
                for draft in told:
                    self._pictures |= draft.pictures
            else:
                self.store.append(events, zip(stacked, radii, (d.pictures for d in told), strict=True))
            for event, mine, radius in zip(events, stacked, radii, strict=True):
                if len(mine):
                    self._table.append(mine)
                self._describe([event], radius)
                self._happen(event)
            self._stale = False
        return [d.edit for d in told]

    def undo(self, edit_id: str, author: str = "") -> StoredEdit:
        """Take exactly one edit out: what is left is what the other edits alone would have made.

        Args:
            edit_id: Its id, or the beginning of it.
            author: Who undoes it.

        Raises:
            ReasonEditError: There is no such edit, it is undone already, or the folder cannot be written.
        """
        return self._turn("undo", edit_id, author)

    def restore(self, edit_id: str, author: str = "") -> StoredEdit:
        """Put an edit back that was undone, in its old place; arguments and errors as for :meth:`undo`."""
        return self._turn("restore", edit_id, author)

    def _turn(self, op: str, edit_id: str, author: str) -> StoredEdit:
        author = checked_name(author or "", "author")
        with self.changing():
            return self._turned(op, edit_id, author)

    def _turned(self, op: str, edit_id: str, author: str) -> StoredEdit:
        edit = self.find(edit_id)
        if self._slots[edit.id].alive == (op == "restore"):
            state = "undone already" if op == "undo" else "not undone"
            raise ReasonEditError(f"The edit '{edit.id}' is {state}.")
        event = Event.of_turn(op, edit.id, author)
        self._stale = True
        if self.store is not None:
            self.store.append([event])
        self._happen(event)
        self._stale = False
        return edit

    def refresh(self) -> bool:
        """Take in what others wrote into the folder since; whether there was anything.

        Raises:
            ReasonEditError: The folder is damaged.
        """
        with self.guard:
            if self.store is None or not (self._stale or self.store.changed()):
                return False
            return self._catch_up()

    def _catch_up(self) -> bool:
        assert self.store is not None
        if not self._stale:
            self._stale = True  # whatever cuts this short
            came, self._stale = self._take_in()
            if not self._stale:
                return came
        self._read_anew()
        return True

    def _read_anew(self) -> None:
        """Forget what is known: what was written last may be known by half, or everything was written anew."""
        assert self.store is not None
        fresh = EditMemory._read(Store.open(self.store.folder))
        assert fresh.store is not None
        if fresh.store.manifest.id != self.store.manifest.id:
            raise ReasonEditError(f"Another codebook has come into '{self.store.folder}': load it anew.")
        self.store.be_where(fresh.store)
        self._become(fresh)

    def _after_fork(self) -> None:
        """Another thread read or changed it when the process was forked, and is not there in this child."""
        self.removals += 1  # what others keep by number may be half made, too
        if self._stale and self.store is None:
            raise ReasonEditError(
                "The process was forked while another thread changed the codebook, of which there is only what is in "
                "memory: fork when nobody edits, or keep the codebook in a folder."
            )
        if self._stale:
            self._read_anew()

    def _become(self, other: EditMemory) -> None:
        merge, removals = self.merge, self.removals + other.removals + 1
        self.__dict__.update({n: v for n, v in other.__dict__.items() if n not in ("store", "guard", "removals")})
        self.merge, self.removals = merge, removals

    def settle(self, *, join: bool = False) -> None:
        """Put the folder in order, so that it opens faster: fewer files, and what merged where.

        Args:
            join: Make one file of all keys, however few there are.

        Raises:
            ReasonEditError: Somebody else writes, or the folder cannot be written.
        """
        with self.changing():
            if self.store is not None:
                self.store.settle(self._merging.settled, merge=self.merge, join=join)

    def copy_to(self, store: Store) -> None:
        """Write everything into an empty folder, undone edits and their history too, and keep it there from now on.

        Args:
            store: Of :meth:`Store.create`. The codebook is there, whole, when this returns; else it is not there.

        Raises:
            ReasonEditError: The folder cannot be written.
        """
        with store.writing(), self.guard:
            self.refresh()
            settled = (self._merging.settled, self.merge)
            written = (self._as_written(e, pictures=True) for e in self.events if e.edit is not None)
            store.rewrite(self.events, written, settled=settled)
            self.store, self._pictures = store, {}

    def rewrite(self, chosen: Callable[[list[Event]], Sequence[Event]]) -> None:
        """Have other events in the place of those that happened, in one step; see :meth:`Store.rewrite`.

        Everything answers as if these had been all that ever happened.

        Args:
            chosen: Told what happened, says what is to have happened. Edits among it are some of those that are there,
                and keep the keys that they wrote; what follows on them must fit (nothing is undone that is not there).
                It is called once nobody else can write.

        Raises:
            ReasonEditError: The folder cannot be written; nothing has changed then.
        """
        with self.changing():
            events = chosen(list(self.events))
            written = [self._as_written(e) for e in events if e.edit is not None]
            if self.store is None:
                self._become(self._made_of(events, written))
            else:
                self._stale = True  # whatever cuts this short: what is on the disk counts
                self.store.rewrite(events, written)
                self._catch_up()

    def give_keys(self, entries: Mapping[str, Sequence[Entry]]) -> None:
        """Give edits keys again that have lost theirs: in their places, as if they had never been lost.

        Args:
            entries: What each of them writes, by id; edits that have their keys keep them.

        Raises:
            ReasonEditError: The keys are of another width than others or not finite, or the folder cannot be written;
                nothing has changed then.
        """
        with self.changing():
            assert self.store is not None
            self._check_keys(entries)
            events, written = list[Event](), list[Written]()
            for event in self.events:
                made = entries.get(event.edit_id, ()) if event.lost_facts else ()
                facts = [(entry.fact.text, entry.fact.entry) for entry in made]
                events.append(replace(event, facts=facts, lost_facts=[]) if made else event)
                if made:
                    keys = torch.stack([entry.key.detach().to("cpu", torch.float32) for entry in made])
                    written.append((keys, np.array([entry.radius for entry in made], np.float32), {}))
                elif event.edit is not None:
                    written.append(self._as_written(event))
            self._stale = True
            self.store.rewrite(events, written)
            self._catch_up()

    def _made_of(self, events: Sequence[Event], written: Sequence[Written]) -> EditMemory:
        made, first = EditMemory(self.merge), 0
        edits = iter(written)
        for event in events:
            numbered = replace(event, first=first)
            if event.edit is not None:
                keys, radii, _ = next(edits)
                if len(keys):
                    made._table.append(keys)
                made._describe([numbered], radii)
                made._pictures |= {n: self._pictures[n] for n in event.edit.pictures if n in self._pictures}
                first += len(keys)
            made._happen(numbered)
        return made

    def _as_written(self, event: Event, *, pictures: bool = False) -> Written:
        assert event.edit is not None
        numbers = slice(event.first, event.first + len(event.facts))
        seen = {name: self.picture(name) for name in event.edit.pictures} if pictures else {}
        return self._table[numbers], self._merging.radii.values[numbers], seen

    # ---- how it comes about

    def _check(self, drafts: Sequence[Draft]) -> None:
        ids = [d.edit.id for d in drafts]
        for i, name in enumerate(ids):
            self.check_new(name)
            if name in ids[:i]:
                raise ReasonEditError(f"Two edits are called '{name}': give one of them another id.")
        self._check_keys({draft.edit.id: draft.entries for draft in drafts})

    def _check_keys(self, entries: Mapping[str, Sequence[Entry]]) -> None:
        widths = {self._table.width} if self._table.width else set()
        widths |= {len(e.key) for mine in entries.values() for e in mine}
        if len(widths) > 1:
            raise ReasonEditError(
                f"Keys of {' and '.join(str(w) for w in sorted(w or 0 for w in widths))} numbers cannot stand in one "
                "codebook: it was made with another layer or sentence encoder. Use the same ones, or begin a new one."
            )
        for name, mine in entries.items():
            if not all(bool(e.key.isfinite().all()) and 0 <= e.radius < float("inf") for e in mine):
                raise ReasonEditError(
                    f"A key of the edit '{name}' is not finite: the model's numbers overflow on its picture."
                )

    def _contradicted(self, draft: Draft) -> list[str]:
        """Edits that answer otherwise what is, as far as their keys reach, the same question about the same picture."""
        found: dict[str, None] = {}
        for entry in answers(draft) if len(self._table) else ():
            key = entry.key.detach().to("cpu", torch.float32)
            rows = self._merging.nearby(key, entry.radius, _ANSWER)
            for number, distance in zip(rows.tolist(), (self._table[rows] - key).norm(dim=1).tolist(), strict=True):
                if distance <= min(entry.radius, float(self._merging.radii.values[number])):
                    edit = self._order[int(self._owner.values[number])].edit
                    if contradict(draft.edit, edit):
                        found[edit.id] = None
        return list(found)

    def _take_in(self) -> tuple[bool, bool]:
        """Read what the folder has and the memory has not: whether that was anything, and whether all is to be read."""
        assert self.store is not None
        news = self.store.news(len(self._table), frozenset(self._slots), self._table.width)
        if news.anew:
            return False, True
        for keys, mapped in news.keys:
            if mapped and not len(self._texts):
                self._table.map(keys)
            else:
                self._table.append(keys)
        self._describe([e for e in news.events if e.edit is not None], news.radii)
        settled = news.settled if news.founders is not None and news.merge == self.merge else 0
        if news.founders is not None and settled:
            for event in news.events[:settled]:
                if event.op != "erase":
                    self._slots[event.edit_id].alive = event.op != "undo"
            self.events += news.events[:settled]
            self._cached.clear()
            alive = np.array([s.alive for s in self._order], np.bool_)[self._owner.values[: len(news.founders)]]
            self._merging.settle(news.founders, alive)
            self.removals += 1
        for event in news.events[settled:]:
            self._happen(event)
        return bool(news.events), False

    def _describe(self, events: Sequence[Event], radii: np.ndarray[Any, Any]) -> None:
        """Give what edits write its numbers; their keys are in the table already."""
        first = len(self._order)
        for event in events:
            assert event.edit is not None
            numbers = range(event.first, event.first + len(event.facts))
            slot = _Slot(event.edit, numbers, keyless=bool(event.lost_facts))
            self._slots[event.edit.id] = slot
            self._order.append(slot)
            self._texts += [text for text, _ in event.facts]
        kinds = np.array([_KINDS[entry] for event in events for _, entry in event.facts], np.uint8)
        self._owner.extend(np.repeat(np.arange(first, len(self._order)), [len(event.facts) for event in events]))
        self._merging.extend(kinds, radii)

    def _happen(self, event: Event) -> None:
        self.events.append(event)
        self._cached.clear()
        if event.op == "erase":  # nothing of what was erased is here
            return
        slot = self._slots[event.edit_id]
        slot.alive = event.op != "undo"
        if event.op == "edit":
            self._merging.take(slot.numbers)
        else:
            self.removals += 1
            self._merging.turn(slot.numbers, slot.alive)

    def _cache(self, name: str, make: Callable[[], T]) -> T:
        if name not in self._cached:
            self._cached[name] = make()
        found: T = self._cached[name]
        return found
