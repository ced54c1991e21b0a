"""Copies of damaged codebooks, beside them."""

from __future__ import annotations

import os
import re
import shutil
from datetime import datetime, timezone
from pathlib import Path

from ..disk.files import sync
from ..disk.layout import KEYS, PICTURES
from ..disk.lock import LOCK_FILES


def copy_aside(folder: Path) -> Path:
    """Copy a codebook's folder as it is, to ``NAME.damaged-TIME`` beside it.

    Keys and pictures are linked where the file system has links, as they are never changed in place; all else is
    copied.

    Args:
        folder: The folder, which nobody writes meanwhile.

    Returns:
        The copy.

    Raises:
        OSError: It cannot be copied; nothing is left of it then.
    """
    now = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    target, number = folder.with_name(f"{folder.name}.damaged-{now}"), 1
    while os.path.lexists(target):
        number += 1
        target = folder.with_name(f"{folder.name}.damaged-{now}-{number}")
    part = folder.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _copy(folder, part)
        part.rename(target)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return target


def clear_parts(folder: Path) -> None:
    """Remove what is left of copies that were cut short; the folder's lock is held, so that none is being made."""
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.(?:damaged-[\d-]+\.)?\d+\.part")
    for path in folder.parent.iterdir():
        if pattern.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _copy(folder: Path, target: Path) -> None:
    target.mkdir()
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        copy = target / entry.name
        if entry.name in LOCK_FILES:  # these say who writes the folder, not what is in it
            continue
        if entry.is_symlink():
            copy.symlink_to(os.readlink(entry.path))
        elif entry.is_dir():
            _copy(Path(entry.path), copy)
        elif entry.is_file() and not (folder.name in (KEYS, PICTURES) and _link(entry.path, copy)):
            shutil.copy2(entry.path, copy)
            sync(copy)
    shutil.copystat(folder, target)
    sync(target)


def _link(path: str, target: Path) -> bool:
    """Link a file; whether that is possible."""
    try:
        os.link(path, target, follow_symlinks=False)
    except (OSError, NotImplementedError):  # a file system without links, or a system that would follow one
        return False
    return True
