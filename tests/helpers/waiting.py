"""Waiting for something to happen, however slow the machine is, and holding a run where it can be waited for."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

CEILING = 1800.0
"""Seconds after which nothing is expected to happen any more: what takes so long hangs."""


def wait_until(
    happened: Callable[[], Any], process: subprocess.Popen[Any] | None = None, ceiling: float = CEILING
) -> None:
    """Wait until something has happened; fail where the process that should do it has ended, or where it hangs."""
    end = time.monotonic() + ceiling
    while not happened():
        ended = process is not None and process.poll() is not None
        if time.monotonic() > end and process is not None:
            process.kill()  # nobody waits for it any more
        assert not ended or happened(), "the process ended before it happened"
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


class Holds(L.Callback):
    """Holds a run before its second batch of edits until a signal ends it.

    Only where ``HOLD`` in the environment names a file: the file is there, with the process's number, once the run is
    held. ``HOLD_RANK`` is the one rank that is held, where not all are.
    """

    def __init__(self) -> None:
        self.begun = False

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch["phase"] != "edit" or "HOLD" not in os.environ:
            return
        if os.environ.get("HOLD_RANK", str(trainer.global_rank)) != str(trainer.global_rank):
            return
        if self.begun:
            held = Path(os.environ["HOLD"])
            part = held.with_name(f"{held.name}.{os.getpid()}")
            part.write_text(str(os.getpid()))
            part.replace(held)
            while True:
                time.sleep(60)
        self.begun = True
