"""A codebook in step with its folder: it reads what others write there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import numpy as np
from PIL import Image

from reasonedit.errors import ConflictError, NotFoundError, UnavailableError
from reasonedit.util.threads import Guard, guarded

from .contents import Contents
from .disk.store import Store

M = TypeVar("M", bound="SyncedContents")


class SyncedContents(Contents):
    """What is in a codebook, in memory alone or in step with a folder.

    Args:
        merge: Whether a new key merges into an old one that it nearly coincides with.
        across_kinds: Whether it may be of another kind; see :class:`~reasonedit.codebook.merging.Merging`.

    Attributes:
        store: The folder, in which every change is written before it counts; ``None`` for a codebook in memory alone.
    """

    def __init__(self, merge: bool = True, across_kinds: bool = True) -> None:
        super().__init__(merge, across_kinds, Guard(self._after_fork))
        self.store: Store | None = None
        self._stale = False  # a change was cut short: the folder may hold more than is known here
        self._pictures: dict[str, Image.Image] = {}

    @classmethod
    def read(cls: type[M], store: Store) -> M:
        """Read what a folder holds.

        Raises:
            DamagedError: The folder is damaged.
            UnreadableError: A file of it cannot be read now.
        """
        memory = cls(store.manifest.merge, store.manifest.across_kinds)
        memory.store = store
        memory._take_in()
        return memory

    @guarded
    def picture(self, name: str) -> Image.Image:
        """A picture of an edit by its name.

        Raises:
            NotFoundError: It is not there.
            DamagedError: It is damaged.
        """
        if name in self._pictures:
            return self._pictures[name]
        if self.store is None:
            raise NotFoundError(f"The picture {name} is not in the codebook.")
        return self.store.picture(name)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Be the only one who changes the codebook, and first read what others wrote; may be nested.

        The folder's lock is taken before the guard, so that nobody who only reads waits for another writer.

        Raises:
            LockedError: Somebody else writes the folder.
            ReasonEditError: The folder is damaged, or must not be changed.
        """
        while True:
            store = self.store
            with store.writing() if store is not None else nullcontext(), self.guard:
                if self.store is store:  # else it was saved elsewhere meanwhile
                    if store is not None and (self._stale or store.changed()):
                        self._catch_up()
                    yield
                    return

    def refresh(self) -> bool:
        """Read what others wrote into the folder since; whether there was anything.

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
            self._stale = True  # in case this is cut short
            is_new, self._stale = self._take_in()
            if not self._stale:
                return is_new
        self._read_anew()
        return True

    def _read_anew(self) -> None:
        """Forget everything and read the folder: the last change may be half known, or all was written anew."""
        assert self.store is not None
        fresh = type(self).read(Store.open(self.store.folder))
        assert fresh.store is not None
        if fresh.store.manifest.id != self.store.manifest.id:
            raise ConflictError(f"Another codebook has come into '{self.store.folder}': load it again.")
        self.store.adopt_state(fresh.store)
        self._become(fresh)

    def _after_fork(self) -> None:
        """Put things right in a child whose parent forked while another of its threads held the guard."""
        self.removals += 1  # what others keep may be half made, too
        self.renumbered += 1
        if self._stale and self.store is None:
            raise UnavailableError(
                "The process was forked while another thread changed the codebook, of which there is only what is in "
                "memory: fork when nobody edits, or keep the codebook in a folder."
            )
        if self._stale:
            self._read_anew()

    def _become(self, other: SyncedContents) -> None:
        """Take over everything but the folder and the guard."""
        stays = ("store", "guard", "removals", "renumbered")
        merge, removals = self.merge, self.removals + other.removals + 1
        self.__dict__.update({name: value for name, value in other.__dict__.items() if name not in stays})
        self.merge, self.removals = merge, removals
        self.renumbered += 1

    def _take_in(self) -> tuple[bool, bool]:
        """Read what the folder has and the memory has not.

        Returns:
            Whether there was anything, and whether everything has to be read anew instead.
        """
        assert self.store is not None
        news = self.store.news(len(self._table), frozenset(self._slots), self._table.width)
        if news.anew:
            return False, True
        for keys, mapped in news.keys:
            if mapped and not len(self._texts):
                self._table.map(keys)
            else:
                self._table.append(keys)
        self._add_slots([e for e in news.events if e.edit is not None], news.radii)
        settled = news.settled if news.founders is not None and news.merge == self.merge else 0
        if news.founders is not None and settled:
            for event in news.events[:settled]:
                if event.op != "erase":
                    self._slots[event.edit_id].counts = event.op != "undo"
            self.events += news.events[:settled]
            self._cached.clear()
            counts = np.array([s.counts for s in self._order], np.bool_)[self._owner.values[: len(news.founders)]]
            self._merging.settle(news.founders, counts)
            self.removals += 1
        for event in news.events[settled:]:
            self._apply(event)
        return bool(news.events), False
