"""Answers several threads' calls in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from reasonedit.util.threads import Guard

T = TypeVar("T")
R = TypeVar("R")


class _Call(Generic[T, R]):
    def __init__(self, item: T) -> None:
        self.item = item
        self.result: R | None = None
        self.error: BaseException | None = None
        self.done = False


class CallBatcher(Generic[T, R]):
    """Answers what several threads ask at the same time in one batch.

    A thread that comes while nobody runs, runs at once. What others ask meanwhile waits; the next thread to run takes
    all of it, up to ``most``, in the order in which it came.

    Args:
        run: Answers several items, with one result for each.
        most: The most items at once.
    """

    def __init__(self, run: Callable[[Sequence[T]], Sequence[R]], most: int = 8) -> None:
        self._run = run
        self._most = most
        self._turn = Guard(self._forget)
        self._waiting: list[_Call[T, R]] = []
        self._waiting_guard = Guard(self._forget)

    def ask(self, item: T) -> R:
        """Have one item answered.

        Raises:
            BaseException: Whatever answering this item raises. Where a batch fails, each of its items is tried alone.
        """
        call: _Call[T, R] = _Call(item)
        with self._waiting_guard:
            self._waiting.append(call)
        try:
            while not call.done:
                with self._turn:
                    if not call.done:
                        self._answer(call)
        except BaseException:
            with self._waiting_guard:  # interrupted while it waited: nobody needs its answer
                if call in self._waiting:
                    self._waiting.remove(call)
            raise
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]  # there is one where there is no error

    def _forget(self) -> None:
        """Forget what others asked: in the child of a fork they do not wait any more."""
        self._waiting = []

    def _answer(self, call: _Call[T, R]) -> None:
        with self._waiting_guard:
            if call not in self._waiting:  # the thread that had taken it was interrupted
                self._waiting.insert(0, call)
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            for answered, result in zip(batch, self._run([c.item for c in batch]), strict=True):
                answered.result, answered.done = result, True
        except Exception as error:
            if len(batch) == 1:
                call = batch[0]
                call.error, call.done = error, True
                return
            for failed in batch:
                self._answer_alone(failed)

    def _answer_alone(self, call: _Call[T, R]) -> None:
        try:
            (call.result,) = self._run([call.item])
        except Exception as error:
            call.error = error
        call.done = True
