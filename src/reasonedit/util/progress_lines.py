"""How far something is, where standard error is a file: a line now and then in place of a bar."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

SECONDS = 60.0
"""Seconds between two lines."""


def progress_on(console: Console, *, transient: bool = False) -> Progress:
    """A bar at a terminal and in a notebook; elsewhere lines, as in the log of a job that runs for hours.

    Args:
        console: Where to.
        transient: Whether the bar goes when all is done.
    """
    if not (console.is_terminal or console.is_jupyter):
        return ProgressLines(console)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=transient)


class ProgressLines(Progress):
    """Says in a line how far a task is, once a minute, and draws nothing."""

    def __init__(self, console: Console) -> None:
        super().__init__(console=console, disable=True)
        self._began = self._said = time.monotonic()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """As rich does it; a line is printed where the last one is long ago."""
        super().update(task_id, **changes)
        self._say(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """As :meth:`update`."""
        super().advance(task_id, advance)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        now = time.monotonic()
        if now - self._said < SECONDS:
            return
        self._said = now
        task = next(task for task in self.tasks if task.id == task_id)
        of = f" of {task.total:.0f}" if task.total is not None else ""
        minutes = round((now - self._began) / 60)
        self.console.print(f"{task.description}: {task.completed:.0f}{of}, after {minutes} min", highlight=False)
