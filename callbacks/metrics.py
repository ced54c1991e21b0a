"""Feeds the editing metrics and logs them against the number of edits."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L

from reasonedit.metrics import EditAccuracy, editing_metrics
from reasonedit.ranks import together

from .base import Evaluates
from .batch import column, in_steps, of_length
from .editor import Editor
from .lookup import find_callback
from .targets import targets_of, text_of

_logger = logging.getLogger(__name__)


class EditingMetrics(Evaluates):
    """Counts right answers per group of probes and logs the shares to every logger of the trainer.

    ``edit/rel`` and so on are VQA accuracies (:func:`reasonedit.metrics.accuracy`), ``edit/rel_exact_match`` and so on
    the shares of exact matches beside them. Where answers that count as wrong contain a right one ("It is a kettle."),
    a warning says how many when the run ends.

    Samples count that have a target and a group (see :mod:`reasonedit.callbacks.batch`). Shares are logged whenever the
    groups have been asked once more, that is when edits follow probes or the run ends, with the number of edits so far
    as the step; each time they start from nothing. A group without a sample is not logged.

    Attributes:
        results: The last shares logged, by group, with the number of samples beside each: ``{"rel": (0.95, 20)}``.
        exact_match: The shares of exact matches beside them, by group.
        contained: How many answers, of the last round, are not right but contain a right one.
        history: All shares, by number of edits.
    """

    def __init__(self) -> None:
        self.metrics = editing_metrics()
        self.results: dict[str, tuple[float, int]] = {}
        self.exact_match: dict[str, float] = {}
        self.contained = 0
        self.quiet = False  # whoever prints the results says it himself
        self.history: dict[int, dict[str, tuple[float, int]]] = {}
        self._edits = 0
        self._asked = False

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start from nothing."""
        # There are no numbers of 64 bits on MPS, and no ranks either that would have to meet there.
        self.metrics.to("cpu" if pl_module.device.type == "mps" else pl_module.device).reset()
        self.results, self.exact_match, self.contained = {}, {}, 0
        self.history, self._edits, self._asked = {}, 0, False

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
            self.say_once(
                trainer, f"EditingMetrics counts nothing in batches that are no dicts ({type(batch).__name__})."
            )
            return
        edits = sum(e is not None for e in batch.get("edits") or ())
        together = in_steps(batch)  # then all ranks are in the same phase, whether they have a sample or not
        # Edits after probes: a round is over. Ranks that see different batches only sync at the end.
        over = self._asked and trainer.state.fn == "predict"
        if over and (batch["phase"] == "edit" if together else edits > 0 and trainer.world_size == 1):
            self._log(trainer, pl_module)
        if batch.get("targets") is not None and batch.get("groups") is not None:
            answers = self.answers_in(trainer, outputs)
            if answers is not None:
                self._count(trainer, answers, batch)
        self._asked |= batch["phase"] == "probe" if together else batch.get("groups") is not None
        known = batch.get("edits_before") if together else None
        self._edits = known if known is not None else self._number_of_edits(trainer, self._edits + edits)

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the last round."""
        self._log(trainer, pl_module)
        if not self.history and not self._said:
            self.say_once(
                trainer, "EditingMetrics counted nothing: no batch had 'targets' and 'groups' of its samples."
            )
        if self.contained and not self.quiet and trainer.is_global_zero:
            _logger.warning(
                "Of the answers that count as wrong %d contain a right one ('It is a kettle.' for 'kettle'): the "
                "column 'contains' of a PredictionWriter says which.",
                self.contained,
            )

    @staticmethod
    def _number_of_edits(trainer: L.Trainer, seen: int) -> int:
        editor = find_callback(trainer, Editor)  # type: ignore[type-abstract]
        return seen if editor is None else editor.edits

    def _count(self, trainer: L.Trainer, answers: list[str], batch: dict[str, Any]) -> None:
        targets = targets_of(batch, len(answers), self)
        groups = [text_of(group) or "" for group in column(batch, "groups", self)]
        of_length(groups, len(answers), "groups", "answers")
        unknown = sorted({g for g in groups if g} - {*self.metrics.keys()})
        if unknown:
            known = ", ".join(map(str, self.metrics.keys()))
            self.say_once(trainer, f"EditingMetrics counts no group '{', '.join(unknown)}': there are {known}.")
        asked = [i for i, mine in enumerate(targets) if mine]  # without a target there is nothing to count
        self.metrics.update([answers[i] for i in asked], [targets[i] for i in asked], [groups[i] for i in asked])

    def _log(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        shares: dict[str, tuple[float, int]] = {}
        exact: dict[str, float] = {}
        contained = 0
        for group, metric in self.metrics.items():
            assert isinstance(metric, EditAccuracy)
            # Summed over ranks before it is asked whether there was any sample: one rank alone may have had none.
            with together(trainer), metric.sync_context():
                if metric.total > 0:
                    shares[group] = (float(metric.right / metric.total), int(metric.total))
                    exact[group] = float(metric.exact / metric.total)
                    contained += int(metric.contained)
        self.metrics.reset()
        self._asked = False
        if not shares:
            return
        self.results, self.exact_match, self.contained = shares, exact, contained
        self.history[self._edits] = shares
        logged = {f"edit/{g}": share for g, (share, _) in shares.items()}
        logged |= {f"edit/{g}_exact_match": share for g, share in exact.items()}
        if trainer.state.fn != "predict":  # validate and test return what is logged so, and log it themselves
            pl_module.log_dict(logged, sync_dist=True)
            return
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.log_metrics(logged, step=self._edits)
            logger.save()
