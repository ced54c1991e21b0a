"""A codebook's folder: what is acknowledged is on the disk, and what is on the disk is whole.

======================== =============================================================================================
``codebook.json``        the manifest, replaced as a whole: how far everything else goes
``journal.jsonl``        what happened, one line each, only ever appended to: edits with text, evidence, author and time
``pictures/``            the edits' pictures, lossless, each under the name of its pixels
``keys/``                keys and radii (safetensors): a file per edit, from time to time joined
``statistics.*``         what the embedding needs (safetensors)
``settled.*``            which keys merged; made anew where it is missing
======================== =============================================================================================

Where everything was written anew, to repair or erase something, the names begin with how often.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from reasonedit.errors import ConflictError, ReasonEditError

from ..events import Event
from . import begun, snapshot, tidying, writing
from .errors import write_error
from .files import write_atomically
from .journal import Journal
from .layout import KEYS, PICTURES, journal_name, journals, statistics_name
from .lock import WriterLock
from .manifest import MANIFEST, Manifest, stamp_of
from .reading import ReadSoFar
from .store_reader import StoreReader
from .tensors import digest_of
from .writing import EditArrays, JournalContent

_MOST_LOOSE = 64
"""More files of single edits than this are joined when merges are saved."""


class Store(StoreReader):
    """Writes what happens to a codebook into its folder, and reads it.

    Use :meth:`create` and :meth:`open`.

    Args:
        folder: The folder.
        manifest: What it holds.
        read_only: Whether it must not be changed.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, read_only: bool = False) -> None:
        super().__init__(folder, manifest)
        self.read_only = read_only
        self._lock = WriterLock(self.folder)
        self._statistics: Mapping[str, Tensor] | None = None  # of a codebook that is not in the folder yet

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        fingerprint: Mapping[str, Any],
        config: Mapping[str, Any],
        statistics: Mapping[str, Tensor],
        merge: bool = True,
        across_kinds: bool = True,
    ) -> Store:
        """Prepare a new codebook; it is there, whole or not at all, once the first events are written.

        Args:
            folder: Made where it does not exist.
            fingerprint: What makes the keys.
            config: What is needed to go on with the same settings.
            statistics: Tensors that the embedding needs.
            merge: Whether keys merge.
            across_kinds: Whether keys of different kinds merge.

        Raises:
            ConflictError: There is a codebook already.
            UnavailableError: The folder cannot be written.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        manifest = Manifest(uuid.uuid4().hex, now, dict(fingerprint), dict(config), merge, across_kinds=across_kinds)
        store = cls(Path(folder), manifest)
        store._statistics = statistics
        store._refuse_another()
        with store._report_write_errors():
            for part in (store.folder, store.folder / KEYS, store.folder / PICTURES):
                writing.make_folder(part)
        return store

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, read_only: bool = False) -> Store:
        """Go on with a codebook.

        Args:
            folder: Where it is.
            read_only: Whether it must not be changed.

        Raises:
            NotFoundError: There is none.
            InputError: It is of another format.
            DamagedError: It is damaged.
            UnreadableError: It must not be read.
        """
        return cls(Path(folder), Manifest.read(Path(folder)), read_only=read_only)

    # ---- writing

    def say_anew(self, config: Mapping[str, Any], statistics: Mapping[str, Tensor]) -> None:
        """Say of a codebook that is prepared, and not in the folder yet, how it was made; as for :meth:`create`."""
        self.manifest, self._statistics = replace(self.manifest, config=dict(config)), statistics

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only one who writes; may be nested.

        Raises:
            LockedError: Somebody else writes; says who.
            ConflictError: The folder must not be changed.
        """
        if self.read_only:
            raise ConflictError(
                f"The codebook in '{self.folder}' is only read here, as a copy from the Hub is, and is not changed: "
                "save it into another folder first."
            )
        with self._lock.hold():
            yield

    def append(self, events: Sequence[Event], arrays: Iterable[EditArrays] = ()) -> None:
        """Write events, all of them or none; when this returns they are on the disk.

        Args:
            events: What happens.
            arrays: For each edit among them its keys, their radii, and its pictures.

        Raises:
            UnavailableError: They cannot be written; what was there is unchanged.
            ConflictError: The folder was changed since it was read.
        """
        if self._statistics is not None:
            self.rewrite(events, arrays)
            return
        self._lock.check_held()
        self._refuse_changed()
        with self._report_write_errors():
            # Of a rewrite that was cut short: were the manifest lost, repair would take it for the latest journal.
            for path, generation in journals(self.folder):
                if generation > self.manifest.generation:
                    path.unlink()
            content = writing.write_edits(self.folder, self.manifest, events, arrays)
            mark = Journal(self.folder / self.manifest.journal_file).append(content.records, self.manifest.journal)
            self._commit(replace(self.manifest, journal=mark, numbers=content.numbers))
        before = self._read_so_far
        self._read_so_far = ReadSoFar(mark, (*before.loose, *content.loose), before.pictures | content.pictures)

    def rewrite(
        self,
        events: Sequence[Event],
        arrays: Iterable[EditArrays] = (),
        *,
        statistics: Mapping[str, Tensor] | None = None,
        config: Mapping[str, Any] | None = None,
        settled: tuple[np.ndarray[Any, Any], bool] | None = None,
    ) -> None:
        """Replace all that the folder holds by other events, in one step; or begin a codebook with them.

        The new files are written beside the old ones, under names of their own (the next ``generation``). Once they and
        their names are on the disk, a manifest that names them replaces the old one: that is the step. Cut short at any
        moment (killed, power lost, disk full), the folder holds the old codebook or the new one, whole and under the
        same id. Where this raises, the old one counts; only where the disk fails in that very step it may be either.
        Whole pictures are never replaced. What the new manifest does not name is removed afterwards, by :meth:`tidy`.

        Nothing that is there is read: a repair, which may have no manifest, calls this on a store with one of its own.

        Args:
            events: All that happened, in order; edits are numbered anew, whatever their ``first`` says.
            arrays: For each edit among them its keys, their radii (as many as it has facts), and those of its pictures
                that may not be in the folder yet. It is read once, edit by edit.
            statistics: Tensors that the embedding needs; when not given they stay as they are.
            config: What is needed to go on with the same settings; when not given it stays as it is.
            settled: Which keys merged, and whether keys merge, as for :meth:`settle`; when not given it is found out
                when the folder is opened.

        Raises:
            UnavailableError: It cannot be written; what was there is unchanged.
            ConflictError: There is a codebook where one is to be begun, or the folder was changed since it was read.
            ValueError: An edit has not as many keys as facts.
        """
        self._lock.check_held()
        is_new = self._statistics is not None
        statistics = self._statistics if is_new else statistics
        if is_new:
            self._refuse_another()
        elif self._stamp is not None:
            self._refuse_changed()
        stamp, generation = stamp_of(self.folder), 0 if is_new else self._next_generation()
        try:
            with self._report_write_errors():
                if is_new:
                    begun.write_note(self.folder, self.manifest.id, 1 + len(events))
                manifest, content = self._write_generation(
                    generation, events, arrays, statistics, config or self.manifest.config, settled
                )
                self._commit(manifest)
        except BaseException:
            if is_new:  # there is one, whole, or there is none
                tidying.remove([self.folder / MANIFEST])
            if stamp_of(self.folder) == stamp:
                self._remove_generation(generation)
            raise
        self._read_so_far, self._statistics = ReadSoFar(manifest.journal, (), frozenset(content.pictures)), None
        self.tidy()

    def _write_generation(
        self,
        generation: int,
        events: Sequence[Event],
        arrays: Iterable[EditArrays],
        statistics: Mapping[str, Tensor] | None,
        config: Mapping[str, Any],
        settled: tuple[np.ndarray[Any, Any], bool] | None,
    ) -> tuple[Manifest, JournalContent]:
        """Write all files but the manifest, which is returned with what the journal holds."""
        manifest = replace(self.manifest, generation=generation, journal_file=journal_name(generation), settled=None)
        manifest = replace(manifest, config=dict(config))
        if statistics:
            sums = writing.write_tensor_file(self.folder, statistics_name(generation), statistics)
            manifest = replace(manifest, statistics=sums, statistics_digest=digest_of(statistics))
        manifest, content = writing.write_all(self.folder, manifest, events, arrays)
        if settled is not None and len(settled[0]):
            manifest = writing.write_merges(self.folder, manifest, len(events), *settled)
        records = [writing.head_record(manifest), *content.records]
        with write_atomically(self.folder / manifest.journal_file) as file:
            mark = Journal.begin(file, records)
        return replace(manifest, journal=mark), content

    def _remove_generation(self, generation: int) -> None:
        tidying.remove([path for path, name in tidying.own_files(self.folder) if name.generation == generation])
        begun.remove_note(self.folder)

    def settle(self, founders: np.ndarray[Any, Any], *, merge: bool, join: bool = False) -> None:
        """Save which keys merged, and join the files of single edits where there are many.

        Args:
            founders: The key that each number is part of, -1 where it does not count: (numbers,) int64.
            merge: Whether keys merge.
            join: Join all files of keys into one, however few; and remove what nothing refers to.

        Raises:
            UnavailableError: The folder cannot be written; what was there is unchanged.
        """
        self._lock.check_held()
        before = manifest = self.manifest
        events = before.journal.records - 1  # the first record made the codebook
        with self._report_write_errors():
            if (before.settled is None or before.settled.records < events) and len(founders):
                manifest = writing.write_merges(self.folder, manifest, events, founders, merge)
            if join or len(self._read_so_far.loose) > _MOST_LOOSE:
                manifest = writing.join_keys(self.folder, manifest, self._read_so_far.loose, everything=join)
            if manifest != before:
                self._commit(manifest)
        if manifest.sealed != before.sealed:
            self._read_so_far = replace(self._read_so_far, loose=())
        if join or manifest != before:
            self.tidy()

    # ---- what is left over

    def leftovers(self) -> list[Path]:
        """Files that were written here and to which nothing refers any more; never what others put into the folder.

        There are none while somebody writes, or has written since the folder was read: what lies there may be needed.
        """
        if self.read_only or self.changed():
            return []
        if self._lock.held:
            return self._leftovers()
        try:
            with WriterLock(self.folder, patience=0).hold():
                return [] if self.changed() else self._leftovers()
        except ReasonEditError:
            return []

    def _leftovers(self) -> list[Path]:
        return tidying.leftovers(self.folder, self.files())

    def files(self) -> set[str]:
        """Names of the files that belong to the codebook, from the folder on."""
        loose = {part.sums.file for part in self._read_so_far.loose}
        return tidying.used_files(self.manifest, loose, self._read_so_far.pictures)

    def tidy(self, patience: float = 0.0) -> list[Path]:
        """Remove :meth:`leftovers`, unless somebody reads the folder.

        Args:
            patience: How many seconds to wait for readers.

        Returns:
            What is still there.
        """
        self._lock.check_held()
        with snapshot.removing(self.folder, patience) as alone:
            paths = self.leftovers()
            if alone:
                tidying.remove(paths)
        return [path for path in paths if path.exists()]

    # ---- parts of it

    def _next_generation(self) -> int:
        """A generation of which there is no file yet, not even one of a rewrite that was cut short."""
        return 1 + max([self.manifest.generation, *(name.generation for _, name in tidying.own_files(self.folder))])

    def _commit(self, manifest: Manifest) -> None:
        manifest.write(self.folder)
        self.manifest, self._stamp = manifest, stamp_of(self.folder)

    def _refuse_another(self) -> None:
        """Refuse to begin a codebook where there is one."""
        if self.exists(self.folder):
            raise ConflictError(
                f"There is a codebook in '{self.folder}' already: load that one, or name another folder."
            )
        begun.refuse_lost(self.folder)

    def _refuse_changed(self) -> None:
        """Refuse to write where others wrote since the folder was read: what they wrote must not be cut off."""
        if self.changed():
            raise ConflictError(f"The codebook in '{self.folder}' has changed: load it again.")

    @contextmanager
    def _report_write_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(self.folder, error) from error
