"""What SIGTERM and Ctrl-C do: what runs is told to end, and is ended where it does not hear that.

Python calls a handler only once its main thread is back from whatever it waits for in a library below, such as another
rank. So a thread listens beside it: it learns of a signal at once, and ends the process where the main thread does not.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar, NoReturn

GRACE = 6.0
"""Seconds that the main thread has to end by itself."""

_SAME = 1.0
"""Seconds within which a signal that comes again is the same one: launchers pass on what a whole group was sent."""


class Interrupted(SystemExit):
    """A signal asked this process to end; raised in the main thread.

    Attributes:
        code: The exit code: 128 and the signal's number.
    """


class Watch:
    """Listens for the signals that ask a process to end; see :func:`heeded`.

    Attributes:
        active: What listens now.
        number: The signal that came; 0 while there was none.
        told: Whether another rank said so, and not a signal.
        code: The exit code, where it is another one than 128 and the signal's number.
        speaks: Whether this process says that it ends; of several ranks one does.
        say: What it says where it must be ended from outside its main thread.
        heard: Called, outside the main thread, when a signal comes.
        last: Called, outside the main thread, before the process is ended there.
    """

    active: ClassVar[Watch | None] = None

    def __init__(self) -> None:
        self.number = 0
        self.told = False
        self.code: int | None = None
        self.speaks = True
        self.say: Callable[[], str] = lambda: "Interrupted."
        self.heard: list[Callable[[], None]] = []
        self.last: list[Callable[[], None]] = []
        self._raised = False
        self._before: dict[int, Any] = {}
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    @property
    def exit_code(self) -> int:
        """What the process ends with."""
        return self.code if self.code is not None else 128 + self.number

    def pass_on(self, number: int) -> None:
        """End as if this process had been sent a signal that another rank was sent."""
        self.told = True
        signal.pthread_kill(threading.main_thread().ident or 0, number)

    def _begin(self, numbers: list[int]) -> None:
        for number in numbers:
            self._before[number] = signal.signal(number, self._handle)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, daemon=True, name="signals").start()

    def _close(self) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, handler)
        os.write(self._write, b"\0")  # which ends the thread; processes forked meanwhile may hold the pipe open
        os.close(self._write)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self is not Watch.active:  # put in place again by somebody who had found it there
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
        elif not self._raised:
            self.number, self._raised = number, True
            raise Interrupted(self.exit_code)

    def _listen(self) -> None:
        first = 0.0
        while True:
            left = first + GRACE - time.monotonic() if first else None
            if left is not None and (left <= 0 or not select.select([self._read], [], [], left)[0]):
                self._end()
            (came,) = os.read(self._read, 1)
            if came == 0:
                os.close(self._read)
                return
            if came not in self._before:
                continue
            if not first:
                first, self.number = time.monotonic(), came
                for call in self.heard:
                    with contextlib.suppress(Exception):
                        call()
            elif time.monotonic() - first > _SAME:
                self._end()

    def _end(self) -> NoReturn:
        for call in self.last:
            with contextlib.suppress(Exception):
                call()
        if self.speaks:
            shown = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides the cursor
            with contextlib.suppress(Exception):
                os.write(2, f"{shown}\n{self.say()}\n".encode(errors="replace"))
        os._exit(self.exit_code)


@contextmanager
def heeded() -> Iterator[Watch | None]:
    """Have SIGTERM and Ctrl-C raise :class:`Interrupted` in the main thread, and end the process where that is in vain.

    It has :data:`GRACE` seconds, and none any more when the signal comes again. A signal that somebody else handles
    already, or ignores, is left to him.

    Yields:
        What listens; that which listens already where there is one, and ``None`` where signals are somebody else's,
        this is not the main thread, which alone can handle them, or the system has none that a thread can wait for
        (Windows).
    """
    ours = Watch.active is None and threading.current_thread() is threading.main_thread() and _CAN_LISTEN
    numbers = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) in _NOBODYS]
    if not ours or signal.SIGTERM not in numbers or _wakes_somebody():
        yield Watch.active
        return
    watch = Watch.active = Watch()
    watch._begin(list(numbers))
    try:
        yield watch
    finally:
        Watch.active = None
        watch._close()


_CAN_LISTEN = hasattr(signal, "pthread_kill")
_NOBODYS = (signal.SIG_DFL, signal.default_int_handler)


def _wakes_somebody() -> bool:
    """Whether an event loop is woken by signals."""
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    return before != -1


def _in_fork() -> None:
    """A forked process handles signals as if nobody had listened: writing into our pipe it would wake its parent."""
    watch, Watch.active = Watch.active, None
    if watch is not None:
        signal.set_wakeup_fd(-1)
        for number, handler in watch._before.items():
            signal.signal(number, handler)
        os.close(watch._read)
        os.close(watch._write)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_fork)
