"""What several cells need trained is trained by one of them, though they run at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def train_once(path: Path, train: Callable[[], None]) -> None:
    """Have a file of the cache made where it is missing; whoever comes meanwhile waits for it.

    Args:
        path: The file.
        train: Writes it.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            train()
