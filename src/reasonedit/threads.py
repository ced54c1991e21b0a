"""What lets several threads share one model and one codebook.

A model, its tokenizer and its processor keep things between calls: hooks, truncation, positions of the last image. So
each pass of a model is made by one thread at a time (:func:`guard_of`), and whatever else several threads touch is
guarded the same way. What threads wait for meanwhile is put together: :class:`Gathering`.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

_guards: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_finding = threading.Lock()


def guard_of(model: object) -> Any:
    """The lock of a model: the same for all that wrap it. It is not kept on the model, which may be copied or sent."""
    with _finding:
        if model not in _guards:
            _guards[model] = threading.RLock()
        return _guards[model]


def guarded(method: F) -> F:
    """A method that runs while its object's ``guard`` is held."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.guard:
            return method(self, *args, **kwargs)

    run.__dict__["is_guarded"] = True
    return run  # type: ignore[return-value]


def _in_a_child() -> None:
    """A lock that another thread held when the process was forked would never be let go of."""
    global _finding  # noqa: PLW0603 - there is one per process
    _finding = threading.Lock()
    _guards.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_child)


class _Asked(Generic[T, R]):
    def __init__(self, item: T) -> None:
        self.item = item
        self.result: R | None = None
        self.error: BaseException | None = None
        self.done = False


class Gathering(Generic[T, R]):
    """Has what several threads ask at the same time answered together.

    Whoever comes while nobody runs, runs at once; what others ask meanwhile waits, and the next one to run takes all of
    it, up to ``most``, in the order in which it came.

    Args:
        run: Answers several items, one result for each.
        most: The most items at once.
    """

    def __init__(self, run: Callable[[Sequence[T]], Sequence[R]], most: int = 8) -> None:
        self._run = run
        self._most = most
        self._turn = threading.Lock()
        self._waiting: list[_Asked[T, R]] = []
        self._list = threading.Lock()

    def ask(self, item: T) -> R:
        """Have one item answered.

        Raises:
            BaseException: Whatever answering this item raises: where a batch fails, each of it is tried by itself.
        """
        mine: _Asked[T, R] = _Asked(item)
        with self._list:
            self._waiting.append(mine)
        try:
            while not mine.done:
                with self._turn:
                    if not mine.done:
                        self._answer(mine)
        except BaseException:
            with self._list:  # interrupted while it waited: nobody needs its answer
                if mine in self._waiting:
                    self._waiting.remove(mine)
            raise
        if mine.error is not None:
            raise mine.error
        return mine.result  # type: ignore[return-value]  # there is one where there is no error

    def _answer(self, mine: _Asked[T, R]) -> None:
        with self._list:
            if mine not in self._waiting:  # whoever had taken it was interrupted
                self._waiting.insert(0, mine)
            taken, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            for asked, result in zip(taken, self._run([a.item for a in taken]), strict=True):
                asked.result, asked.done = result, True
        except Exception as error:
            if len(taken) == 1:
                taken[0].error, taken[0].done = error, True
                return
            for asked in taken:
                self._alone(asked)

    def _alone(self, asked: _Asked[T, R]) -> None:
        try:
            (asked.result,) = self._run([asked.item])
        except Exception as error:
            asked.error = error
        asked.done = True
