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

from reasonedit.errors import ReasonEditError
from reasonedit.threads import Guard

from . import filesystem
from .errors import write_error
from .files import create, read_content
from .lockfile import LockFile

_LOCK, _WRITER = ".lock", ".writer.json"
LOCK_FILES = (_LOCK, _WRITER)
_PAUSE = 0.05
_MOST = 1 << 16


def login() -> str:
    """The name of whoever is logged in, or nothing."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


class _Hold:
    """The lock while it is held; how often within itself."""

    depth = 0


class WriterLock:
    """A lock on a folder; the operating system lets go of it when its process ends, however it ends.

    The child of a fork does not hold what its parent holds: it takes the lock itself.

    Args:
        folder: The folder.
        patience: How many seconds another writer is waited for.
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
        """Whether it is held here."""
        return self._hold is not None and self._process == os.getpid()

    def check(self) -> None:
        """See that it is held here.

        Raises:
            ReasonEditError: It is not, as in the child of a fork whose parent holds it.
        """
        if not self.held:
            raise ReasonEditError(
                f"This process has not locked the codebook in '{self._folder}', or was forked since: its parent writes."
            )

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold it, also within itself.

        Raises:
            ReasonEditError: Another process writes; says whose it is. Or the folder cannot be written safely.
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
                if not hold.depth and self.held and self._hold is hold:  # else its parent lets go of it
                    self._hold = None
                    self._let_go()

    def _take(self) -> None:
        end = time.monotonic() + self._patience
        try:
            while not self._file.take():
                if time.monotonic() > end:
                    raise ReasonEditError(
                        f"The codebook in '{self._folder}' is being written by {self.owner()}: wait until that is "
                        "done. Reading it is possible all the time."
                    )
                time.sleep(_PAUSE)
            try:
                filesystem.check(self._folder, self._file)
                self._sign()
            except BaseException:
                self._file.let_go()
                raise
        except OSError as error:
            raise write_error(self._folder, error, "locked for writing") from error

    def _sign(self) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        owner = {"user": login(), "host": socket.gethostname(), "pid": os.getpid(), "since": now}
        owner["command"] = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
        path = self._folder / _WRITER
        try:
            with create(path) as file:
                file.write(json.dumps(owner).encode())
        except OSError:  # a full disk: the lock holds without a name
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _let_go(self) -> None:
        with contextlib.suppress(OSError):
            (self._folder / _WRITER).unlink(missing_ok=True)
        self._file.let_go()

    def owner(self) -> str:
        """Who holds it, in words."""
        try:
            told = json.loads(read_content(self._folder / _WRITER, _MOST))
            who = f"{told['user']}@{told['host']}" if told["user"] else told["host"]
            return f"{who} ('{told['command']}', process {told['pid']}, since {told['since']})"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return "another process"
