"""Progress that says whether the stream is editing or probing: a bar, or lines in a log."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import chain
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from rich.console import Console

from reasonedit.data.stream import EditStream
from reasonedit.util.progress_lines import ProgressLines

from .base import refuse_other_package
from .batch import in_steps


class StreamProgress(RichProgressBar):
    """Lightning's rich bar, with what the batch is for: ``editing 12/40`` or ``probing after 40 edits``.

    Example:
        >>> L.Trainer(callbacks=[Codebook(), Retriever(), StreamProgress()])  # doctest: +SKIP
    """

    def __init__(self, refresh_rate: int = 1, leave: bool = False) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=leave, console_kwargs={"stderr": True})
        self._stage = _Stage()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a trainer of another package; raises as :func:`refuse_other_package` does."""
        refuse_other_package(trainer, self)
        super().setup(trainer, pl_module, stage)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the edits of the stream."""
        super().on_predict_start(trainer, pl_module)
        self._stage = _Stage(trainer)

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Say what the batch is for."""
        super().on_predict_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        text = self._stage.describe(batch)
        if text and self.progress is not None and self.predict_progress_bar_id is not None:
            self.progress.update(self.predict_progress_bar_id, description=text)


class StreamLines(ProgressBar):
    """The same where standard error is a file: a line a minute, as in the log of a job.

    ``reasonedit run`` takes it in the place of a bar that nobody would see.

    Example:
        >>> L.Trainer(callbacks=[Codebook(), Retriever(), StreamLines()])  # doctest: +SKIP
    """

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(stderr=True)
        self._stage, self._lines = _Stage(), ProgressLines(self._console)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a trainer of another package; raises as :func:`refuse_other_package` does."""
        refuse_other_package(trainer, self)
        super().setup(trainer, pl_module, stage)

    def disable(self) -> None:
        """Say nothing, as on all ranks but the first."""
        self._console.quiet = True

    def enable(self) -> None:
        """Say it again."""
        self._console.quiet = False

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count."""
        self._stage, self._lines = _Stage(trainer), ProgressLines(self._console)
        batches = sum(trainer.num_predict_batches)
        self._lines.add_task("predicting", total=batches if math.isfinite(batches) else None)

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Say what is done, and how many batches of the stream are."""
        (task,) = self._lines.tasks
        text = self._stage.describe(batch)
        self._lines.update(task.id, description=f"{text}, batch" if text else task.description)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count it."""
        self._lines.advance(self._lines.tasks[0].id)


class _Stage:
    """What the batches of a stream are for."""

    def __init__(self, trainer: L.Trainer | None = None) -> None:
        data = getattr(trainer, "datamodule", None)
        batches = data.layout() if isinstance(data, EditStream) and data.base is not None else []
        self._places = [place for place, item in enumerate(chain.from_iterable(batches)) if item.phase == "edit"]

    def describe(self, batch: Any) -> str:
        """In words; empty where a batch does not say it, or has nothing to do."""
        if not in_steps(batch) or not batch["positions"]:
            return ""
        seen = bisect_right(self._places, max(batch["positions"]))  # by all ranks, which share the edits
        return f"editing {seen}/{len(self._places)}" if batch["phase"] == "edit" else f"probing after {seen} edits"
