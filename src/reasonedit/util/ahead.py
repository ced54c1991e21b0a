"""Work that is done in a thread of its own while the caller does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """What a function returns; it is called at once, in another thread.

    A thread for each, not a pool of them: the child of a fork would wait for a pool's threads, which are gone there.

    Args:
        work: The function.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="reasonedit-ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # whoever asks for the result is told
            self._error = error

    def result(self) -> T:
        """Wait for the result.

        Raises:
            BaseException: Whatever the function raised.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]
