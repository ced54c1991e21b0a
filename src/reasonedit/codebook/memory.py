"""The codebook: keys with the facts they stand for (section 3 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from reasonedit.errors import ReasonEditError
from reasonedit.threads import Guard, guarded
from reasonedit.types import Edit
from reasonedit.validation import check_name

from .contents import Contents
from .contradictions import among
from .disk.store import Store
from .disk.writing import Written
from .events import Event
from .records import Draft, Entry, StoredEdit

_log = logging.getLogger(__name__)


class EditMemory(Contents):
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
        super().__init__(merge, Guard(self._after_fork))
        self.store: Store | None = None
        self._stale = False  # what is known may be half of what is in the folder
        self._pictures: dict[str, Image.Image] = {}

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
            return self.key_count(edit.id)

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
                facts = [(e.fact.text, e.fact.kind.value) for e in draft.entries]
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
        author = check_name(author or "", "author")
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
                facts = [(entry.fact.text, entry.fact.kind.value) for entry in made]
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
