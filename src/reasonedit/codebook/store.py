"""A codebook's folder: what is acknowledged is on the disk, and what is on the disk is whole.

======================== =============================================================================================
``codebook.json``        the manifest, replaced as a whole: how far everything else goes
``journal.jsonl``        what happened, one line each, only ever appended to: edits with text, evidence, author and time
``pictures/``            the edits' pictures, lossless, each under the name of its pixels
``keys/``                keys and radii (safetensors): a file per edit, from time to time joined
``statistics.*``         what the embedding needs (safetensors)
``settled.*``            which keys merged; made anew where it is missing
======================== =============================================================================================
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reasonedit.errors import ReasonEditError
from reasonedit.images import load_image

from . import begun, snapshot, tidying
from .events import Event
from .files import DamagedError, Sums, to_disk, whole
from .journal import Journal, Line, Mark
from .layout import KEYS, PICTURES, Named, journal_name, keys_name, named, settled_name, statistics_name
from .lock import WriterLock
from .manifest import MANIFEST, Manifest, Sealed, Settled
from .records import picture_name

_LOOSE = 64
"""More files of single edits than this are joined when the folder is put in order."""
_TRIES = 5

Written = tuple[Tensor, np.ndarray[Any, Any], Mapping[str, Image.Image]]
"""What an edit writes: keys (n, D), their radii (n,), and its pictures by name."""


@dataclass
class News:
    """What a folder holds beyond what is known.

    Attributes:
        events: What happened.
        keys: Keys with whether they are mapped from a file that stays.
        radii: Their radii.
        founders: What merged where when the first ``settled`` of the events had happened; where that is known.
        merge: Whether keys merged then.
        anew: Whether everything was written anew, so that nothing that is known counts and all is to be read again;
            there is nothing else in these news then.
    """

    events: list[Event] = field(default_factory=list)
    keys: list[tuple[Tensor, bool]] = field(default_factory=list)
    radii: np.ndarray[Any, Any] = field(default_factory=lambda: np.empty(0, np.float32))
    founders: np.ndarray[Any, Any] | None = None
    settled: int = 0
    merge: bool = True
    anew: bool = False


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
        self._mark = Mark()
        self._stamp: object = None
        self._loose: list[Sealed] = []  # the files of single edits
        self._pictures: set[str] = set()  # that edits have
        self._statistics: Mapping[str, Tensor] | None = None  # of a codebook that is not in the folder yet

    @staticmethod
    def there(folder: str | os.PathLike[str]) -> bool:
        """Whether a folder holds a codebook."""
        return (Path(folder) / MANIFEST).is_file()

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
                _make_folder(part)
        return store

    def _refuse_another(self) -> None:
        if self.there(self.folder):
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

    def news(self, events: int, numbers: int, ids: frozenset[str] = frozenset(), width: int | None = None) -> News:
        """What is there beyond what is known; the folder may be written meanwhile.

        Args:
            events: How many events are known.
            numbers: How many keys.
            ids: The edits.
            width: Numbers per key, where there is a key.

        Raises:
            DamagedError: A file is missing, torn or changed.
        """
        for tries in range(_TRIES):
            with self.reading():
                stamp = self._seen()
                manifest = Manifest.read(self.folder)
                if manifest.id != self.manifest.id:
                    raise ReasonEditError(f"Another codebook has come into '{self.folder}': load it anew.")
                if self._mark.records and manifest.generation != self.manifest.generation:
                    return News(anew=True)
                try:
                    found = self._news(manifest, events, numbers, ids, width)
                except DamagedError:
                    if self._seen() == stamp or tries == _TRIES - 1:
                        raise
                else:
                    self.manifest, self._stamp, self._mark = manifest, stamp, manifest.journal
                    return found
        raise AssertionError("unreachable")

    def _news(self, manifest: Manifest, events: int, numbers: int, ids: frozenset[str], width: int | None) -> News:
        journal = Journal(self.folder / manifest.journal_file)
        if manifest.journal.records < self._mark.records:
            raise DamagedError(journal.path, manifest.journal.bytes, "it was longer before")
        sealed = sum(s.count for s in manifest.sealed)
        found, loose, pictures = News(), [s for s in self._loose if s.first < numbers], set(self._pictures)
        total, known = numbers, set(ids)
        for line in journal.read(self._mark, manifest.journal):
            event = _event(journal, line)
            if event is None:
                continue
            found.events.append(event)
            if event.op == "erase":
                continue
            if (event.edit_id in known) == (event.edit is not None):
                state = "is there already" if event.edit is not None else "is not there"
                raise DamagedError(journal.path, line.start, f"the edit '{event.edit_id}' {state}")
            known.add(event.edit_id)
            if event.edit is not None:
                if event.first != total:
                    raise DamagedError(journal.path, line.start, f"key {event.first} follows key {total}")
                total += len(event.facts)
                pictures.update(event.edit.pictures)
                if event.facts and event.first >= sealed:
                    loose.append(Sealed(event.first, len(event.facts), _sums_of(journal, line)))
        if total != manifest.numbers:
            raise DamagedError(journal.path, 0, f"its edits have {total} keys, the manifest {manifest.numbers}")
        loose = [s for s in loose if s.first >= sealed]
        self._keys(manifest, loose, numbers, found, width)
        settled = manifest.settled
        if events == 0 and settled is not None:
            path = settled.sums.check(self.folder)
            found.founders = loaded(path, "founders")["founders"].numpy()
            found.settled, found.merge = settled.records, settled.merge
            count = len(found.founders)
            fits = found.founders.ndim == 1 and ((found.founders >= -1) & (found.founders < count)).all()
            if not fits or count > total or settled.records > len(found.events):
                raise DamagedError(path, 0, "it is of another codebook")
        self._loose, self._pictures = loose, pictures
        return found

    def _keys(self, manifest: Manifest, loose: Sequence[Sealed], numbers: int, found: News, width: int | None) -> None:
        """Keys and radii from a number on."""
        radii: list[np.ndarray[Any, Any]] = []
        for i, part in enumerate([*manifest.sealed, *loose]):
            if part.first + part.count <= numbers:
                continue
            path = part.sums.check(self.folder)
            tensors = loaded(path, "keys", "radii")
            keys, mine = tensors["keys"], tensors["radii"]
            fits = keys.ndim == 2 and len(keys) == len(mine) == part.count
            if not (fits and keys.dtype == mine.dtype == torch.float32):
                raise DamagedError(path, 0, f"it does not hold {part.count} keys")
            if keys.shape[1] != (width or keys.shape[1]):
                raise DamagedError(path, 0, f"its keys have {keys.shape[1]} numbers, others {width}")
            width = int(keys.shape[1])
            skip = max(0, numbers - part.first)
            found.keys.append((keys[skip:], i < len(manifest.sealed) and not skip))
            radii.append(mine[skip:].numpy())
        if radii:
            found.radii = np.concatenate(radii)

    def be_where(self, other: Store) -> None:
        """Have read what another reader of the same folder has read."""
        self.manifest, self._stamp, self._mark = other.manifest, other._stamp, other._mark
        self._loose, self._pictures = other._loose, other._pictures

    def statistics(self) -> dict[str, Tensor]:
        """What the embedding needs.

        Raises:
            DamagedError: The file is damaged.
        """
        sums = self.manifest.statistics
        return {} if sums is None else loaded(sums.check(self.folder))

    def picture(self, name: str) -> Image.Image:
        """A picture by its name.

        Raises:
            DamagedError: It is missing or not what was written.
        """
        path = self.folder / PICTURES / f"{name}.png"
        try:
            image = load_image(path)
        except ReasonEditError as error:
            raise DamagedError(path, 0, "the picture is missing or cannot be read") from error
        if picture_name(image) != name:
            raise DamagedError(path, 0, "the picture is not what was written")
        return image

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
        with self._lock.held_by_us():
            yield

    def append(self, events: Sequence[Event], written: Iterable[Written] = ()) -> None:
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
        assert self._lock.held
        if self.changed():  # by somebody who wrote since it was read: what they acknowledged must not be cut off
            raise self._changed()
        records: list[dict[str, Any]] = []
        manifest, numbers = self.manifest, self.manifest.numbers
        loose, pictures = [], set[str]()
        with self._writes():
            # Of somebody who was cut short: were the manifest lost, they would be taken for what came last.
            for path in self._own(lambda told: told.kind == "journal" and told.generation > manifest.generation):
                path.unlink()
            edits = iter(written)
            for event in events:
                record = event.to_dict()
                if event.edit is not None:
                    mine, reach, seen = next(edits)
                    # Never to be: what is on the disk must not be spoilt by what is in memory.
                    if event.first != numbers or len(mine) != len(event.facts):
                        raise self._changed()
                    self._write_pictures(seen)
                    pictures.update(event.edit.pictures)
                    if len(mine):
                        sums = self._write_keys(keys_name(manifest.generation, numbers, len(mine)), mine, reach)
                        record["keys"] = asdict(sums)
                        loose.append(Sealed(numbers, len(mine), sums))
                    numbers += len(mine)
                records.append(record)
            mark = Journal(self.folder / manifest.journal_file).append(records, manifest.journal)
            self._commit(replace(manifest, journal=mark, numbers=numbers))
        self._mark = mark
        self._loose += loose
        self._pictures |= pictures

    def rewrite(
        self,
        events: Sequence[Event],
        written: Iterable[Written] = (),
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
        """
        assert self._lock.held
        fresh = self._statistics is not None
        if fresh:
            self._refuse_another()
        elif self._stamp is not None and self.changed():
            raise self._changed()
        statistics = self._statistics if fresh else statistics
        generation = 0 if fresh else 1 + max(self.manifest.generation, self._highest())
        manifest = replace(self.manifest, generation=generation, journal_file=journal_name(generation), settled=None)
        stamp = self._seen()
        try:
            with self._writes():
                if fresh:
                    begun.note(self.folder, manifest.id, 1 + len(events))
                if statistics:
                    sums = self._tensors(statistics_name(generation), statistics)
                    manifest = replace(manifest, statistics=sums)
                manifest, records, pictures = self._rewritten(manifest, events, written)
                if settled is not None and len(settled[0]):
                    manifest = self._settled(manifest, len(events), *settled)
                with whole(self.folder / manifest.journal_file) as part:
                    mark = Journal(part).append([_head(manifest), *records], Mark())
                self._commit(replace(manifest, journal=mark))
        except BaseException:
            if fresh:
                tidying.remove([self.folder / MANIFEST])
            if self._seen() == stamp:
                tidying.remove(self._own(lambda told: told.generation == generation))
                begun.forget(self.folder)
            raise
        self._mark, self._loose, self._pictures, self._statistics = mark, [], pictures, None
        self.tidy()

    def _rewritten(
        self, manifest: Manifest, events: Sequence[Event], written: Iterable[Written]
    ) -> tuple[Manifest, list[dict[str, Any]], set[str]]:
        """Write pictures and keys; the manifest that names them, the journal's records, and the pictures' names."""
        records, pictures, numbers = list[dict[str, Any]](), set[str](), 0
        keys, radii, edits = list[Tensor](), list[np.ndarray[Any, Any]](), iter(written)
        for event in events:
            records.append(replace(event, first=numbers).to_dict())
            if event.edit is None:
                continue
            mine, reach, seen = next(edits)
            if not len(mine) == len(reach) == len(event.facts):
                raise ValueError(f"The edit '{event.edit_id}' has {len(event.facts)} facts and {len(mine)} keys.")
            self._write_pictures(seen)
            pictures.update(event.edit.pictures)
            if len(mine):
                keys.append(mine)
                radii.append(reach)
                numbers += len(mine)
        sealed: tuple[Sealed, ...] = ()
        if keys:
            name = keys_name(manifest.generation, 0, numbers, joined=True)
            sealed = (Sealed(0, numbers, self._write_keys(name, torch.cat(keys), np.concatenate(radii))),)
        return replace(manifest, numbers=numbers, sealed=sealed), records, pictures

    def _own(self, which: Callable[[Named], bool]) -> list[Path]:
        """The files beside and of keys with a name that is given here, of these those that are asked for."""
        paths = [path for part in (self.folder, self.folder / KEYS) for path in part.glob("*")]
        told = [named(path.relative_to(self.folder).as_posix()) for path in paths]
        return [path for path, mine in zip(paths, told, strict=True) if mine is not None and which(mine)]

    def _highest(self) -> int:
        """The latest generation of which there is a file: somebody who was cut short may have begun it."""
        told = [named(path.relative_to(self.folder).as_posix()) for path in self._own(lambda _: True)]
        return max((mine.generation for mine in told if mine is not None), default=0)

    def settle(self, founders: np.ndarray[Any, Any], *, merge: bool, join: bool = False) -> None:
        """Keep what merged where, and join the files of single edits where there are many.

        Args:
            founders: For each number the key it is part of.
            merge: Whether keys merge.
            join: Join all files of keys into one, in any case.

        Raises:
            ReasonEditError: The folder cannot be written; what was there is unchanged.
        """
        assert self._lock.held
        manifest = self.manifest
        records = manifest.journal.records - 1  # the first one made the codebook
        if (manifest.settled is None or manifest.settled.records < records) and len(founders):
            with self._writes():
                manifest = self._settled(manifest, records, founders, merge)
        loose = self._loose
        if join or len(loose) > _LOOSE:
            manifest, loose = self._joined(manifest, everything=join)
        if manifest != self.manifest:
            with self._writes():
                self._commit(manifest)
            self._loose = loose
            self.tidy()

    def _settled(self, manifest: Manifest, events: int, founders: np.ndarray[Any, Any], merge: bool) -> Manifest:
        founded = {"founders": torch.from_numpy(founders.copy())}
        sums = self._tensors(settled_name(manifest.generation, events), founded)
        return replace(manifest, settled=Settled(events, merge, sums))

    def _joined(self, manifest: Manifest, *, everything: bool) -> tuple[Manifest, list[Sealed]]:
        parts = [*(manifest.sealed if everything else ()), *self._loose]
        if len(parts) < 2:
            return manifest, self._loose
        read = [loaded(part.sums.check(self.folder), "keys", "radii") for part in parts]
        first, count = parts[0].first, sum(part.count for part in parts)
        with self._writes():
            joined = {name: torch.cat([part[name] for part in read]) for name in ("keys", "radii")}
            sums = self._tensors(keys_name(manifest.generation, first, count, joined=True), joined)
        kept = () if everything else manifest.sealed
        return replace(manifest, sealed=(*kept, Sealed(first, count, sums))), []

    def leftovers(self) -> list[Path]:
        """Files that were written here and to which nothing refers any more; what others put into the folder is none.

        None are told while somebody writes, or has written since the folder was read: what lies there may be on its
        way.
        """
        if self.read_only or self.changed():
            return []
        if not self._lock.held:
            try:
                with WriterLock(self.folder, patience=0).held_by_us():
                    return [] if self.changed() else self._dead()
            except ReasonEditError:
                return []
        return self._dead()

    def _dead(self) -> list[Path]:
        loose = {part.sums.file for part in self._loose}
        return tidying.leftovers(self.folder, self.manifest, loose, self._pictures)

    def tidy(self, patience: float = 0.0) -> list[Path]:
        """Remove :meth:`leftovers`, unless somebody reads the folder.

        Args:
            patience: How many seconds readers are waited for.

        Returns:
            What is still there.
        """
        assert self._lock.held
        with snapshot.removing(self.folder, patience) as alone:
            if alone:
                tidying.remove(self.leftovers())
        return self.leftovers()

    def _write_pictures(self, pictures: Mapping[str, Image.Image]) -> None:
        for name, picture in pictures.items():
            self._picture(name, picture)

    def _picture(self, name: str, picture: Image.Image) -> None:
        path = self.folder / PICTURES / f"{name}.png"
        if not path.exists():
            with whole(path) as part:
                picture.save(part, "PNG", compress_level=3)

    def _write_keys(self, name: str, keys: Tensor, radii: np.ndarray[Any, Any]) -> Sums:
        return self._tensors(name, {"keys": keys, "radii": torch.from_numpy(radii.copy())})

    def _tensors(self, name: str, tensors: Mapping[str, Tensor]) -> Sums:
        from safetensors.torch import save_file

        with whole(self.folder / name) as part:
            save_file({n: t.contiguous() for n, t in tensors.items()}, part)
        return Sums.of(self.folder / name, name)

    def _commit(self, manifest: Manifest) -> None:
        manifest.write(self.folder)
        self.manifest, self._stamp = manifest, self._seen()

    def _seen(self) -> tuple[int, int, int] | None:
        with contextlib.suppress(OSError):
            there = (self.folder / MANIFEST).stat()
            return there.st_ino, there.st_mtime_ns, there.st_size
        return None

    def _changed(self) -> ReasonEditError:
        return ReasonEditError(f"The codebook in '{self.folder}' has changed: load it anew.")

    @contextmanager
    def _writes(self) -> Iterator[None]:
        from safetensors import SafetensorError

        try:
            yield
        except (OSError, SafetensorError) as error:
            raise ReasonEditError(
                f"The codebook cannot be written to '{self.folder}' ({getattr(error, 'strerror', None) or error}): "
                "free some space or name another folder. What was stored there before is unchanged."
            ) from error

    def copy(self, folder: Path) -> None:
        """Copy everything that counts, as it is on the disk, into a new folder.

        Raises:
            OSError: It cannot be copied.
        """
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns(".*"))


