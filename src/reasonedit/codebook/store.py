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
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reasonedit.errors import ReasonEditError
from reasonedit.images import load_image

from .events import Event
from .files import DamagedError, Sums, whole
from .journal import Journal, Line, Mark
from .lock import WriterLock
from .manifest import MANIFEST, Manifest, Sealed, Settled
from .records import picture_name

KEYS, PICTURES, JOURNAL = "keys", "pictures", "journal.jsonl"
_LOOSE = 64
"""More files of single edits than this are joined when the folder is put in order."""
_TRIES = 5
_OWN = re.compile(rf"(?:{KEYS}/(\d{{12}})-\d+(-joined)?|settled-\d+)\.safetensors")
_PART = re.compile(r"\.(?:codebook\.json|[\w-]+\.safetensors|[0-9a-f]{64}\.png)\.\d+\.part")


@dataclass
class News:
    """What a folder holds beyond what is known.

    Attributes:
        events: What happened.
        keys: Keys with whether they are mapped from a file that stays.
        radii: Their radii.
        founders: What merged where when the first ``settled`` of the events had happened; where that is known.
        merge: Whether keys merged then.
    """

    events: list[Event] = field(default_factory=list)
    keys: list[tuple[Tensor, bool]] = field(default_factory=list)
    radii: np.ndarray[Any, Any] = field(default_factory=lambda: np.empty(0, np.float32))
    founders: np.ndarray[Any, Any] | None = None
    settled: int = 0
    merge: bool = True


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
        self._journal = Journal(self.folder / JOURNAL)
        self._lock = WriterLock(self.folder)
        self._mark = Mark()
        self._stamp: object = None
        self._extents: list[tuple[int, int, Sums]] = []  # the files of single edits: first, count, sums

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
        """Begin a codebook.

        Args:
            folder: Made when it does not exist.
            fingerprint: What makes the keys.
            config: What is needed to go on with the same settings.
            statistics: Tensors that the embedding needs.
            merge: Whether keys merge.

        Raises:
            ReasonEditError: There is one already, or the folder cannot be written.
        """
        target = Path(folder)
        if cls.there(target):
            raise ReasonEditError(f"There is a codebook in '{target}' already: load that one, or name another folder.")
        if Journal(target / JOURNAL).lines() > 1:  # one line is a folder whose making was cut short
            raise ReasonEditError(
                f"'{target}' holds the journal of a codebook but no {MANIFEST}: 'reasonedit codebook repair' makes it "
                "anew."
            )
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        manifest = Manifest(uuid.uuid4().hex, now, dict(fingerprint), dict(config), merge)
        store = cls(target, manifest)
        with store._writes():
            for part in (target, target / KEYS, target / PICTURES):
                part.mkdir(parents=True, exist_ok=True)
        with store._lock.held_by_us(), store._writes():
            if cls.there(target):
                raise ReasonEditError(f"There is a codebook in '{target}' already: load that one.")
            if statistics:
                manifest = replace(manifest, statistics=store._tensors("statistics.safetensors", statistics))
            # The journal alone must be enough to make everything else from.
            head = {"op": "create", **{n: getattr(manifest, n) for n in ("id", "created", "fingerprint", "config")}}
            mark = store._journal.append([{**head, "merge": merge}], Mark())
            try:
                store._commit(replace(manifest, journal=mark))
            except OSError:
                (target / MANIFEST).unlink(missing_ok=True)  # there is one or there is none
                raise
            store._mark = mark
        return store

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
            stamp = self._seen()
            manifest = Manifest.read(self.folder)
            if manifest.id != self.manifest.id:
                raise ReasonEditError(f"Another codebook has come into '{self.folder}': load it anew.")
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
        if manifest.journal.records < self._mark.records:
            raise DamagedError(self._journal.path, manifest.journal.bytes, "it was longer before")
        found, extents = News(), [e for e in self._extents if e[0] < numbers]
        total, known = numbers, set(ids)
        for line in self._journal.read(self._mark, manifest.journal):
            event = self._event(line)
            if event is None:
                continue
            found.events.append(event)
            if (event.edit_id in known) == (event.edit is not None):
                state = "is there already" if event.edit is not None else "is not there"
                raise DamagedError(self._journal.path, line.start, f"the edit '{event.edit_id}' {state}")
            known.add(event.edit_id)
            if event.edit is not None:
                if event.first != total:
                    raise DamagedError(self._journal.path, line.start, f"key {event.first} follows key {total}")
                total += len(event.facts)
                if event.facts:
                    extents.append((event.first, len(event.facts), self._sums_of(line)))
        if total != manifest.numbers:
            raise DamagedError(self._journal.path, 0, f"its edits have {total} keys, the manifest {manifest.numbers}")
        self._keys(manifest, extents, numbers, found, width)
        sealed = sum(s.count for s in manifest.sealed)
        self._extents = [e for e in extents if e[0] >= sealed]
        settled = manifest.settled
        if events == 0 and settled is not None:
            path = settled.sums.check(self.folder)
            found.founders = loaded(path, "founders")["founders"].numpy()
            found.settled, found.merge = settled.records, settled.merge
            count = len(found.founders)
            fits = found.founders.ndim == 1 and ((found.founders >= -1) & (found.founders < count)).all()
            if not fits or count > total or settled.records > len(found.events):
                raise DamagedError(path, 0, "it is of another codebook")
        return found

    def _event(self, line: Line) -> Event | None:
        if line.values.get("op") == "create":
            return None
        try:
            return Event.from_dict(line.values)
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(self._journal.path, line.start, f"the record makes no sense ({error})") from error

    def _sums_of(self, line: Line) -> Sums:
        try:
            return Sums.from_dict(line.values["keys"])
        except (KeyError, TypeError) as error:
            raise DamagedError(self._journal.path, line.start, "the record does not say where its keys are") from error

    def _keys(
        self,
        manifest: Manifest,
        extents: Sequence[tuple[int, int, Sums]],
        numbers: int,
        found: News,
        width: int | None,
    ) -> None:
        """Keys and radii from a number on."""
        radii: list[np.ndarray[Any, Any]] = []
        sealed = [(s.first, s.count, s.sums) for s in manifest.sealed]
        behind = sum(s.count for s in manifest.sealed)
        for i, (first, count, sums) in enumerate([*sealed, *(e for e in extents if e[0] >= behind)]):
            if first + count <= numbers:
                continue
            path = sums.check(self.folder)
            tensors = loaded(path, "keys", "radii")
            keys, mine = tensors["keys"], tensors["radii"]
            fits = keys.ndim == 2 and len(keys) == len(mine) == count and keys.dtype == mine.dtype == torch.float32
            if not fits:
                raise DamagedError(path, 0, f"it does not hold {count} keys")
            if keys.shape[1] != (width or keys.shape[1]):
                raise DamagedError(path, 0, f"its keys have {keys.shape[1]} numbers, others {width}")
            width = int(keys.shape[1])
            skip = max(0, numbers - first)
            found.keys.append((keys[skip:], i < len(sealed) and not skip))
            radii.append(mine[skip:].numpy())
        if radii:
            found.radii = np.concatenate(radii)

    def be_where(self, other: Store) -> None:
        """Have read what another reader of the same folder has read."""
        self.manifest, self._stamp, self._mark = other.manifest, other._stamp, other._mark
        self._extents = other._extents

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

    def append(
        self,
        events: Sequence[Event],
        written: Iterable[tuple[Tensor, np.ndarray[Any, Any], Mapping[str, Image.Image]]] = (),
    ) -> None:
        """Write events, all of them or none; when this returns they are on the disk.

        Args:
            events: What happens.
            written: For each edit among them its keys, their radii, and its pictures.

        Raises:
            ReasonEditError: They cannot be written; what was there is unchanged.
        """
        assert self._lock.held
        if self.changed():  # by somebody who wrote since it was read: what they acknowledged must not be cut off
            raise ReasonEditError(f"The codebook in '{self.folder}' has changed: load it anew.")
        records: list[dict[str, Any]] = []
        numbers = self.manifest.numbers
        extents = []
        with self._writes():
            edits = iter(written)
            for event in events:
                record = event.to_dict()
                if event.edit is not None:
                    mine, reach, seen = next(edits)
                    if (
                        event.first != numbers
                    ):  # never to be: what is on the disk must not be spoilt by what is in memory
                        raise ReasonEditError(f"The codebook in '{self.folder}' has changed: load it anew.")
                    for name, picture in seen.items():
                        self._picture(name, picture)
                    if len(mine):
                        name = f"{KEYS}/{numbers:012d}-{len(mine)}.safetensors"
                        sums = self._tensors(name, {"keys": mine, "radii": torch.from_numpy(reach.copy())})
                        record["keys"] = {"file": sums.file, "bytes": sums.bytes, "blocks": sums.blocks}
                        extents.append((numbers, len(mine), sums))
                    numbers += len(mine)
                records.append(record)
            mark = self._journal.append(records, self.manifest.journal)
            self._commit(replace(self.manifest, journal=mark, numbers=numbers))
        self._mark = mark
        self._extents += extents

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
                founded = {"founders": torch.from_numpy(founders.copy())}
                sums = self._tensors(f"settled-{records}.safetensors", founded)
            manifest = replace(manifest, settled=Settled(records, merge, sums))
        extents = self._extents
        if join or len(extents) > _LOOSE:
            manifest, extents = self._joined(manifest, everything=join)
        if manifest != self.manifest:
            with self._writes():
                self._commit(manifest)
            self._extents = extents
            self.tidy()

    def _joined(self, manifest: Manifest, *, everything: bool) -> tuple[Manifest, list[tuple[int, int, Sums]]]:
        old = list(manifest.sealed) if everything else []
        parts = [(s.first, s.count, s.sums) for s in old] + self._extents
        if len(parts) < 2:
            return manifest, self._extents
        read = [loaded(sums.check(self.folder), "keys", "radii") for _, _, sums in parts]
        first, count = parts[0][0], sum(n for _, n, _ in parts)
        with self._writes():
            joined = {name: torch.cat([part[name] for part in read]) for name in ("keys", "radii")}
            sums = self._tensors(f"{KEYS}/{first:012d}-{count}-joined.safetensors", joined)
        kept = () if everything else manifest.sealed
        return replace(manifest, sealed=(*kept, Sealed(first, count, sums))), []

    def tidy(self) -> None:
        """Remove what was written here and nothing refers to any more; what others put into the folder stays."""
        assert self._lock.held
        manifest = self.manifest
        behind = sum(s.count for s in manifest.sealed)
        kept = {s.sums.file for s in manifest.sealed}
        kept |= {manifest.settled.sums.file} if manifest.settled else set()
        gone = []
        for path in [*self.folder.glob("settled-*"), *(self.folder / KEYS).glob("*")]:
            name = path.relative_to(self.folder).as_posix()
            loose = _OWN.fullmatch(name)
            live = loose is not None and not loose[2] and behind <= int(loose[1] or -1) < manifest.numbers
            if loose is not None and not live and name not in kept:
                gone.append(path)
        gone += [path for path in self.folder.rglob(".*.part") if _PART.fullmatch(path.name)]
        for path in gone:
            with contextlib.suppress(OSError):
                path.unlink()

    def abandon(self) -> None:
        """Take back a codebook that was just begun."""
        assert self._lock.held
        for name in (MANIFEST, JOURNAL):
            with contextlib.suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)

    def _picture(self, name: str, picture: Image.Image) -> None:
        path = self.folder / PICTURES / f"{name}.png"
        if not path.exists():
            with whole(path) as part:
                picture.save(part, "PNG", compress_level=3)

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
