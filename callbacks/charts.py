"""What TensorBoard shows of an edit stream beside its metrics: charts, pictures and a row of hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from reasonedit.drawings import draw_evidence, draw_retrieval
from reasonedit.errors import InputError
from reasonedit.groups import ProbeGroup
from reasonedit.metrics import matches
from reasonedit.types import Query

from .base import RunCallback, refuse_other_package
from .batch import answers_of, edits_in, in_steps
from .codebook import Codebook
from .editor import Editor
from .lookup import find_callback
from .metrics import EditingMetrics

LAYOUT = {
    title: {
        group.label: ["Multiline", [f"^edit/{group}$"]]
        for group in ProbeGroup
        if group.is_locality == is_locality and not group.is_optional
    }
    for title, is_locality in (("what is corrected", False), ("what is left alone", True))
}
"""Custom scalars: a chart per metric that all data sets have, with a line for each editor that logs into the folder."""

_PARTS = ("embedding", "retrieval", "writing")
"""The parts of a design whose settings are told apart most often."""


class TensorBoardCharts(RunCallback):
    """Adds charts, pictures and hyperparameters to every TensorBoard logger of the trainer.

    Put it behind the editor and :class:`~reasonedit.callbacks.EditingMetrics`, which logs the metrics themselves.

    Args:
        settings: The hyperparameters, which are shown with the final metrics; by default the editor, the model, the
            stream and the parts of the codebook's design.
        pictures: How many edits are drawn with their evidence, and how many queries with their facts.

    Raises:
        InputError: ``pictures`` is negative.

    Example:
        >>> logger = TensorBoardLogger("boards")  # doctest: +SKIP
        >>> editing = [Codebook(), Retriever(), EditingMetrics()]  # doctest: +SKIP
        >>> L.Trainer(logger=logger, callbacks=[*editing, TensorBoardCharts()])  # doctest: +SKIP
    """

    def __init__(self, settings: Mapping[str, Any] | None = None, pictures: int = 8) -> None:
        if pictures < 0:
            raise InputError(f"pictures must be 0 or more, not {pictures}.")
        self.settings = dict(settings) if settings is not None else None
        self.pictures = pictures
        self._drawn: set[str] = set()
        self._queries = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a place before the codebook, from which no edit is seen.

        Raises:
            InputError: A codebook stands behind it, or the trainer is one of ``pytorch_lightning``.
            ReasonEditError: As for :meth:`RunCallback.setup`.
        """
        refuse_other_package(trainer, self)
        super().setup(trainer, pl_module, stage)
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(c, Codebook) for c in callbacks[callbacks.index(self) :]):
            raise InputError("TensorBoardCharts must stand behind Codebook in the list of callbacks.")

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lay out the charts, and begin their curves with what the unedited model answers."""
        self._drawn, self._queries = set(), 0
        base = _base_of(trainer)
        for logger in self._loggers(trainer):
            if logger.hparams and getattr(logger, "_default_hp_metric", True):
                self.say_once(
                    trainer,
                    f"TensorBoard shows the first hyperparameters in a folder alone, and '{logger.log_dir}' has some "
                    "already, such as the module's own: those of TensorBoardCharts, and the final metrics beside them, "
                    "are not shown. Give each run a TensorBoardLogger of its own, with default_hp_metric=False.",
                )
            logger.experiment.add_custom_scalars(LAYOUT)
            if base is not None and base.metrics and trainer.is_global_zero:
                logger.log_metrics({f"edit/{group}": share for group, (share, _) in base.metrics.items()}, step=0)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first edits and the first queries that were given facts."""
        loggers = self._loggers(trainer)
        if not isinstance(batch, dict) or not loggers:
            return
        codebook = find_callback(trainer, Codebook)
        for edit in edits_in(batch):
            evidence = codebook.evidence.get(edit.id) if codebook is not None else None
            if evidence is None or edit.id in self._drawn or len(self._drawn) >= self.pictures:
                continue
            self._drawn.add(edit.id)
            card = draw_evidence(edit, [e.boxes for e in evidence])
            self._show(loggers, f"evidence/{edit.id}", card, len(self._drawn))
        if not in_steps(batch) or batch["phase"] != "probe":
            return
        answers = answers_of(outputs)
        for i, retrieval in enumerate(batch.get("retrieved") or []):
            if not retrieval.hits or self._queries >= self.pictures or batch["groups"][i] != "r_gen":
                continue
            self._queries += 1
            query = Query(batch["images"][i], (batch.get("bare_prompts") or batch["prompts"])[i])
            right = matches(answers[i], batch["targets"][i])
            card = draw_retrieval(query, retrieval.hits, answers[i], right=right)
            self._show(loggers, f"retrieval/{batch['ids'][i]}", card, self._queries)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the hyperparameters with the final metrics."""
        metrics = find_callback(trainer, EditingMetrics)
        if metrics is None or not metrics.results:
            return
        for logger in self._loggers(trainer):
            final = {f"final/{g}": share for g, (share, _) in metrics.results.items()}
            logger.log_hyperparams(self.settings if self.settings is not None else settings_of(trainer), final)
            logger.save()

    @staticmethod
    def _loggers(trainer: L.Trainer) -> list[TensorBoardLogger]:
        return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]

    @staticmethod
    def _show(loggers: list[TensorBoardLogger], name: str, card: Image.Image, step: int) -> None:
        for logger in loggers:
            logger.experiment.add_image(name, np.asarray(card), step, dataformats="HWC")


def settings_of(trainer: L.Trainer) -> dict[str, Any]:
    """What tells one run from another, one column each in TensorBoard's table of hyperparameters."""
    editor, codebook = find_callback(trainer, Editor), find_callback(trainer, Codebook)  # type: ignore[type-abstract]
    data, base = getattr(trainer, "datamodule", None), _base_of(trainer)
    vlm = getattr(trainer.lightning_module, "vlm", None)
    settings: dict[str, Any] = {
        "editor": "none" if editor is None else editor.title or type(editor).__name__,
        "model": getattr(vlm, "name", ""),
        "data": type(getattr(data, "source", data)).__name__ if data is not None else "",
        "edits": len(base.edits) if base is not None else editor.edits if editor is not None else 0,
    }
    if codebook is not None and codebook.pipeline is not None:
        embedding, retrieval, writing = (getattr(codebook.pipeline.design, n) for n in _PARTS)
        settings |= {
            "layer": embedding.layer or "",
            "transform": embedding.transform,
            "text_weight": embedding.text_weight,
            "percentile": retrieval.percentile,
            "k": retrieval.k,
            "entries": writing.entries,
            "keys": writing.keys,
        }
    return settings


def _base_of(trainer: L.Trainer) -> Any:
    """What the unedited model answered in a stream, where the trainer runs one."""
    return getattr(getattr(trainer, "datamodule", None), "base", None)
