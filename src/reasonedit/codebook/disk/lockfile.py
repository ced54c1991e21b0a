"""A file that one process holds at a time; the system lets go of it when the process ends, however it ends.

POSIX: ``flock`` on the file. Such a lock belongs to an opening of the file, which the child of a fork shares: it closes
its own handle and lets go of nothing. Elsewhere it is filelock's.
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
    """A lock that other processes, and other locks of this one, are kept out by.

    Args:
        path: The file; it is made, and stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        self._file: FileLock | None = None if fcntl is not None else _of_filelock(path)
        _all.add(self)

    def take(self) -> bool:
        """Take it where nobody holds it; whether that is so.

        Raises:
            ReasonEditError: The file is a link, or no regular file.
            OSError: It cannot be opened or locked.
        """
        if self._file is not None:
            return _taken(self._file)
        handle = open_to_write(self.path)
        try:
            if lock_handle(handle) and self._is_there(handle):
                self._handle, handle = handle, -1
        finally:
            if handle >= 0:
                os.close(handle)
        return self._handle is not None

    def _is_there(self, handle: int) -> bool:
        """Whether the file still has its name: who finds another one there locks that."""
        try:
            return os.path.samestat(os.fstat(handle), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def excludes(self) -> bool:
        """Whether it keeps others out, while it is held: a second opening of the file must not get it."""
        if self._handle is None:
            return True
        handle = open_to_write(self.path)
        try:
            return not lock_handle(handle)
        finally:
            os.close(handle)

    def let_go(self) -> None:
        """Let others have it."""
        if self._file is not None:
            self._file.release()
        elif self._handle is not None:
            handle, self._handle = self._handle, None
            try:
                fcntl.flock(handle, fcntl.LOCK_UN)  # also where a process that was not forked from Python shares it
            finally:
                os.close(handle)

    def in_a_child(self) -> None:
        """The process is the child of a fork: what its parent holds is not its own."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def lock_handle(handle: int) -> bool:
    """Lock an open file where nobody else has; whether that is so."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # some systems say the latter
        return False
    return True


def _of_filelock(path: Path) -> FileLock:
    from filelock import FileLock

    return FileLock(path, thread_local=False)


def _taken(file: FileLock) -> bool:
    from filelock import Timeout

    try:
        file.acquire(timeout=0)
    except Timeout:
        return False
    return True


_all: weakref.WeakSet[LockFile] = weakref.WeakSet()


def _in_a_child() -> None:
    for lock in list(_all):
        lock.in_a_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_child)
