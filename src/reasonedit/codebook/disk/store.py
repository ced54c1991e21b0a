"""A codebook's folder: what is acknowledged is on the disk, and what is on the disk is whole.

======================== =============================================================================================
``codebook.json``        the manifest, replaced as a whole: how far everything else goes
``journal.jsonl``        what happened, one line each, only ever appended to: edits with text, evidence, author and time
``pictures/``            the edits' pictures, lossless, each under the name of its pixels
``keys/``                keys and radii (safetensors): a file per edit, from time to time joined
``statistics.*``         what the embedding needs (safetensors)
``settled.*``            which keys merged; made anew where it is missing
======================== =============================================================================================

Where everything was written anew, so that something is repaired or erased, the names begin with how often.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from reasonedit.errors import ReasonEditError

from ..events import Event
from . import begun, snapshot, tidying, writing
from .errors import DamagedError, write_error
from .files import is_there, write_atomically
from .journal import Journal
from .layout import KEYS, PICTURES, journal_name, journals, statistics_name
from .lock import WriterLock
from .manifest import MANIFEST, Manifest
from .reading import News, ReadSoFar, read_news
from .tensors import digest_of, load_statistics
from .writing import EditArrays

_LOOSE = 64
"""More files of single edits than this are joined when the folder is put in order."""
_TRIES = 5


class Store:
    """Writes what happens to a codebook into its folder, and reads it.

    Use :meth:`create` and :meth:`open`.

    Attributes:
        folder: The folder.
        manifest: What it holds, as it was read or written last.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, read_only: bool = False) -> None:
        self.folder = folder.absolute()  # the process may change its working folder
        self.manifest = manifest
        self.read_only = read_only
        self._lock = WriterLock(self.folder)
        self._known = ReadSoFar()
        self._stamp: object = None
        self._statistics: Mapping[str, Tensor] | None = None  # of a codebook that is not in the folder yet

    @staticmethod
    def exists(folder: str | os.PathLike[str]) -> bool:
        """Whether a folder holds a codebook."""
        return is_there(Path(folder) / MANIFEST)

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        fingerprint: Mapping[str, Any],
        config: Mapping[str, Any],
        statistics: Mapping[str, Tensor],
        merge: bool = True,
    ) -> Store:
        """Make ready to begin a codebook; it is there with the first that is written, whole or not at all.

        Args:
            folder: Made when it does not exist.
            fingerprint: What makes the keys.
            config: What is needed to go on with the same settings.
            statistics: Tensors that the embedding needs.
            merge: Whether keys merge.

        Raises:
            ReasonEditError: There is one already, or the folder cannot be written.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        store = cls(Path(folder), Manifest(uuid.uuid4().hex, now, dict(fingerprint), dict(config), merge))
        store._statistics = statistics
        store._refuse_another()
        with store._writes():
            for part in (store.folder, store.folder / KEYS, store.folder / PICTURES):
                writing.make_folder(part)
        return store

    def _refuse_another(self) -> None:
        if self.exists(self.folder):
            raise ReasonEditError(
                f"There is a codebook in '{self.folder}' already: load that one, or name another folder."
            )
        begun.refuse_lost(self.folder)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, read_only: bool = False) -> Store:
        """Go on with a codebook.

        Args:
            folder: Where it is.
            read_only: Whether it must not be changed.

        Raises:
            ReasonEditError: There is none, or it is of another format.
            DamagedError: It is damaged.
        """
        return cls(Path(folder), Manifest.read(Path(folder)), read_only=read_only)

    # ---- reading

    def changed(self) -> bool:
        """Whether the folder may hold more than was read."""
        return self._stamp is None or self._stamp != self._seen()

    def reading(self) -> AbstractContextManager[None]:
        """Have the files stay meanwhile that the manifest names, whoever puts the folder in order."""
        return snapshot.reading(self.folder)

    def news(self, numbers: int = 0, ids: frozenset[str] = frozenset(), width: int | None = None) -> News:
        """What is there beyond what was read; the folder may be written meanwhile.

        Args:
            numbers: How many keys are known.
            ids: The edits.
            width: Numbers per key, where there is a key.

        Raises:
            DamagedError: A file is missing, torn or changed.
            ReasonEditError: Another codebook is there now.
        """
        for tries in range(_TRIES):
            with self.reading():
                stamp = self._seen()
                manifest = Manifest.read(self.folder)
                if manifest.id != self.manifest.id:
                    raise ReasonEditError(f"Another codebook has come into '{self.folder}': load it anew.")
                if self._known.mark.records and manifest.generation != self.manifest.generation:
                    return News(anew=True)
                try:
                    news, known = read_news(self.folder, manifest, self._known, numbers, ids, width)
                except DamagedError:  # where the file system has no locks, files may go while they are read
                    if self._seen() == stamp or tries == _TRIES - 1:
                        raise
                else:
                    self.manifest, self._stamp, self._known = manifest, stamp, known
                    return news
        raise AssertionError("unreachable")

    def adopt_state(self, other: Store) -> None:
        """Have read what another reader of the same folder has read."""
        self.manifest, self._stamp, self._known = other.manifest, other._stamp, other._known

    def statistics(self) -> dict[str, Tensor]:
        """What the embedding needs.

        Raises:
            DamagedError: The file is damaged, or is not the one that the codebook was made with.
            UnreadableError: It must not be read.
        """
        sums, digest = self.manifest.statistics, self.manifest.statistics_digest
        return {} if sums is None else load_statistics(sums.check(self.folder), digest)

    def picture(self, name: str) -> Image.Image:
        """A picture by its name.

        Raises:
            DamagedError: It is missing or not what was written.
        """
        return writing.read_picture(self.folder, name)

    # ---- writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one who writes, also within itself.

        Raises:
            ReasonEditError: Somebody else writes, which says who; or the folder must not be changed.
        """
        if self.read_only:
            raise ReasonEditError(
                f"The codebook in '{self.folder}' is a copy from the Hub and is not changed: save it into a "
                "folder first."
            )
        with self._lock.hold():
            yield

    def append(self, events: Sequence[Event], written: Iterable[EditArrays] = ()) -> None:
        """Write events, all of them or none; when this returns they are on the disk.

        Args:
            events: What happens.
            written: For each edit among them its keys, their radii, and its pictures.

        Raises:
            ReasonEditError: They cannot be written; what was there is unchanged.
        """
        if self._statistics is not None:
            self.rewrite(events, written)
            return
        self._lock.check()
        self._refuse_changed()
        with self._writes():
            # Of somebody who was cut short: were the manifest lost, it would be taken for what came last.
            for path, generation in journals(self.folder):
                if generation > self.manifest.generation:
                    path.unlink()
            content = writing.write_edits(self.folder, self.manifest, events, written)
            mark = Journal(self.folder / self.manifest.journal_file).append(content.records, self.manifest.journal)
            self._commit(replace(self.manifest, journal=mark, numbers=content.numbers))
        self._known = ReadSoFar(mark, (*self._known.loose, *content.loose), self._known.pictures | content.pictures)

    def rewrite(
        self,
        events: Sequence[Event],
        written: Iterable[EditArrays] = (),
        *,
        statistics: Mapping[str, Tensor] | None = None,
        settled: tuple[np.ndarray[Any, Any], bool] | None = None,
    ) -> None:
        """Put other events in the place of all that the folder holds, in one step; or begin a codebook with them.

        A new journal, a new file of all keys and, where given, new statistics are written beside the old ones, under
        names of their own (the next ``generation``). Only once all of them, and their names in their folders, are on
        the disk the manifest that names them takes the place of the old one: that is the step. Cut short at any moment
        (killed, power lost, disk full) the folder holds the old codebook or the new one, whole and under the same name,
        id and lock, never neither and never something between. Where this raises, the old one counts; only where the
        disk fails in that very step it may be either. Pictures are added, and none is replaced that is whole. What the
        new manifest does not name is removed afterwards, as :meth:`tidy` does.

        This does not read what is there: where the manifest is lost or damaged, repair makes a store with one that says
        id, fingerprint and config, and has it written by this.

        Args:
            events: What happened, all of it, in order; edits are numbered anew, whatever their ``first`` says.
            written: For each edit among them its keys, their radii (as many as it has facts), and those of its pictures
                that may not be in the folder yet. It is read once, edit by edit.
            statistics: Tensors that the embedding needs; when not given they stay as they are.
            settled: What merged where, and whether keys merge, as :meth:`settle` is told; found when the folder is
                opened where it is not given.

        Raises:
            ReasonEditError: It cannot be written, there is a codebook where one is to be begun, or the folder was
                changed since it was read; what was there is unchanged.
            ValueError: An edit has not as many keys as facts.
        """
        self._lock.check()
        fresh = self._statistics is not None
        if fresh:
            self._refuse_another()
        elif self._stamp is not None:
            self._refuse_changed()
        generation, stamp = 0 if fresh else self._next(), self._seen()
        manifest = replace(self.manifest, generation=generation, journal_file=journal_name(generation), settled=None)
        statistics = self._statistics if fresh else statistics
        try:
            with self._writes():
                if fresh:
                    begun.write_note(self.folder, manifest.id, 1 + len(events))
                if statistics:
                    sums = writing.write_file(self.folder, statistics_name(generation), statistics)
                    manifest = replace(manifest, statistics=sums, statistics_digest=digest_of(statistics))
                manifest, content = writing.write_all(self.folder, manifest, events, written)
                if settled is not None and len(settled[0]):
                    manifest = writing.write_merges(self.folder, manifest, len(events), *settled)
                records = [writing.head_record(manifest), *content.records]
                with write_atomically(self.folder / manifest.journal_file) as file:
                    mark = Journal.begin(file, records)
                self._commit(replace(manifest, journal=mark))
        except BaseException:
            if fresh:  # there is one or there is none
                tidying.remove([self.folder / MANIFEST])
            if self._seen() == stamp:
                tidying.remove([path for path, told in tidying.own_files(self.folder) if told.generation == generation])
                begun.remove_note(self.folder)
            raise
        self._known, self._statistics = ReadSoFar(mark, (), frozenset(content.pictures)), None
        self.tidy()

    def settle(self, founders: np.ndarray[Any, Any], *, merge: bool, join: bool = False) -> None:
        """Keep what merged where, and join the files of single edits where there are many.

        Args:
            founders: For each number the key it is part of, -1 where it does not count.
            merge: Whether keys merge.
            join: Join all files of keys into one, in any case; and remove what nothing refers to.

        Raises:
            ReasonEditError: The folder cannot be written; what was there is unchanged.
        """
        self._lock.check()
        before = manifest = self.manifest
        happened = before.journal.records - 1  # the first one made the codebook
        with self._writes():
            if (before.settled is None or before.settled.records < happened) and len(founders):
                manifest = writing.write_merges(self.folder, manifest, happened, founders, merge)
            if join or len(self._known.loose) > _LOOSE:
                manifest = writing.join_keys(self.folder, manifest, self._known.loose, everything=join)
            if manifest != before:
                self._commit(manifest)
        if manifest.sealed != before.sealed:
            self._known = replace(self._known, loose=())
        if join or manifest != before:
            self.tidy()

    # ---- order

    def leftovers(self) -> list[Path]:
        """Files that were written here and to which nothing refers any more; what others put into the folder is none.

        None are told while somebody writes, or has written since the folder was read: what lies there may be on its
        way.
        """
        if self.read_only or self.changed():
            return []
        if self._lock.held:
            return self._dead()
        try:
            with WriterLock(self.folder, patience=0).hold():
                return [] if self.changed() else self._dead()
        except ReasonEditError:
            return []

    def _dead(self) -> list[Path]:
        loose = {part.sums.file for part in self._known.loose}
        return tidying.leftovers(self.folder, self.manifest, loose, self._known.pictures)

    def tidy(self, patience: float = 0.0) -> list[Path]:
        """Remove :meth:`leftovers`, unless somebody reads the folder.

        Args:
            patience: How many seconds readers are waited for.

        Returns:
            What is still there.
        """
        self._lock.check()
        with snapshot.removing(self.folder, patience) as alone:
            dead = self.leftovers()
            if alone:
                tidying.remove(dead)
        return [path for path in dead if path.exists()]

    def _next(self) -> int:
        """A generation of which there is no file yet, whoever was cut short."""
        return 1 + max([self.manifest.generation, *(told.generation for _, told in tidying.own_files(self.folder))])

    def _commit(self, manifest: Manifest) -> None:
        manifest.write(self.folder)
        self.manifest, self._stamp = manifest, self._seen()

    def _seen(self) -> tuple[int, int, int] | None:
        with contextlib.suppress(OSError):
            there = (self.folder / MANIFEST).stat()
            return there.st_ino, there.st_mtime_ns, there.st_size
        return None

    def _refuse_changed(self) -> None:
        """Refuse to write where somebody wrote since it was read: what they acknowledged must not be cut off."""
        if self.changed():
            raise ReasonEditError(f"The codebook in '{self.folder}' has changed: load it anew.")

    @contextmanager
    def _writes(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(self.folder, error) from error
