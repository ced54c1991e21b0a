"""What a run that writes a codebook holds on to: the folder's lock, signals, and the signs of life of other ranks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import lightning as L

from reasonedit.codebook import EditMemory
from reasonedit.ranks import Pulse, is_requeued, leave_signals, share_signals
from reasonedit.util.signals import Watch, watch_signals


class WritingRun:
    """Keeps others from writing, and has all ranks end in good order when a signal or an error ends one of them."""

    def __init__(self) -> None:
        self._lock = ExitStack()
        self._signals = ExitStack()
        self._pulse = Pulse()

    def __deepcopy__(self, memo: dict[int, Any]) -> WritingRun:
        """One that holds on to nothing: a copied callback is in no run."""
        return WritingRun()

    def begin(self, trainer: L.Trainer, *, writes: bool) -> None:
        """Begin a run.

        Args:
            trainer: The trainer.
            writes: Whether the run may write edits: it then ends at a signal with all edits on the disk.
        """
        self._signals.close()
        watch = None
        if writes:
            if Watch.active is not None or not is_requeued(trainer):
                watch = self._signals.enter_context(watch_signals())
            share_signals(trainer, watch)
        self._pulse.start(trainer, watch)

    def lock(self, memory: EditMemory) -> None:
        """Keep others from writing into the codebook's folder until the run is over.

        Raises:
            LockedError: Somebody else is writing.
        """
        self._lock.close()
        if memory.store is not None and not memory.store.read_only:
            self._lock.enter_context(memory.store.writing())
            memory.refresh()

    def end(self, trainer: L.Trainer, *, failed: bool = False) -> None:
        """Let others write, and tell the other ranks whether the run failed here."""
        self._lock.close()
        self._pulse.stop(failed=failed)
        leave_signals(trainer)
        self._signals.close()
