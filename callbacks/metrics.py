"""Updates the editing metrics and logs them against the number of edits."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L
from torchmetrics import SumMetric

from reasonedit.metrics import EditAccuracy, TokenAccuracy, editing_metrics, token_metrics
from reasonedit.ranks import collective

from .base import Evaluates
from .batch import column, edits_in, in_steps, of_length
from .editor import Editor
from .lookup import find_callback
from .targets import targets_of, text_of

_logger = logging.getLogger(__name__)


class EditingMetrics(Evaluates):
    """Computes one accuracy per group of probes and logs it to every logger of the trainer.

    ``edit/rel`` and so on are VQA accuracies (:func:`reasonedit.metrics.accuracy`), ``exact_match/rel`` and so on
    are shares of exact matches. Where answers that count as wrong contain a right one ("It is a kettle."), a warning
    says how many when the run ends.

    A sample counts if it has a target and a group (see :mod:`reasonedit.callbacks.batch`). A round of probes ends when
    edits follow (unless each stands alone) or the run ends. Its accuracies are logged with the number of edits so far
    as the step, and the next round starts from zero. A group without a sample is not logged.

    Behind :class:`~reasonedit.callbacks.TokenShares`, ``token_accuracy/rel`` and so on are the shares of the right
    answers' tokens under teacher forcing (:class:`~reasonedit.metrics.TokenAccuracy`).

    Where it is looked at whether pictures are like those of the calibration, ``edit/out_of_range`` is the share of
    samples whose picture is not: no fact was fetched by it.

    Attributes:
        results: The accuracies of the last round with the number of samples, by group: ``{"rel": (0.95, 20)}``.
        exact_match: The shares of exact matches of the last round, by group.
        token_accuracy: The shares of tokens of the last round, by group; empty where they were not asked for.
        contained: How many wrong answers of the last round contain a right one.
        out_of_range: The share of samples of the last round whose picture is unlike the calibration's, and of how many;
            ``None`` where that was not looked at.
        quiet: Whether somebody else prints how many answers contain a right one.
        rounds: The accuracies of all rounds, each with the number of edits by then.

    Example:
        >>> metrics = EditingMetrics()
        >>> trainer = L.Trainer(callbacks=[Codebook(), Retriever(), metrics])  # doctest: +SKIP
        >>> trainer.predict(VLMModule(), datamodule=EditStream())  # doctest: +SKIP
        >>> metrics.results["rel"]  # doctest: +SKIP
        (1.0, 20)
    """

    def __init__(self) -> None:
        self.metrics = editing_metrics()
        self.results: dict[str, tuple[float, int]] = {}
        self.exact_match: dict[str, float] = {}
        self.tokens = token_metrics()
        self.token_accuracy: dict[str, float] = {}
        self.contained = 0
        self.out_of_range: tuple[float, int] | None = None
        self.quiet = False
        self._unlike, self._looked_at = SumMetric(), SumMetric()
        self.rounds: list[tuple[int, dict[str, tuple[float, int]]]] = []
        self._edits = 0
        self._asked = False
        self._explained = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Have no results, also where no batch comes; raises as :meth:`RunCallback.setup` does."""
        super().setup(trainer, pl_module, stage)
        if stage in self.works_in:
            self.results, self.exact_match, self.token_accuracy = {}, {}, {}
            self.contained, self.out_of_range = 0, None
            self.rounds, self._edits, self._asked, self._explained = [], 0, False, False

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from zero."""
        # MPS has no 64-bit numbers, and no ranks that would have to meet on the device.
        device = "cpu" if pl_module.device.type == "mps" else pl_module.device
        self.metrics.to(device).reset()
        self.tokens.to(device).reset()
        for count in (self._unlike, self._looked_at):
            count.to(device).reset()

    @property
    def history(self) -> dict[int, dict[str, tuple[float, int]]]:
        """The accuracies of the rounds by number of edits; of rounds without a new edit between them the last."""
        return dict(self.rounds)

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
                trainer, f"EditingMetrics counts nothing in batches that are not dicts ({type(batch).__name__})."
            )
            self._explained = True
            return
        edits = len(edits_in(batch))
        stepped = in_steps(batch)  # then all ranks are in the same phase, whether they have a sample or not
        # Edits after probes end a round. Ranks that see different batches only sync at the end.
        in_round = self._asked and trainer.state.fn == "predict" and not (stepped and batch.get("alone"))
        if in_round and (batch["phase"] == "edit" if stepped else edits > 0 and trainer.world_size == 1):
            self._log(trainer, pl_module)
        if batch.get("targets") is not None and batch.get("groups") is not None:
            answers = self.answers_in(trainer, outputs)
            self._explained |= answers is None
            if answers is not None:
                self._count(trainer, answers, batch)
        self._asked |= batch["phase"] == "probe" if stepped else batch.get("groups") is not None
        logged = batch.get("edits_before") if stepped else None  # of a run that is resumed
        self._edits = logged if logged is not None else self._number_of_edits(trainer, self._edits + edits)

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the last round."""
        self._log(trainer, pl_module)
        if not self.rounds and not self._explained:
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
            self._explained = True
        rows = [row for row, right_answers in enumerate(targets) if right_answers]  # others have nothing to count
        self.metrics.update([answers[i] for i in rows], [targets[i] for i in rows], [groups[i] for i in rows])
        shares = batch.get("token_shares") or [None] * len(answers)
        told_shares = [(shares[i], groups[i]) for i in rows if shares[i] is not None]
        self.tokens.update([share for share, _ in told_shares], [group for _, group in told_shares])
        found = batch.get("retrieved")
        if isinstance(found, list) and len(found) == len(answers):
            told = [
                in_range for i in rows if groups[i] and (in_range := getattr(found[i], "in_range", None)) is not None
            ]
            self._unlike.update(told.count(False))
            self._looked_at.update(len(told))

    def _log(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        shares: dict[str, tuple[float, int]] = {}
        exact: dict[str, float] = {}
        contained = 0
        for group, metric in self.metrics.items():
            assert isinstance(metric, EditAccuracy)
            # All ranks sum up first: one of them may have had no sample of the group.
            with collective(trainer), metric.sync_context():
                if metric.total > 0:
                    shares[group] = (float(metric.right / metric.total), int(metric.total))
                    exact[group] = int(metric.exact) / int(metric.total)
                    contained += int(metric.contained)
        self.metrics.reset()
        token_accuracy = self._token_accuracy(trainer)
        out_of_range = self._count_out_of_range(trainer)
        self._asked = False
        if not shares:
            return
        self.results, self.exact_match, self.contained = shares, exact, contained
        self.token_accuracy, self.out_of_range = token_accuracy, out_of_range
        self.rounds.append((self._edits, shares))
        logged = {f"edit/{g}": share for g, (share, _) in shares.items()}
        logged |= {f"exact_match/{g}": share for g, share in exact.items()}
        logged |= {f"token_accuracy/{g}": share for g, share in token_accuracy.items()}
        if self.out_of_range is not None:
            logged["edit/out_of_range"] = self.out_of_range[0]
        if trainer.state.fn != "predict":  # validate and test log and return what the module logs
            pl_module.log_dict(logged, sync_dist=True)
            return
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.log_metrics(logged, step=self._edits)
            logger.save()

    def _token_accuracy(self, trainer: L.Trainer) -> dict[str, float]:
        """The shares of tokens by group, of all ranks."""
        found: dict[str, float] = {}
        for group, metric in self.tokens.items():
            assert isinstance(metric, TokenAccuracy)
            with collective(trainer), metric.sync_context():
                if metric.total > 0:
                    found[group] = float(metric.shares / metric.total)
        self.tokens.reset()
        return found

    def _count_out_of_range(self, trainer: L.Trainer) -> tuple[float, int] | None:
        """The share of samples whose picture is unlike the calibration's, and of how many; of all ranks."""
        with collective(trainer), self._unlike.sync_context(), self._looked_at.sync_context():
            unlike, of = int(self._unlike.sum_value), int(self._looked_at.sum_value)
        self._unlike.reset()
        self._looked_at.reset()
        return (unlike / of, of) if of else None
