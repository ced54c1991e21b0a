"""Who reads a codebook's folder holds one state of it; who removes files there leaves that state alone.

Both lock the folder of the keys: readers together, whoever removes files alone. Where the file system has no such
locks, a reader whose files are removed under its hands reads again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .layout import KEYS

try:
    import fcntl
except ImportError:  # Windows, where files that are open are not removed
    fcntl = None  # type: ignore[assignment]

_HAS_LOCKS = fcntl is not None
_PATIENCE, _PAUSE = 1.0, 0.005
"""Seconds that a reader waits for whoever removes files, and between two tries."""


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keep the files that the folder's manifest names there meanwhile.

    Who removes files is waited for, but only for a moment: it may have been stopped, and reading must go on.
    """
    with _lock_keys(folder, exclusively=False, patience=_PATIENCE):
        yield


@contextmanager
def removing(folder: Path, patience: float = 0.0) -> Iterator[bool]:
    """Whether files may be removed that the manifest does not name: nobody reads, nor begins to read meanwhile.

    Args:
        folder: The codebook's folder.
        patience: How many seconds to wait for readers.
    """
    with _lock_keys(folder, exclusively=True, patience=patience) as alone:
        yield alone


@contextmanager
def _lock_keys(folder: Path, *, exclusively: bool, patience: float) -> Iterator[bool]:
    """Whether nobody has a lock that excludes this one; also true where there are no locks."""
    try:
        handle = os.open(folder / KEYS, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))  # a pipe would be waited for
    except OSError:  # no such folder, or one that cannot be opened
        handle = -1
    try:
        yield handle < 0 or _lock(handle, exclusively, patience)
    finally:
        if handle >= 0:
            _release(handle)


def _lock(handle: int, exclusively: bool, patience: float) -> bool:
    if not _HAS_LOCKS:
        return True
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if exclusively else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_PAUSE)
        except OSError:  # a file system without locks
            return True
        else:
            return True


def _release(handle: int) -> None:
    if _HAS_LOCKS:
        with contextlib.suppress(OSError):  # a child that was forked meanwhile shares this opening of the folder
            fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)
