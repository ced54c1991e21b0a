"""Guards: locks by which several threads share one model and one codebook.

A model, its tokenizer and its processor keep state between calls: hooks, truncation, positions of the last image. So
one thread at a time runs a model (:func:`guard_of`), and whatever else several threads touch is guarded the same way.

A process may be forked while other threads hold locks, and in the child these threads are gone: see :class:`Guard`.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Guard:
    """A lock that a thread may take again, and that does not hang the child of a fork.

    In the child the thread that forked holds it if it held it before; else nobody does. If another thread held it, that
    thread may have left its work half done: ``renew`` then restores what is guarded before anybody takes the lock.

    Args:
        renew: Restores what is guarded. A method; its object is not kept alive.
    """

    def __init__(self, renew: Callable[[], None] | None = None) -> None:
        self._lock = threading.RLock()
        self._renew = None if renew is None else weakref.WeakMethod(renew)
        self._torn = False
        _all_guards.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._torn:
            try:
                self._restore()
            except BaseException:
                self._lock.release()
                raise

    def __exit__(self, *raised: object) -> None:
        self._lock.release()

    def _restore(self) -> None:
        self._torn = False  # renew takes this lock as well
        try:
            renew = self._renew and self._renew()
            if renew:
                renew()
        except BaseException:
            self._torn = True
            raise

    def reset_in_child(self) -> None:
        """Be free, unless the thread that forked holds it. To be called in the child of a fork."""
        if self._lock.acquire(blocking=False):  # it was free, or the thread that goes on here holds it
            self._lock.release()
        else:
            self._lock, self._torn = threading.RLock(), True


_all_guards: weakref.WeakSet[Guard] = weakref.WeakSet()
_guards_of_models: weakref.WeakKeyDictionary[Any, Guard] = weakref.WeakKeyDictionary()
_guards_lock = Guard()


def _reset_in_child() -> None:
    guards = list(_all_guards)
    for guard in guards:
        guard.reset_in_child()
    if len(guards) > 1:  # there is a codebook or a model
        _use_one_thread()


def _use_one_thread() -> None:
    """Have torch compute with the one thread that a child has.

    The threads that helped it in the parent are gone, and OpenMP would wait for them forever at the next large product
    of matrices. Torch does the same in the workers of its data loaders.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)


def guard_of(model: object) -> Guard:
    """The lock of a model, the same for all that wrap it. The model, which may be copied or sent, does not hold it."""
    with _guards_lock:
        if model not in _guards_of_models:
            _guards_of_models[model] = Guard()
        return _guards_of_models[model]


def guarded(method: F) -> F:
    """Have a method hold its object's ``guard`` while it runs."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.guard:
            return method(self, *args, **kwargs)

    run.__dict__["is_guarded"] = True
    return run  # type: ignore[return-value]
