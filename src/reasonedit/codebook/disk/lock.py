"""One writer at a time, who says who it is."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from reasonedit.errors import LockedError
from reasonedit.util.threads import Guard

from . import filesystem
from .errors import write_error
from .files import create, read_content
from .lockfile import LockFile

_LOCK, _WRITER = ".lock", ".writer.json"
LOCK_FILES = (_LOCK, _WRITER)
"""The file that is locked, and the one that says who holds it."""
_PAUSE = 0.05
"""Seconds between two tries."""
_MOST = 1 << 16
"""Bytes of what says who holds it."""


def login_name() -> str:
    """The name of whoever is logged in, or nothing."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


class _Hold:
    """The lock while it is held, and how often it is held within itself."""

    depth = 0


class WriterLock:
    """A lock on a folder; the operating system releases it when its process ends, however it ends.

    The child of a fork does not hold what its parent holds: it takes the lock itself.

    Args:
        folder: The folder.
        patience: How many seconds to wait for another writer.
    """

    def __init__(self, folder: Path, patience: float = 10.0) -> None:
        self._folder = folder
        self._patience = patience
        self._file = LockFile(folder / _LOCK)
        self._threads = Guard()
        self._hold: _Hold | None = None
        self._process = os.getpid()

    @property
    def held(self) -> bool:
        """Whether this process holds it."""
        return self._hold is not None and self._process == os.getpid()

    def check_held(self) -> None:
        """Check that this process holds it.

        Raises:
            LockedError: It does not, as in the child of a fork whose parent holds it.
        """
        if not self.held:
            raise LockedError(
                f"This process has not locked the codebook in '{self._folder}', or was forked since: its parent writes."
            )

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold it, also within itself.

        Raises:
            LockedError: Another process writes; says whose it is.
            ReasonEditError: The folder cannot be written safely.
        """
        with self._threads:
            if not self.held:
                self._take()
                self._hold, self._process = _Hold(), os.getpid()
            hold = self._hold
            assert hold is not None
            hold.depth += 1
            try:
                yield
            finally:
                hold.depth -= 1
                if not hold.depth and self.held and self._hold is hold:  # else the parent of this child releases it
                    self._hold = None
                    self._release()

    def _take(self) -> None:
        end = time.monotonic() + self._patience
        try:
            while not self._file.take():
                if time.monotonic() > end:
                    raise LockedError(
                        f"The codebook in '{self._folder}' is being written by {self.owner()}: wait until that is "
                        "done. Reading it is possible all the time."
                    )
                time.sleep(_PAUSE)
            try:
                filesystem.check(self._folder, self._file)
                self._sign()
            except BaseException:
                self._file.release()
                raise
        except OSError as error:
            raise write_error(self._folder, error, "locked for writing") from error

    def _sign(self) -> None:
        """Write who holds it."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        owner = {"user": login_name(), "host": socket.gethostname(), "pid": os.getpid(), "since": now}
        owner["command"] = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
        path = self._folder / _WRITER
        try:
            with create(path) as file:
                file.write(json.dumps(owner).encode())
        except OSError:  # a full disk: the lock holds without a name
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            (self._folder / _WRITER).unlink(missing_ok=True)
        self._file.release()

    def owner(self) -> str:
        """Who holds it, in words."""
        try:
            owner = json.loads(read_content(self._folder / _WRITER, _MOST))
            name = f"{owner['user']}@{owner['host']}" if owner["user"] else owner["host"]
            return f"{name} ('{owner['command']}', process {owner['pid']}, since {owner['since']})"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return "another process"
