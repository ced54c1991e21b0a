"""Children of this process: what they return or raise, as a text."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from reasonedit import ReasonEditError

HANGS = 600
"""Seconds after which a child is taken to hang: what it does takes none worth speaking of."""


class Child:
    """A process that runs a function: see :func:`forked`.

    Attributes:
        process: Its id.
    """

    def __init__(self, process: int, said: int) -> None:
        self.process, self._said = process, said

    def result(self) -> str:
        """What the function returned, as a text, once it has ended; of an error its type and its text."""
        with os.fdopen(self._said, encoding="utf-8") as file:
            found = file.read()
        _, status = os.waitpid(self.process, 0)
        assert os.WIFEXITED(status), f"the child was ended by signal {os.WTERMSIG(status)}: {found}"
        return found


def run_in_child(
    run: Callable[[], Any], user: int | None = None, group: int | None = None, umask: int | None = None
) -> Child:
    """Run a function in a child.

    Args:
        run: The function.
        user: The user to be; only root may be another one.
        group: The group to be of.
        umask: What is taken away from the modes of new files.
    """
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return Child(process, reading)
    os.close(reading)
    signal.alarm(HANGS)  # which ends it
    try:
        if group is not None:
            os.setgroups([])
            os.setgid(group)
        if user is not None:
            os.setuid(user)
        if umask is not None:
            os.umask(umask)
        try:
            told = str(run())
        except ReasonEditError as error:
            told = f"refused: {error}"
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        with os.fdopen(writing, "w", encoding="utf-8") as file:
            file.write(told)
    finally:
        os._exit(0)
