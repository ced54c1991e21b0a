"""Feeds the editing metrics and logs them against the number of edits."""

from __future__ import annotations

from typing import Any

import lightning as L

from reasonedit.metrics import EditAccuracy, editing_metrics
from reasonedit.ranks import together

from .batch import answers_of
from .beside import beside
from .editor import Editor


class EditingMetrics(L.Callback):
    """Counts right answers per group of probes and logs the shares to every logger of the trainer.

    Samples count that have a target and a group (see :mod:`reasonedit.callbacks.batch`). Shares are logged whenever the
    groups have been asked once more, that is when edits follow probes or the run ends, with the number of edits so far
    as the step; each time they start from nothing. A group without a sample is not logged.

    Attributes:
        results: The last shares logged, by group, with the number of samples beside each: ``{"rel": (0.95, 20)}``.
        history: All of them, by number of edits.
    """

    def __init__(self) -> None:
        self.metrics = editing_metrics()
        self.results: dict[str, tuple[float, int]] = {}
        self.history: dict[int, dict[str, tuple[float, int]]] = {}
        self._edits = 0
        self._asked = False

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start from nothing."""
        self.metrics.to(pl_module.device).reset()
        self.results, self.history, self._edits, self._asked = {}, {}, 0, False

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count one batch."""
        if not isinstance(batch, dict):
            return
        edits = sum(e is not None for e in batch.get("edits") or ())
        together = "step" in batch  # then all ranks are in the same phase, whether they have a sample or not
        # Edits after probes: a round is over. Ranks that see different batches only sync at the end.
        if self._asked and (batch["phase"] == "edit" if together else edits > 0 and trainer.world_size == 1):
            self._log(trainer)
        if batch.get("targets") and batch.get("groups"):
            self.metrics.update(answers_of(outputs), batch["targets"], batch["groups"])
        self._asked |= batch["phase"] == "probe" if together else any(batch.get("groups") or ())
        self._edits = batch.get("edits_before", self._number_of_edits(trainer, self._edits + edits))

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the last round."""
        self._log(trainer)

    @staticmethod
    def _number_of_edits(trainer: L.Trainer, seen: int) -> int:
        editor = beside(trainer, Editor)  # type: ignore[type-abstract]
        return seen if editor is None else editor.edits

    def _log(self, trainer: L.Trainer) -> None:
        shares: dict[str, tuple[float, int]] = {}
        for group, metric in self.metrics.items():
            assert isinstance(metric, EditAccuracy)
            # Summed over ranks before it is asked whether there was any sample: one rank alone may have had none.
            with together(trainer), metric.sync_context():
                if metric.total > 0:
                    shares[group] = (float(metric.right / metric.total), int(metric.total))
        self.metrics.reset()
        self._asked = False
        if not shares:
            return
        self.results = shares
        self.history[self._edits] = shares
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.log_metrics({f"edit/{g}": share for g, (share, _) in shares.items()}, step=self._edits)
            logger.save()
