"""How the ranks of a run end where a signal comes, and what is said then."""

from __future__ import annotations

import os
import shlex
import threading
from contextlib import suppress
from pathlib import Path

import lightning as L

import reasonedit.callbacks as cb
from reasonedit.errors import ReasonEditError
from reasonedit.ranks import share_signals
from reasonedit.util.signals import Watch

FOLDER = "REASONEDIT_RUN_FOLDER"
"""Environment variable: the results folder, for the ranks that Lightning starts by running the same command again."""

_COUNTING = 1.0
"""Seconds in which the edits on the disk are counted, or their number is left out."""


def is_first_rank() -> bool:
    """Whether this process is the first rank, as far as that is known before there is a trainer."""
    number = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("NODE_RANK") or "0"
    return FOLDER not in os.environ and number == "0"


def watch_as_rank() -> None:
    """Settle how this process ends where it is not the first rank, from before it knows its trainer."""
    watch = Watch.active
    if watch is None:
        return
    watch.speaks = is_first_rank()
    if FOLDER in os.environ:  # Lightning started it: the first rank learns of signals from it
        first = os.getppid()
        watch.code = 0
        watch.on_signal.append(lambda: None if watch.from_rank else os.kill(first, watch.signal_number))


def watch_trainer(trainer: L.Trainer, folder: Path) -> None:
    """Have all ranks end in good order where a signal comes."""
    watch = Watch.active
    share_signals(trainer, watch)
    if watch is not None:
        watch.speaks = trainer.is_global_zero
        watch.message = lambda: describe_stop(trainer, folder)


def describe_stop(trainer: L.Trainer, folder: Path) -> str:
    """What a user is told of a run that was interrupted: what is saved, and the command that goes on."""
    codebook = cb.find_callback(trainer, cb.Codebook)
    command = f"'reasonedit run --resume {shlex.quote(str(folder))}' goes on."
    if codebook is None:
        return f"Interrupted. {command}"
    counts: list[int] = []

    def count() -> None:
        with suppress(ReasonEditError):
            codebook.memory.refresh()  # what is on the disk counts, and the memory may have been cut short behind it
            counts.append(len(codebook.memory.edits))

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    thread.join(timeout=_COUNTING)  # the main thread may hold what it waits for, and hang
    if not counts:
        return f"Interrupted. The edits made so far are saved in '{codebook.path}'. {command}"
    (edits,) = counts
    if not edits:
        return f"Interrupted before the first edit. {command}"
    return f"Interrupted. The {edits} edits made so far are saved in '{codebook.path}'. {command}"
