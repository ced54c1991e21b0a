"""Files in a codebook's folder that do not count: how they are found and removed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from ..events import PICTURE
from .begun import NOTE
from .files import sync
from .layout import KEYS, PICTURES, FileName, parse_name
from .manifest import MANIFEST, Manifest

_PART = re.compile(
    r"\.(?:codebook\.json|\.(?:begun|erasing)\.json|[\w-]+\.(?:safetensors|jsonl)|[0-9a-f]{64}\.png|probe-\d)\.\d+\.part"
    r"|\.tmp[0-9A-Za-z]{6}"  # what safetensors writes to
)


def used_files(manifest: Manifest, loose: Collection[str], pictures: Collection[str]) -> set[str]:
    """Names of the files that belong to a codebook, from its folder on.

    Args:
        manifest: Its manifest.
        loose: The files of keys that are not joined.
        pictures: Names of the pictures that edits have.
    """
    used = {MANIFEST, manifest.journal_file, *loose, *(part.sums.file for part in manifest.sealed)}
    used |= {manifest.settled.sums.file} if manifest.settled else set()
    used |= {manifest.statistics.file} if manifest.statistics else set()
    return used | {f"{PICTURES}/{name}.png" for name in pictures}


def leftovers(folder: Path, used: Collection[str]) -> list[Path]:
    """Files that a codebook wrote and no longer refers to; never what others put there.

    Args:
        folder: The codebook's folder, which nobody writes meanwhile.
        used: Names of the files that belong to it.
    """
    names = (path.relative_to(folder).as_posix() for path in _paths(folder))
    paths = [folder / name for name in names if name not in used and _is_own_name(name)]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def _paths(folder: Path) -> Iterator[Path]:
    for part in (folder, folder / KEYS, folder / PICTURES):
        with contextlib.suppress(OSError):
            yield from part.iterdir()


def _is_own_name(name: str) -> bool:
    """Whether a name, from the codebook's folder on, is one that a codebook gives."""
    last = name.rpartition("/")[2]
    if name.startswith(f"{PICTURES}/") and last.endswith(".png") and PICTURE.fullmatch(last[:-4]):
        return True
    return name == NOTE or _PART.fullmatch(last) is not None or parse_name(name) is not None


def own_files(folder: Path) -> list[tuple[Path, FileName]]:
    """Files whose name a codebook gives, without pictures, and what the name says."""
    names = [path.relative_to(folder).as_posix() for part in (folder, folder / KEYS) for path in part.glob("*")]
    return [(folder / name, parts) for name in names if (parts := parse_name(name)) is not None]


def remove(paths: Collection[Path]) -> None:
    """Remove files as far as possible, so that they do not come back when the power goes."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
    for folder in {path.parent for path in paths}:
        with contextlib.suppress(OSError):
            sync(folder)
