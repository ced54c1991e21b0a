"""How long queries take."""

from __future__ import annotations

import time
from typing import Any

import lightning as L

from .base import Evaluates
from .batch import answered_already, edits_in, in_steps
from .editor import Editor
from .retriever import Retriever


class QueryTimer(Evaluates):
    """Measures the time from a batch's arrival to its answers, including the callbacks in between.

    Put it before the editor and the retriever in the list of callbacks. Batches with edits do not count, nor do those
    that ask an edit again.

    Attributes:
        seconds: Total time of the queries, in seconds.
        queries: Number of queries.

    Example:
        >>> timer = QueryTimer()
        >>> trainer = L.Trainer(callbacks=[timer, Codebook(), Retriever()])  # doctest: +SKIP
        >>> trainer.predict(VLMModule(), datamodule=EditStream())  # doctest: +SKIP
        >>> timer.ms_per_query  # doctest: +SKIP
        41.3
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.queries = 0
        self._started = 0.0

    @property
    def ms_per_query(self) -> float | None:
        """Milliseconds per query, or ``None`` if there was none."""
        return 1000 * self.seconds / self.queries if self.queries else None

    @staticmethod
    def times(batch: Any) -> bool:
        """Whether a batch counts."""
        if edits_in(batch):
            return False
        return not in_steps(batch) or (batch["phase"] != "check" and answered_already(batch) is None)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start from nothing, and refuse a place from which less would be measured.

        Raises:
            InputError: It is such a place.
            ReasonEditError: As for :meth:`RunCallback.setup`.
        """
        super().setup(trainer, pl_module, stage)
        self.must_precede(trainer, Editor, Retriever)
        if stage in self.works_in:
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
        """Stop the clock. As it is first in the list, it stops before other callbacks use the answers."""
        elapsed = time.perf_counter() - self._started
        if not self.times(batch):
            return
        answers = self.answers_in(trainer, outputs)
        if answers is not None:
            self.seconds += elapsed
            self.queries += len(answers)
