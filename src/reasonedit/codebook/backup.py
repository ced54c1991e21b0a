"""A copy of a codebook as it was at one moment, while others may write it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reasonedit.errors import ReasonEditError

from .disk.checksums import Checksums
from .disk.errors import DamagedError
from .disk.files import open_to_read, sync, write_atomically
from .disk.journal import Journal, Mark
from .disk.layout import KEYS, PICTURES
from .disk.lock import LOCK_FILES, WriterLock
from .disk.manifest import Manifest
from .disk.snapshot import reading
from .disk.store import Store
from .events import Event
from .memory import EditMemory
from .repair import verify
from .rescue.lost import LOST, LOST_PICTURES

_TRIES = 5
_CHUNK = 1 << 20
_WRITER = LOCK_FILES[1]


@dataclass(frozen=True)
class Backup:
    """A backup that was made.

    Attributes:
        folder: Where it is.
        edits: How many edits are in it that count.
        undone: How many that were undone.
        bytes: How large it is.
    """

    folder: Path
    edits: int
    undone: int
    bytes: int


def backup(folder: str | os.PathLike[str], out: str | os.PathLike[str]) -> Backup:
    """Copy a codebook into a new folder: all of one moment, whoever writes it meanwhile; nobody is kept from writing.

    The copy holds every edit that was acknowledged when this was called, and is read again in full before it gets its
    name: either it is there and whole, or it is not there. No file of it is shared with the first by a link.

    Args:
        folder: The codebook.
        out: The new folder, which must not exist, or be empty.

    Raises:
        DamagedError: The codebook is damaged: what is not whole is not copied as if it were.
        ReasonEditError: There is none, the new folder is in use, or it cannot be written.
    """
    source, target = Path(folder).absolute(), Path(out).absolute()
    _refuse(source, target)
    part = target.with_name(f".{target.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        with WriterLock(part, patience=0).hold():  # so what lies there is of one that was killed
            try:
                _copied(source, part)
                made = _checked(source, part, target)
                part.rename(target)  # of an empty folder it takes the place
                (target / _WRITER).unlink(missing_ok=True)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
        sync(target.parent)
    except OSError as error:
        raise ReasonEditError(
            f"The backup cannot be written to '{target}' ({error.strerror or error}): free some space or name "
            f"another folder. '{source}' is as it was."
        ) from error
    return made


def _refuse(source: Path, target: Path) -> None:
    """Refuse a folder into which nothing can be copied without harm.

    Raises:
        ReasonEditError: It is one.
    """
    Manifest.read(source)
    if target.resolve().is_relative_to(source.resolve()):
        raise ReasonEditError(f"'{target}' lies within the codebook itself: name a folder elsewhere.")
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise ReasonEditError(f"'{target}' exists already: name a new folder, so that no earlier backup is lost.")


def _copied(source: Path, part: Path) -> None:
    """Copy one state of a codebook; where its files went meanwhile, the state that came in its place."""
    for tries in range(_TRIES):
        _clear(part)
        for inside in (part / KEYS, part / PICTURES):
            inside.mkdir()
        manifest = Manifest.read(source)
        try:
            with reading(source):
                manifest = Manifest.read(source)
                _copy(source, part, manifest)
            return
        except DamagedError:
            if tries == _TRIES - 1 or Manifest.read(source) == manifest:
                raise


def _clear(part: Path) -> None:
    """Remove all of a folder but its lock."""
    for path in part.iterdir():
        if path.name in LOCK_FILES:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _copy(source: Path, part: Path, manifest: Manifest) -> None:
    journal = manifest.journal_file
    _copy_file(source / journal, part / journal, manifest.journal.bytes)  # somebody may be writing behind that
    lost = [path for path in (source / LOST, *(source / LOST_PICTURES).glob("*.png")) if path.is_file()]
    names = [*_files(manifest, Journal(source / journal)), *(path.relative_to(source).as_posix() for path in lost)]
    for name in dict.fromkeys(names):
        (part / name).parent.mkdir(exist_ok=True)
        _copy_file(source / name, part / name)
    manifest.write(part)


def _copy_file(source: Path, target: Path, most: int | None = None) -> None:
    """Copy a file, or so many bytes of it."""
    left = most
    with open_to_read(source) as old, write_atomically(target) as new:
        while left != 0 and (some := old.read(_CHUNK if left is None else min(left, _CHUNK))):
            new.write(some)
            left = left if left is None else left - len(some)
    if left:
        raise DamagedError(source, (most or 0) - left, f"it ends there, and should have {most} bytes")


def _files(manifest: Manifest, journal: Journal) -> Iterator[str]:
    """The files that count, beside manifest and journal."""
    if manifest.statistics is not None:
        yield manifest.statistics.file
    if manifest.settled is not None:
        yield manifest.settled.sums.file
    for part in manifest.sealed:
        yield part.sums.file
    joined = sum(part.count for part in manifest.sealed)
    for line in journal.read(Mark(), manifest.journal):
        if line.values.get("op") != "edit":
            continue
        try:
            event = Event.from_dict(line.values)
            own = Checksums.from_dict(line.values["keys"]).file if event.facts and event.first >= joined else None
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(journal.path, line.start, f"the record makes no sense ({error})") from error
        if own is not None:
            yield own
        if event.edit is not None:
            yield from (f"{PICTURES}/{name}.png" for name in event.edit.pictures)


def _checked(source: Path, part: Path, target: Path) -> Backup:
    """Read the copy in full.

    Raises:
        DamagedError: It is not whole.
    """
    for damage in verify(part).damages:
        raise DamagedError(source / damage.path.relative_to(part), damage.offset, damage.what)
    memory = EditMemory.open(Store.open(part))
    size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file() and path.name[0] != ".")
    return Backup(target, len(memory.edits), len(memory.undone), size)
