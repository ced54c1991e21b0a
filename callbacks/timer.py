"""How long queries take."""

from __future__ import annotations

import time
from typing import Any

import lightning as L

from .batch import answers_of


class QueryTimer(L.Callback):
    """Measures the time from a batch's arrival to its answers, callbacks in between included.

    Put it first in the list of callbacks. Only batches without edits count, and without edits that are asked again.

    Attributes:
        seconds: Total time.
        queries: Number of queries in it.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.queries = 0
        self._started = 0.0

    @property
    def ms_per_query(self) -> float | None:
        """Milliseconds per query, or ``None`` if there was none."""
        return 1000 * self.seconds / self.queries if self.queries else None

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start from nothing."""
        self.seconds, self.queries = 0.0, 0

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop it. Being first in the list, this runs before other callbacks use the answers."""
        if not isinstance(batch, dict) or any(batch.get("edits") or ()) or batch.get("phase") == "check":
            return
        if "answers" in batch:  # from before a run was cut short
            return
        self.seconds += time.perf_counter() - self._started
        self.queries += len(answers_of(outputs))
