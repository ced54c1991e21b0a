"""What lies in a codebook's folder and does not count: found, and removed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from .begun import NOTE
from .events import PICTURE
from .layout import KEYS, PICTURES, named
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
    return [path for path in _files(folder) if _dead(path, path.relative_to(folder).as_posix(), kept, pictures)]


def _files(folder: Path) -> Iterator[Path]:
    for part in (folder, folder / KEYS, folder / PICTURES):
        with contextlib.suppress(OSError):
            yield from (path for path in part.iterdir() if path.is_file() and not path.is_symlink())


def _dead(path: Path, name: str, kept: Collection[str], pictures: Collection[str]) -> bool:
    if name == f"{PICTURES}/{path.stem}.png" and PICTURE.fullmatch(path.stem):
        return path.stem not in pictures
    return name == NOTE or _PART.fullmatch(path.name) is not None or (named(name) is not None and name not in kept)


def remove(paths: Collection[Path]) -> None:
    """Remove files as far as that is possible."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
