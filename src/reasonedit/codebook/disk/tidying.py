"""What lies in a codebook's folder and does not count: found, and removed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from ..events import PICTURE
from .begun import NOTE
from .files import sync
from .layout import KEYS, PICTURES, FileName, parse_name
from .manifest import Manifest

_PART = re.compile(
    r"\.(?:codebook\.json|\.(?:begun|erasing)\.json|[\w-]+\.(?:safetensors|jsonl)|[0-9a-f]{64}\.png|probe-\d)\.\d+\.part"
    r"|\.tmp[0-9A-Za-z]{6}"  # what safetensors writes to
)


def leftovers(folder: Path, manifest: Manifest, loose: Collection[str], pictures: Collection[str]) -> list[Path]:
    """Files that were written by a codebook and to which it refers no more; what others put there is none of them.

    Args:
        folder: The codebook's folder, which nobody writes meanwhile.
        manifest: Its manifest.
        loose: The files of keys that are not joined.
        pictures: Names of the pictures that edits have.
    """
    kept = {manifest.journal_file, *loose, *(s.sums.file for s in manifest.sealed)}
    kept |= {manifest.settled.sums.file} if manifest.settled else set()
    kept |= {manifest.statistics.file} if manifest.statistics else set()
    names = (path.relative_to(folder).as_posix() for path in _paths(folder))
    dead = [folder / name for name in names if _dead(name, kept, pictures)]
    return [path for path in dead if path.is_file() and not path.is_symlink()]


def _paths(folder: Path) -> Iterator[Path]:
    for part in (folder, folder / KEYS, folder / PICTURES):
        with contextlib.suppress(OSError):
            yield from part.iterdir()


def _dead(name: str, kept: Collection[str], pictures: Collection[str]) -> bool:
    """Whether a name, from the folder on, is one of ours that does not count."""
    last = name.rpartition("/")[2]
    if name.startswith(f"{PICTURES}/") and last.endswith(".png") and PICTURE.fullmatch(last[:-4]):
        return last[:-4] not in pictures
    return name == NOTE or _PART.fullmatch(last) is not None or (parse_name(name) is not None and name not in kept)


def own_files(folder: Path) -> list[tuple[Path, FileName]]:
    """Files with a name of our own, pictures not among them, and what it says."""
    names = [path.relative_to(folder).as_posix() for part in (folder, folder / KEYS) for path in part.glob("*")]
    return [(folder / name, told) for name in names if (told := parse_name(name)) is not None]


def remove(paths: Collection[Path]) -> None:
    """Remove files as far as that is possible, so that they do not come back when the power goes."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
    for folder in {path.parent for path in paths}:
        with contextlib.suppress(OSError):
            sync(folder)
