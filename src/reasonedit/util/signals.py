"""What SIGTERM and Ctrl-C do: they ask the main thread to end, and end the process where it does not.

Python calls a handler only once its main thread is back from whatever it waits for in a library below, such as another
rank. So a second thread listens as well: it learns of a signal at once, and ends the process if the main thread hangs.
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
"""Seconds within which a repeated signal is the same one: launchers pass on what a whole group was sent."""


class Interrupted(SystemExit):
    """A signal asked this process to end; raised in the main thread.

    Attributes:
        code: The exit code: 128 and the signal's number.
    """


class Watch:
    """Listens for the signals that ask a process to end; see :func:`watch_signals`.

    Attributes:
        active: The watch that listens now.
        signal_number: The signal that came; 0 before one comes.
        from_rank: Whether another rank passed it on.
        code: The exit code; 128 and the signal's number where it is ``None``.
        speaks: Whether this process says that it ends; of several ranks one does.
        message: Returns what it says if it is ended from outside its main thread.
        on_signal: Called, outside the main thread, when a signal comes.
        before_end: Called, outside the main thread, before the process is ended there.
    """

    active: ClassVar[Watch | None] = None

    def __init__(self) -> None:
        self.signal_number = 0
        self.from_rank = False
        self.code: int | None = None
        self.speaks = True
        self.message: Callable[[], str] = lambda: "Interrupted."
        self.on_signal: list[Callable[[], None]] = []
        self.before_end: list[Callable[[], None]] = []
        self._raised = False
        self._before: dict[int, Any] = {}
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    @property
    def exit_code(self) -> int:
        """The exit code of the process."""
        return self.code if self.code is not None else 128 + self.signal_number

    def pass_on(self, number: int) -> None:
        """End as if this process had been sent the signal that another rank was sent."""
        self.from_rank = True
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
        if self is not Watch.active:  # somebody put back the handler that they had found
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
        elif not self._raised:
            self.signal_number, self._raised = number, True
            raise Interrupted(self.exit_code)

    def _listen(self) -> None:
        first = 0.0
        while True:
            patience = first + GRACE - time.monotonic() if first else None
            if patience is not None and (patience <= 0 or not select.select([self._read], [], [], patience)[0]):
                self._end()
            (number,) = os.read(self._read, 1)
            if number == 0:
                os.close(self._read)
                return
            if number not in self._before:
                continue
            if not first:
                first, self.signal_number = time.monotonic(), number
                for call in self.on_signal:
                    with contextlib.suppress(Exception):
                        call()
            elif time.monotonic() - first > _SAME:
                self._end()

    def _end(self) -> NoReturn:
        for call in self.before_end:
            with contextlib.suppress(Exception):
                call()
        if self.speaks:
            show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides the cursor
            with contextlib.suppress(Exception):
                os.write(2, f"{show_cursor}\n{self.message()}\n".encode(errors="replace"))
        os._exit(self.exit_code)


@contextmanager
def watch_signals() -> Iterator[Watch | None]:
    """Have SIGTERM and Ctrl-C raise :class:`Interrupted` in the main thread, and end the process if it does not end.

    The main thread has :data:`GRACE` seconds, and none once the signal comes again. A signal that somebody else handles
    already, or ignores, is left alone.

    Yields:
        The watch: the one that listens already, if there is one. ``None`` where somebody else handles signals, outside
        the main thread, which alone can handle them, and on systems without signals that a thread can wait for
        (Windows).
    """
    can_watch = Watch.active is None and threading.current_thread() is threading.main_thread() and _CAN_LISTEN
    numbers = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) in _DEFAULT_HANDLERS]
    if not can_watch or signal.SIGTERM not in numbers or _wakes_event_loop():
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
_DEFAULT_HANDLERS = (signal.SIG_DFL, signal.default_int_handler)


def _wakes_event_loop() -> bool:
    """Whether an event loop is woken by signals."""
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    return before != -1


def _reset_in_child() -> None:
    """Let a forked process handle signals as if nobody had listened: through our pipe it would wake its parent."""
    watch, Watch.active = Watch.active, None
    if watch is not None:
        signal.set_wakeup_fd(-1)
        for number, handler in watch._before.items():
            signal.signal(number, handler)
        os.close(watch._read)
        os.close(watch._write)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)