def _make_folder(folder: Path) -> None:
    """Make a folder, and those above it, so that they are on the disk."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        to_disk(folder.parent)


def _head(manifest: Manifest) -> dict[str, Any]:
    """The journal's first record: with it the journal and the files that it names are enough to make all else from."""
    told = {name: getattr(manifest, name) for name in ("id", "created", "fingerprint", "config", "merge", "generation")}
    sums = {
        "statistics": None if manifest.statistics is None else asdict(manifest.statistics),
        "keys": [asdict(part.sums) for part in manifest.sealed],
    }
    return {"op": "create", **told, **sums}


def _event(journal: Journal, line: Line) -> Event | None:
    if line.values.get("op") == "create":
        return None
    try:
        return Event.from_dict(line.values)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(journal.path, line.start, f"the record makes no sense ({error})") from error


def _sums_of(journal: Journal, line: Line) -> Sums:
    try:
        return Sums.from_dict(line.values["keys"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(journal.path, line.start, "the record does not say where its keys are") from error


def loaded(path: Path, *names: str) -> dict[str, Tensor]:
    """The tensors of a file, mapped into memory."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError, ValueError) as error:
        raise DamagedError(path, 0, f"it is no safetensors file ({error})") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise DamagedError(path, 0, f"it holds no '{missing[0]}'")
    return found
