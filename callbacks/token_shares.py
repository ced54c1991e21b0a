"""How much of each right answer the model of a run would say, token by token: beside what it says by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L

from reasonedit.metrics import most_common_answer
from reasonedit.vlm.forced import check_forced, forced_share_of_text, forced_shares

from .base import Evaluates
from .batch import choices_of, column, questions, texts_alone, vision_of
from .lookup import find_callback
from .metrics import EditingMetrics
from .model import vlm_for
from .runlog import RunLog
from .targets import targets_of, text_of
from .writer import PredictionWriter


class TokenShares(Evaluates):
    """Puts ``token_shares`` into each batch: for each sample of a group the share of its right answer's tokens.

    Each token is told the right ones before it (:func:`reasonedit.vlm.forced.forced_shares`), the question behind its
    facts, the model as its editor has left it. :class:`~reasonedit.callbacks.EditingMetrics` behind it logs the means
    as ``token_accuracy/rel`` and so on; a :class:`~reasonedit.callbacks.PredictionWriter` behind it writes them.
    It takes a VLM on this machine, and a pass more for each question. Behind a :class:`~reasonedit.callbacks.RunLog` a
    run that goes on has the shares of before; those that its log lacks are asked for again, behind the same facts.

    Raises:
        NotServedError: When a run begins: the VLM is behind an endpoint.
        InputError: When a run begins: it stands behind what reads its shares.

    Example:
        >>> L.Trainer(callbacks=[Codebook(), Retriever(), TokenShares(), EditingMetrics()])  # doctest: +SKIP
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a VLM behind an endpoint, and a place behind what reads the shares."""
        super().setup(trainer, pl_module, stage)
        check_forced(vlm_for(pl_module, None))
        self.must_precede(trainer, EditingMetrics, PredictionWriter)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ask for the shares of one batch."""
        if not isinstance(batch, dict) or batch.get("targets") is None or batch.get("groups") is None:
            return
        answers = self.answers_in(trainer, outputs)
        if not answers:
            return
        log = find_callback(trainer, RunLog)
        shares = log.shares_of(batch) if log is not None else None
        if shares is None:
            groups = [text_of(group) for group in column(batch, "groups", self)]
            targets = targets_of(batch, len(answers), self)
            rows = [row for row, group in enumerate(groups) if group and targets[row]]
            shares = [None] * len(answers)
            for row, share in zip(rows, self._ask(batch, targets, rows, pl_module), strict=True):
                shares[row] = share
            if log is not None and rows:
                log.keep_shares(batch, shares)
        batch["token_shares"] = shares

    def _ask(
        self,
        batch: dict[str, Any],
        targets: Sequence[Sequence[str]],
        rows: Sequence[int],
        pl_module: L.LightningModule,
    ) -> list[float]:
        """The shares of some samples; of several right answers the one that most people gave counts."""
        vlm = check_forced(vlm_for(pl_module, None))
        asked = questions(batch, "prompts", self)
        choices = choices_of(batch, "choices", self, len(asked)) or [None] * len(asked)
        alone = texts_alone(batch, self, len(asked))
        wanted = {row: most_common_answer(targets[row]) for row in rows}
        found = {row: forced_share_of_text(vlm, asked[row], wanted[row]) for row in rows if alone[row]}
        shown = [row for row in rows if not alone[row]]
        if shown:
            vision = vision_of(batch, vlm, self, len(asked))
            prompts = [vlm.prompt(asked[row], choices[row]) for row in shown]
            shares = forced_shares(vlm, vision.select(shown), prompts, [wanted[row] for row in shown])
            found |= zip(shown, shares, strict=True)
        return [found[row] for row in rows]
