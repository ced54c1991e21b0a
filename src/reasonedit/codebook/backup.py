"""A copy of a codebook as it was at one moment, while others may write it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reasonedit.errors import ConflictError, InputError, UnavailableError

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
_WRITER_FILE = LOCK_FILES[1]


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Attributes:
        folder: Where it is.
        edits: Number of edits that count.
        undone: Number of undone edits.
        bytes: Size of its files.
    """

    folder: Path
    edits: int
    undone: int
    bytes: int


def backup(folder: str | os.PathLike[str], out: str | os.PathLike[str]) -> Backup:
    """Copy a codebook as it is at one moment into a new folder. Others may write the codebook meanwhile.

    The copy holds every edit that was acknowledged when this was called. It is read again in full before it gets its
    name, so it is there and whole, or it is not there. The two share no file by a link.

    Args:
        folder: The codebook.
        out: The new folder, which must not exist, or be empty.

    Raises:
        DamagedError: The codebook is damaged.
        InputError: The new folder lies within the codebook.
        ConflictError: The new folder is in use.
        UnavailableError: The new folder cannot be written.
        ReasonEditError: There is no codebook.
    """
    source, target = Path(folder).absolute(), Path(out).absolute()
    _check_folders(source, target)
    part = target.with_name(f".{target.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        with WriterLock(part, patience=0).hold():  # so what lies there is of one that was killed
            try:
                _copy_one_state(source, part)
                copy = _check_copy(source, part, target)
                part.rename(target)  # replaces an empty folder
                (target / _WRITER_FILE).unlink(missing_ok=True)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
        sync(target.parent)
    except OSError as error:
        raise UnavailableError(
            f"The backup cannot be written to '{target}' ({error.strerror or error}): free some space or name "
            f"another folder. '{source}' is as it was."
        ) from error
    return copy


def _check_folders(source: Path, target: Path) -> None:
    """Refuse to copy from a folder without a codebook, or into one where the copy would do harm.

    Raises:
        ReasonEditError: It is one.
    """
    Manifest.read(source)
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"'{target}' lies within the codebook itself: name a folder elsewhere.")
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise ConflictError(f"'{target}' exists already: name a new folder, so that no earlier backup is lost.")


def _copy_one_state(source: Path, part: Path) -> None:
    """Copy one state of a codebook; where a writer removed its files meanwhile, the next state instead."""
    for tries in range(_TRIES):
        _clear(part)
        for subfolder in (part / KEYS, part / PICTURES):
            subfolder.mkdir()
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
    """Remove everything from a folder but its lock."""
    for path in part.iterdir():
        if path.name in LOCK_FILES:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _copy(source: Path, part: Path, manifest: Manifest) -> None:
    journal = manifest.journal_file
    _copy_file(source / journal, part / journal, manifest.journal.bytes)  # somebody may be writing after that
    lost = [path for path in (source / LOST, *(source / LOST_PICTURES).glob("*.png")) if path.is_file()]
    names = [*_name_files(manifest, Journal(source / journal)), *(path.relative_to(source).as_posix() for path in lost)]
    for name in dict.fromkeys(names):
        (part / name).parent.mkdir(exist_ok=True)
        _copy_file(source / name, part / name)
    manifest.write(part)


def _copy_file(source: Path, target: Path, size: int | None = None) -> None:
    """Copy a file, or its first ``size`` bytes.

    Raises:
        DamagedError: It has fewer bytes.
    """
    remaining = size
    with open_to_read(source) as old, write_atomically(target) as new:
        while remaining != 0 and (data := old.read(_CHUNK if remaining is None else min(remaining, _CHUNK))):
            new.write(data)
            remaining = remaining if remaining is None else remaining - len(data)
    if remaining:
        raise DamagedError(source, (size or 0) - remaining, f"it ends there, and should have {size} bytes")


def _name_files(manifest: Manifest, journal: Journal) -> Iterator[str]:
    """Names of the files that belong to a codebook, other than manifest and journal."""
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
            file = Checksums.from_dict(line.values["keys"]).file if event.facts and event.first >= joined else None
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(journal.path, line.start, f"the record makes no sense ({error})") from error
        if file is not None:
            yield file
        if event.edit is not None:
            yield from (f"{PICTURES}/{name}.png" for name in event.edit.pictures)


def _check_copy(source: Path, part: Path, target: Path) -> Backup:
    """Read a copy in full.

    Raises:
        DamagedError: It is not whole.
    """
    for damage in verify(part).damages:
        raise DamagedError(source / damage.path.relative_to(part), damage.offset, damage.what)
    memory = EditMemory.open(Store.open(part))
    size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file() and path.name[0] != ".")
    return Backup(target, len(memory.edits), len(memory.undone), size)
