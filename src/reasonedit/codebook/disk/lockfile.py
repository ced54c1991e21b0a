"""A file that one process holds at a time; the system releases it when the process ends, however it ends.

On POSIX it is ``flock`` on the file. Such a lock belongs to an opening of the file, and the child of a fork shares that
opening: the child closes its own handle and releases nothing. Elsewhere it is filelock's.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from .files import open_to_write

if TYPE_CHECKING:
    from filelock import FileLock

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class LockFile:
    """A lock that keeps out other processes, and other locks of this process.

    Args:
        path: The file; it is made, and stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        self._filelock: FileLock | None = None if fcntl is not None else _make_filelock(path)
        _all.add(self)

    def take(self) -> bool:
        """Take it if nobody holds it; whether it was taken.

        Raises:
            ConflictError: The file is a link, or no regular file.
            OSError: It cannot be opened or locked.
        """
        if self._filelock is not None:
            return _take_filelock(self._filelock)
        handle = open_to_write(self.path)
        try:
            if _lock(handle) and self._has_its_name(handle):
                self._handle, handle = handle, -1
        finally:
            if handle >= 0:
                os.close(handle)
        return self._handle is not None

    def _has_its_name(self, handle: int) -> bool:
        """Whether the open file still has its name: others would lock the file that has it now."""
        try:
            return os.path.samestat(os.fstat(handle), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def excludes(self) -> bool:
        """Whether it keeps others out while it is held: a second opening of the file must not get it."""
        if self._handle is None:
            return True
        handle = open_to_write(self.path)
        try:
            return not _lock(handle)
        finally:
            os.close(handle)

    def release(self) -> None:
        """Let others have it."""
        if self._filelock is not None:
            self._filelock.release()
        elif self._handle is not None:
            handle, self._handle = self._handle, None
            try:
                fcntl.flock(handle, fcntl.LOCK_UN)  # also where a process that was not forked from Python shares it
            finally:
                os.close(handle)

    def forget_parent(self) -> None:
        """In the child of a fork: what its parent holds is not its own."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _lock(handle: int) -> bool:
    """Lock an open file if nobody else has; whether it was locked."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # some systems say the latter
        return False
    return True


def _make_filelock(path: Path) -> FileLock:
    from filelock import FileLock

    return FileLock(path, thread_local=False)


def _take_filelock(lock: FileLock) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


_all: weakref.WeakSet[LockFile] = weakref.WeakSet()


def _forget_parent() -> None:
    for lock in list(_all):
        lock.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
