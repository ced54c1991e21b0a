"""The codebook: keys with the facts they stand for (section 3 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reasonedit.errors import ConflictError, InputError, MismatchError
from reasonedit.types import Edit
from reasonedit.util.threads import guarded
from reasonedit.validation import check_name

from .contradictions import contradicted_among
from .disk.store import Store
from .disk.writing import EditArrays
from .drafts import Draft, Entry
from .events import Event
from .stored_edit import StoredEdit
from .synced import SyncedContents

_log = logging.getLogger(__name__)


class EditMemory(SyncedContents):
    """Keys, radii, facts and edits, in the order in which they came.

    Each entry that an edit writes has a number that it keeps. Most entries become keys; some merge into a key that is
    there. Which do depends only on the edits that count and on their order: undoing an edit leaves what the others
    alone would have made, and restoring it what was there before.

    Any number of threads may use it. Each method reads one moment; whoever needs several things of the same moment
    holds :attr:`guard` meanwhile and changes nothing then: see :meth:`changing`.

    Args:
        merge: Whether a new key merges into an old one that it nearly coincides with.
        across_kinds: Whether it may be of another kind; see :class:`~reasonedit.codebook.merging.Merging`.

    Attributes:
        store: The folder, in which every change is written before it counts; ``None`` for a codebook in memory alone.
        guard: The lock that each method holds; a thread may take it again.
        removals: Grows with every change other than a new edit. Whoever keeps something by number compares it.
        events: What happened, in order.
    """

    @classmethod
    def open(cls, store: Store) -> EditMemory:
        """Read what a folder holds, and warn of edits that have lost their keys.

        Raises:
            DamagedError: The folder is damaged.
            UnreadableError: A file of it cannot be read now.
        """
        memory = cls.read(store)
        if memory.keyless:
            _log.warning(
                "%d of %d edits in '%s' have lost their keys and do not answer: 'reasonedit codebook repair' embeds "
                "them again.",
                len(memory.keyless),
                len(memory._order),
                store.folder,
            )
        return memory

    @guarded
    def fork(self) -> EditMemory:
        """A codebook in memory that begins with what this one holds and goes on by itself: to try something out.

        The keys are shared, not copied.
        """
        fork = EditMemory(self.merge, self.across_kinds)
        fork._begin_as(self)
        fork._pictures = dict(self._pictures)
        return fork

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
            The edits as they are kept, each with the ids of the edits that it contradicts.

        Raises:
            ConflictError: An edit of this id is there already.
            InputError: Two of the edits have the same id, or a key is not finite.
            MismatchError: The keys are of another width.
            ReasonEditError: The folder cannot be written. Nothing has changed in any of these cases.
        """
        with self.changing():
            return self._add(drafts)

    def replace(self, edit_id: str, draft: Draft) -> StoredEdit:
        """Put an edit in the place of one that was wrong, in one step: both happen, or neither.

        The new edit comes last, the old one is undone by the new one's author. The result is the same as if the old one
        had been undone first: so the new one does not contradict it.

        Args:
            edit_id: The id of the old edit.
            draft: The new edit.

        Returns:
            The new edit as it is kept.

        Raises:
            NotFoundError: There is no such edit.
            ConflictError: It is undone already.
            ReasonEditError: As for :meth:`add`.
        """
        with self.changing():
            self._check_turn("undo", edit_id)
            # The new edit is recorded first: if ever only the beginning of an append can be saved from a damaged
            # folder, both edits are there rather than neither.
            return self._add([draft], [Event.now("undo", edit_id, check_name(draft.edit.author, "author"))])[0]

    def _add(self, drafts: Sequence[Draft], turns: Sequence[Event] = ()) -> list[StoredEdit]:
        """Add edits, then undo others, in one step."""
        self._check(drafts)
        # Lightning calls in inference mode; what is kept must be an ordinary tensor.
        with torch.inference_mode(False):
            drafts = self._note_contradictions(drafts, {turn.edit_id for turn in turns})
            keys = [_stack_keys(d.entries, self._table.width or 0) for d in drafts]
            radii = [np.array([e.radius for e in d.entries], np.float32) for d in drafts]
            events, first = [], len(self._table)
            for draft in drafts:
                events.append(Event.of_edit(draft.edit, _facts_of(draft.entries), first))
                first += len(draft.entries)
            self._stale = True  # in case this is cut short: what is on the disk counts
            if self.store is None:
                for draft in drafts:
                    self._pictures |= draft.pictures
            else:
                self.store.append([*events, *turns], zip(keys, radii, (d.pictures for d in drafts), strict=True))
            for event, keys_of_edit, radii_of_edit in zip(events, keys, radii, strict=True):
                if len(keys_of_edit):
                    self._table.append(keys_of_edit)
                self._add_slots([event], radii_of_edit)
                self._apply(event)
            for turn in turns:
                self._apply(turn)
            self._stale = False
        return [d.edit for d in drafts]

    def _note_contradictions(self, drafts: Sequence[Draft], going: Collection[str]) -> list[Draft]:
        """Have each draft name the edits that it contradicts: those in the codebook and the drafts before it.

        Args:
            drafts: The drafts.
            going: Ids of edits that will not count any more.
        """
        noted: list[Draft] = []
        for draft in drafts:
            ids = dict.fromkeys([*self._find_contradicted(draft), *contradicted_among(draft, noted)])
            stays = [edit_id for edit_id in ids if edit_id not in going]
            noted.append(replace(draft, edit=replace(draft.edit, contradicts=stays)))
        return noted

    def undo(self, edit_id: str, author: str = "") -> StoredEdit:
        """Take exactly one edit out: what is left is what the other edits alone would have made.

        Args:
            edit_id: Its whole id.
            author: Who undoes it.

        Raises:
            NotFoundError: There is no such edit.
            ConflictError: It is undone already.
            ReasonEditError: The folder cannot be written.
        """
        return self._set_counts("undo", edit_id, author)

    def restore(self, edit_id: str, author: str = "") -> StoredEdit:
        """Put an edit back that was undone, in its old place; arguments and errors as for :meth:`undo`."""
        return self._set_counts("restore", edit_id, author)

    def _set_counts(self, op: str, edit_id: str, author: str) -> StoredEdit:
        author = check_name(author or "", "author")
        with self.changing():
            self._check_turn(op, edit_id)
            event = Event.now(op, edit_id, author)
            self._stale = True
            if self.store is not None:
                self.store.append([event])
            self._apply(event)
            self._stale = False
            return self.find(edit_id)

    def _check_turn(self, op: str, edit_id: str) -> None:
        self.find(edit_id)  # one that is not there is refused
        if self._slots[edit_id].counts == (op == "restore"):
            raise ConflictError(f"The edit '{edit_id}' is {'undone already' if op == 'undo' else 'not undone'}.")

    def settle(self, *, join: bool = False) -> None:
        """Make the folder open faster: write what merged where, and join files of keys.

        Args:
            join: Make one file of all keys, however few there are.

        Raises:
            LockedError: Somebody else writes.
            ReasonEditError: The folder cannot be written.
        """
        with self.changing():
            if self.store is not None:
                self.store.settle(self._merging.settled, merge=self.merge, join=join)

    def copy_to(self, store: Store) -> None:
        """Write everything into an empty folder, undone edits and the history too, and keep it there from now on.

        What others wrote into the old folder since it was read is not looked for: :meth:`refresh` does so.

        Args:
            store: Of :meth:`Store.create`. The codebook is there, whole, when this returns; else it is not there.

        Raises:
            ReasonEditError: The folder cannot be written.
        """
        with store.writing(), self.guard:
            settled = (self._merging.settled, self.merge)
            written = (self._arrays_of(e, pictures=True) for e in self.events if e.edit is not None)
            store.manifest = replace(store.manifest, across_kinds=self.across_kinds)
            store.rewrite(self.events, written, settled=settled)
            self.store, self._pictures = store, {}

    def rewrite(self, choose: Callable[[list[Event]], Sequence[Event]]) -> None:
        """Replace what happened by other events, in one step; see :meth:`Store.rewrite`.

        Everything answers as if these had been all that ever happened.

        Args:
            choose: Given what happened, says what is to have happened. Its edits are some of those that are there, and
                keep their keys; later events must fit (none undoes an edit that is not there). It is called once nobody
                else can write.

        Raises:
            ReasonEditError: The folder cannot be written; nothing has changed then.
        """
        with self.changing():
            events = choose(list(self.events))
            written = [self._arrays_of(e) for e in events if e.edit is not None]
            if self.store is None:
                self._become(self._build(events, written))
            else:
                self._stale = True  # in case this is cut short: what is on the disk counts
                self.store.rewrite(events, written)
                self._catch_up()

    def give_keys(self, entries: Mapping[str, Sequence[Entry]]) -> None:
        """Give keys to edits that have lost theirs: in their places, as if they had never been lost.

        Args:
            entries: What each of them writes, by id; edits that have their keys keep them.

        Raises:
            MismatchError: The keys are of another width than others.
            InputError: A key is not finite.
            ReasonEditError: The folder cannot be written. Nothing has changed in any of these cases.
        """
        with self.changing():
            assert self.store is not None
            self._check_keys(entries, {self._table.width} if self._table.width else set())
            events, written = self._exchange_keys(entries, lost=True)
            self._stale = True
            self.store.rewrite(events, written)
            self._catch_up()

    def replace_keys(
        self, entries: Mapping[str, Sequence[Entry]], statistics: Mapping[str, Tensor], config: Mapping[str, Any]
    ) -> None:
        """Replace keys by those that other statistics make, in one step: the old ones count, or the new ones.

        Args:
            entries: What edits write, by id; undone ones too. Others keep their keys.
            statistics: The other statistics, as tensors.
            config: In place of what the folder's manifest says of the same settings.

        Raises:
            MismatchError: The keys are not all of one width.
            InputError: A key is not finite.
            ReasonEditError: The folder cannot be written. Nothing has changed in any of these cases.
        """
        with self.changing(), torch.inference_mode(False):
            events, written = self._exchange_keys(entries, lost=False)
            self._check_keys(entries, {keys.shape[1] for keys, _, _ in written if len(keys)})
            if self.store is None:
                self._become(self._build(events, written))
            else:
                self._stale = True  # in case this is cut short: what is on the disk counts
                self.store.rewrite(events, written, statistics=statistics, config=config)
                self._catch_up()

    def _exchange_keys(
        self, entries: Mapping[str, Sequence[Entry]], *, lost: bool
    ) -> tuple[list[Event], list[EditArrays]]:
        """What happened, with other keys of edits that have lost theirs, or of those that have not."""
        events, written = list[Event](), list[EditArrays]()
        for event in self.events:
            new = entries.get(event.edit_id, ()) if event.edit is not None and bool(event.lost_facts) is lost else ()
            events.append(replace(event, facts=_facts_of(new), lost_facts=[]) if new else event)
            if new:
                written.append((_stack_keys(new, 0), np.array([e.radius for e in new], np.float32), {}))
            elif event.edit is not None:
                written.append(self._arrays_of(event))
        return events, written

    def _build(self, events: Sequence[Event], written: Sequence[EditArrays]) -> EditMemory:
        """A memory in which these events happened."""
        memory, first = EditMemory(self.merge, self.across_kinds), 0
        edits = iter(written)
        for event in events:
            numbered = replace(event, first=first)
            if event.edit is not None:
                keys, radii, _ = next(edits)
                if len(keys):
                    memory._table.append(keys)
                memory._add_slots([numbered], radii)
                memory._pictures |= {n: self._pictures[n] for n in event.edit.pictures if n in self._pictures}
                first += len(keys)
            memory._apply(numbered)
        return memory

    def _arrays_of(self, event: Event, *, pictures: bool = False) -> EditArrays:
        """Keys and radii of an edit, and its pictures where they are wanted."""
        assert event.edit is not None
        numbers = slice(event.first, event.first + len(event.facts))
        images = {name: self.picture(name) for name in event.edit.pictures} if pictures else {}
        return self._table[numbers], self._merging.radii.values[numbers], images

    def _check(self, drafts: Sequence[Draft]) -> None:
        ids = [d.edit.id for d in drafts]
        for i, name in enumerate(ids):
            self.check_new(name)
            if name in ids[:i]:
                raise InputError(f"Two edits are called '{name}': give one of them another id.")
        entries = {draft.edit.id: draft.entries for draft in drafts}
        self._check_keys(entries, {self._table.width} if self._table.width else set())

    def _check_keys(self, entries: Mapping[str, Sequence[Entry]], widths: set[int]) -> None:
        """Refuse keys that are not finite, or of another width than others in the codebook have."""
        widths = widths | {len(e.key) for entries_of_edit in entries.values() for e in entries_of_edit}
        if len(widths) > 1:
            raise MismatchError(
                f"Keys of {' and '.join(str(w) for w in sorted(widths))} numbers cannot stand in one "
                "codebook: it was made with another layer or sentence encoder. Use the same ones, or begin a new one."
            )
        for name, entries_of_edit in entries.items():
            if not all(bool(e.key.isfinite().all()) and 0 <= e.radius < float("inf") for e in entries_of_edit):
                raise InputError(
                    f"A key of the edit '{name}' is not finite: the model's numbers overflow on its picture."
                )


def _stack_keys(entries: Sequence[Entry], width: int) -> torch.Tensor:
    """The keys of entries: (n, D) float32 on the CPU; (0, width) of none."""
    if not entries:
        return torch.empty(0, width)
    return torch.stack([e.key.detach().to("cpu", torch.float32) for e in entries]).clone()


def _facts_of(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    return [(e.fact.text, e.fact.kind.value) for e in entries]
