"""One writer at a time, who says who it is."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from reasonedit.errors import ReasonEditError

_LOCK, _WRITER = ".lock", ".writer.json"
FILES = (_LOCK, _WRITER)


def login() -> str:
    """The name of whoever is logged in, or nothing."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


class WriterLock:
    """A lock on a folder; the operating system lets go of it when its process ends, however it ends.

    Args:
        folder: The folder.
        patience: How many seconds another writer is waited for.
    """

    def __init__(self, folder: Path, patience: float = 10.0) -> None:
        self._folder = folder
        self._patience = patience
        self._file = FileLock(folder / _LOCK, thread_local=False)
        self._threads = threading.RLock()
        self._depth = 0

    @property
    def held(self) -> bool:
        """Whether it is held here."""
        return self._depth > 0

    @contextmanager
    def held_by_us(self) -> Iterator[None]:
        """Hold it, also within itself.

        Raises:
            ReasonEditError: Another process writes; says whose it is.
        """
        with self._threads:
            if self._depth == 0:
                self._take()
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    with contextlib.suppress(OSError):
                        (self._folder / _WRITER).unlink(missing_ok=True)
                    self._file.release()

    def _take(self) -> None:
        try:
            self._file.acquire(timeout=self._patience)
        except Timeout as error:
            raise ReasonEditError(
                f"The codebook in '{self._folder}' is being written by {self.owner()}: wait until that is done. "
                "Reading it is possible all the time."
            ) from error
        except OSError as error:
            raise ReasonEditError(
                f"The codebook in '{self._folder}' cannot be locked for writing ({error.strerror or error})."
            ) from error
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        owner = {"user": login(), "host": socket.gethostname(), "pid": os.getpid(), "since": now}
        owner["command"] = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
        try:
            (self._folder / _WRITER).write_text(json.dumps(owner))
        except OSError:  # a full disk: the lock holds without a name
            with contextlib.suppress(OSError):
                (self._folder / _WRITER).unlink(missing_ok=True)

    def owner(self) -> str:
        """Who holds it, in words."""
        try:
            told = json.loads((self._folder / _WRITER).read_text())
            who = f"{told['user']}@{told['host']}" if told["user"] else told["host"]
            return f"{who} ('{told['command']}', process {told['pid']}, since {told['since']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
