"""Answers several threads' calls in one batch."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from reasonedit.util.threads import Guard

_STEP = 0.001
"""Seconds between two looks at who has come."""

T = TypeVar("T")
R = TypeVar("R")


class _Call(Generic[T, R]):
    """What one thread asks.

    Attributes:
        woken: Set when it is answered, or when it is its thread's turn to run.
        leads: Whether it is its thread's turn.
    """

    def __init__(self, item: T) -> None:
        self.item = item
        self.result: R | None = None
        self.error: BaseException | None = None
        self.done = False
        self.leads = False
        self.woken = threading.Event()


class CallBatcher(Generic[T, R]):
    """Answers what several threads ask at the same time in one batch.

    A thread that comes while nobody else has asked lately runs at once. What others ask meanwhile waits; the next
    thread to run takes all of it, up to ``most``, in the order in which it came. Before it does, it waits a little for
    as many as asked lately: those who were just answered mostly ask again at once. Without that, the first of eight
    would run alone, the other seven together, and so on in turn.

    Args:
        run: Answers several items, with one result for each.
        most: The most items at once.
        patience: How long the next to run waits for the others at most, as a share of the time of the last batch.
    """

    def __init__(self, run: Callable[[Sequence[T]], Sequence[R]], most: int = 8, patience: float = 0.05) -> None:
        self._run = run
        self._most = most
        self._patience = patience
        self._guard = Guard(self._forget)  # of all below
        self._waiting: list[_Call[T, R]] = []
        self._leading = False  # whether it is anybody's turn
        self._lately, self._took = 1, 0.0  # how many asked lately, and how long they were answered
        self._process = os.getpid()

    def ask(self, item: T) -> R:
        """Have one item answered.

        Raises:
            BaseException: Whatever answering this item raises. Where a batch fails, each of its items is tried alone.
        """
        call: _Call[T, R] = _Call(item)
        try:
            with self._guard:
                if self._process != os.getpid():
                    self._forget()
                self._waiting.append(call)
                if not self._leading:
                    self._leading = call.leads = True
            if not call.leads:
                call.woken.wait()
            if call.leads:
                self._await_others()
                self._answer(call)
        finally:
            with self._guard:  # a call that was interrupted while it waited: nobody needs its answer
                if call in self._waiting:
                    self._waiting.remove(call)
                if call.leads:
                    self._pass_on()
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]  # there is one where there is no error

    def _forget(self) -> None:
        """Forget what others asked: in the child of a fork they do not wait any more."""
        self._waiting, self._leading, self._lately, self._process = [], False, 1, os.getpid()

    def _pass_on(self) -> None:
        """Make it the turn of whoever waits longest."""
        self._leading = bool(self._waiting)
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].woken.set()

    def _await_others(self) -> None:
        """Wait for as many as asked lately, but not long."""
        until = time.monotonic() + self._patience * self._took
        while len(self._waiting) < min(self._lately, self._most) and time.monotonic() < until:
            time.sleep(_STEP)

    def _answer(self, call: _Call[T, R]) -> None:
        """Answer the call that leads, and what waits behind it."""
        with self._guard:
            if call in self._waiting:
                self._waiting.remove(call)
            batch = [call, *self._waiting[: self._most - 1]]
            self._waiting = self._waiting[self._most - 1 :]
        started = time.monotonic()
        try:
            self._answer_batch(batch)
        finally:
            self._took, self._lately = time.monotonic() - started, len(batch) + len(self._waiting)
            with self._guard:
                left = [one for one in batch if not one.done and one is not call]
                self._waiting = left + self._waiting  # where this thread was interrupted the others still wait
            for answered in batch:
                if answered.done:
                    answered.woken.set()

    def _answer_batch(self, batch: Sequence[_Call[T, R]]) -> None:
        try:
            for answered, result in zip(batch, self._run([c.item for c in batch]), strict=True):
                answered.result, answered.done = result, True
        except Exception as error:
            if len(batch) == 1:
                batch[0].error, batch[0].done = error, True
                return
            for failed in batch:
                self._answer_alone(failed)

    def _answer_alone(self, call: _Call[T, R]) -> None:
        try:
            (call.result,) = self._run([call.item])
        except Exception as error:
            call.error = error
        call.done = True
