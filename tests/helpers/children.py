"""Runs functions in children of this process; what they return or raise is a text."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from reasonedit import ReasonEditError

HANGS = 600
"""Seconds after which a child is taken to hang: what it does takes far less."""


class Child:
    """A process that runs a function: see :func:`forked`.

    Attributes:
        process: Its id.
    """

    def __init__(self, process: int, pipe: int) -> None:
        self.process, self._pipe = process, pipe

    def result(self) -> str:
        """What the function returned, as a text, once it has ended; of an error, its type and message."""
        with os.fdopen(self._pipe, encoding="utf-8") as file:
            text = file.read()
        _, status = os.waitpid(self.process, 0)
        assert os.WIFEXITED(status), f"the child was ended by signal {os.WTERMSIG(status)}: {text}"
        return text


def run_in_child(
    run: Callable[[], Any], user: int | None = None, group: int | None = None, umask: int | None = None
) -> Child:
    """Run a function in a child.

    Args:
        run: The function.
        user: The user to be; only root may be another one.
        group: The group to be of.
        umask: The mode bits that new files do not get.
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
            text = str(run())
        except ReasonEditError as error:
            text = f"refused: {error}"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        with os.fdopen(writing, "w", encoding="utf-8") as file:
            file.write(text)
    finally:
        os._exit(0)
