"""What lets several threads share one model and one codebook.

A model, its tokenizer and its processor keep things between calls: hooks, truncation, positions of the last image. So
each pass of a model is made by one thread at a time (:func:`guard_of`), and whatever else several threads touch is
guarded the same way. What threads wait for meanwhile is put together: :class:`Gathering`.

A process may be forked while other threads hold locks, and in the child they are not there: see :class:`Guard`.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Guard:
    """A lock that a thread may take again, and that does not hang the child of a fork.

    In the child it is held by the thread that forked, where that held it, and else by nobody. Where another thread held
    it, that one may have left half done what it was doing: that is put right before anybody else holds it.

    Args:
        renew: Puts right what is guarded; a method, whose object is not kept alive.
    """

    def __init__(self, renew: Callable[[], None] | None = None) -> None:
        self._lock = threading.RLock()
        self._renew = None if renew is None else weakref.WeakMethod(renew)
        self._torn = False
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._torn:
            try:
                self._put_right()
            except BaseException:
                self._lock.release()
                raise

    def __exit__(self, *raised: object) -> None:
        self._lock.release()

    def _put_right(self) -> None:
        self._torn = False  # what puts it right takes this lock, too
        try:
            renew = self._renew and self._renew()
            if renew:
                renew()
        except BaseException:
            self._torn = True
            raise

    def in_a_child(self) -> None:
        """The process is the child of a fork."""
        if self._lock.acquire(blocking=False):  # it was free, or is held by the thread that goes on here
            self._lock.release()
        else:
            self._lock, self._torn = threading.RLock(), True


_all: weakref.WeakSet[Guard] = weakref.WeakSet()
_guards: weakref.WeakKeyDictionary[Any, Guard] = weakref.WeakKeyDictionary()
_finding = Guard()


def _in_a_child() -> None:
    guards = list(_all)
    for guard in guards:
        guard.in_a_child()
    if len(guards) > 1:  # there is a codebook or a model
        _with_one_thread()


def _with_one_thread() -> None:
    """Let torch compute with the one thread that a child has.

    Those that helped it in the parent are not there, and OpenMP would wait for them without end: at the next large
    product of matrices. Torch does the same in the workers of its data loaders.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_child)


def guard_of(model: object) -> Guard:
    """The lock of a model: the same for all that wrap it. It is not kept on the model, which may be copied or sent."""
    with _finding:
        if model not in _guards:
            _guards[model] = Guard()
        return _guards[model]


def guarded(method: F) -> F:
    """A method that runs while its object's ``guard`` is held."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.guard:
            return method(self, *args, **kwargs)

    run.__dict__["is_guarded"] = True
    return run  # type: ignore[return-value]


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
        self._turn = Guard(self._forget)
        self._waiting: list[_Asked[T, R]] = []
        self._list = Guard(self._forget)

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

    def _forget(self) -> None:
        """In the child of a fork nobody waits any more for what others asked."""
        self._waiting = []

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
