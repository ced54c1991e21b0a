"""Has edits ask themselves whether they hold."""

from __future__ import annotations

from typing import Any

import lightning as L

from reasonedit.checking import EditCheck, Verdict, check_edit
from reasonedit.errors import InputError
from reasonedit.metrics import verdict_shares
from reasonedit.ranks import collective
from reasonedit.types import Query
from reasonedit.vlm import generation_of

from .base import RunCallback
from .batch import edits_in
from .codebook import Codebook
from .lookup import find_callback
from .runlog import RunLog

WHEN = ("written", "end")
_REMEMBERED = 64
"""Questions asked before, of which the nearest are asked again."""


class EditChecks(RunCallback):
    """Checks each edit of a stream, and logs the share of each verdict to every logger of the trainer.

    A check asks some twenty questions before and after (see :func:`reasonedit.checking.check_edit`): the edit's own,
    in other words, about its picture redrawn, and the nearest others. Put it behind the ``Codebook``. ``check/holds``
    and so on are the shares, with the number of edits as the step. Samples of a stream that needed no edit are the
    questions asked before. On several devices the first rank checks, which alone has all pictures.

    Args:
        when: Whether an edit is checked right after its batch was ``"written"``, or all are at the ``"end"``, when all
            others are there.

    Attributes:
        checks: The checks, by the edits' ids; on the first rank only.
        results: The share of each verdict, and of how many checks, by its name in logs: ``{"holds": (0.9, 20)}``.

    Raises:
        InputError: ``when`` is something else.

    Example:
        >>> checks = EditChecks()
        >>> trainer = L.Trainer(callbacks=[Codebook(), checks, Retriever()])  # doctest: +SKIP
        >>> trainer.predict(VLMModule(), datamodule=EditStream())  # doctest: +SKIP
        >>> checks.results["holds"]  # doctest: +SKIP
        (0.85, 20)
    """

    def __init__(self, when: str = "written") -> None:
        if when not in WHEN:
            raise InputError(f"when must be {' or '.join(WHEN)}, not '{when}'.")
        self.when = when
        self.metrics = verdict_shares()
        self.checks: dict[str, EditCheck] = {}
        self.results: dict[str, tuple[float, int]] = {}
        self._asked: dict[tuple[str, int], Query] = {}
        self._done: set[str] = set()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start from zero, and refuse a run without a codebook, or a place before it.

        Raises:
            InputError: There is none, or it stands behind this one.
            ReasonEditError: As for :meth:`RunCallback.setup`.
        """
        super().setup(trainer, pl_module, stage)
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if not any(isinstance(c, Codebook) for c in callbacks[: callbacks.index(self)]):
            raise InputError("EditChecks checks the edits of a Codebook: put one before it in the list of callbacks.")
        if stage in self.works_in:
            self.checks, self.results, self._asked = {}, {}, {}

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from zero; edits of earlier runs are not checked, those of a run that goes on at its end."""
        self.metrics.to("cpu" if pl_module.device.type == "mps" else pl_module.device).reset()
        self._done = set(self._codebook(trainer).memory.edits)
        log = find_callback(trainer, RunLog)
        before = self._done & log.edits if log is not None else set()
        if self.when == "end":
            self._done -= before
        elif before:
            self.say_once(
                trainer,
                f"EditChecks counts only edits that are written from now on: the verdicts on {len(before)} that were "
                "there when the run was cut short are not kept. With when='end' all of them are checked.",
            )

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Check the edits that the batch has written, or remember what it asked."""
        codebook = self._codebook(trainer)
        for edit in edits_in(batch):
            if not codebook.has(edit.id):
                self._asked[edit.question, id(edit.image)] = Query(edit.image, edit.question, edit.choices)
        for oldest in list(self._asked)[:-_REMEMBERED]:
            del self._asked[oldest]
        if self.when == "written" and self._check(trainer, pl_module):
            self._log_shares(trainer)

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check all edits that were not checked yet."""
        self._check(trainer, pl_module)
        self._log_shares(trainer)

    @staticmethod
    def _codebook(trainer: L.Trainer) -> Codebook:
        codebook = find_callback(trainer, Codebook)
        assert codebook is not None  # so it was at set-up
        return codebook

    def _check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> int:
        """Check the edits that are new, on the first rank.

        Returns:
            How many are new, for all ranks the same.
        """
        pipeline = self._codebook(trainer).pipeline
        assert pipeline is not None  # set-up ran
        new = [edit_id for edit_id in pipeline.memory.edits if edit_id not in self._done]
        self._done.update(new)
        asked, generation = list(self._asked.values()), generation_of(pl_module)
        for edit_id in new if trainer.is_global_zero else ():
            found = check_edit(pipeline, edit_id, generation=generation, asked=asked)
            self.checks[edit_id] = found
            self.metrics.update([found.verdict])
        return len(new)

    def _log_shares(self, trainer: L.Trainer) -> None:
        shares = {}
        for verdict in Verdict:
            metric: Any = self.metrics[verdict.key]
            with collective(trainer), metric.sync_context():
                if metric.total > 0:
                    shares[verdict.key] = (float(metric.count / metric.total), int(metric.total))
        if not shares:
            return
        self.results = shares
        logged = {f"check/{name}": share for name, (share, _) in shares.items()}
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.log_metrics(logged, step=self._codebook(trainer).edits)
            logger.save()
