"""A progress bar that says whether the stream is editing or probing."""

from __future__ import annotations

from bisect import bisect_right
from itertools import chain
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

from reasonedit.data.stream import EditStream

from .batch import in_steps


class StreamProgress(RichProgressBar):
    """Lightning's rich bar, with what the batch is for: ``editing 12/40`` or ``probing after 40 edits``.

    Example:
        >>> L.Trainer(callbacks=[Codebook(), Retriever(), StreamProgress()])  # doctest: +SKIP
    """

    def __init__(self, refresh_rate: int = 1, leave: bool = False) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=leave, console_kwargs={"stderr": True})
        self._places: list[int] = []  # of the edits in the stream

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the edits of the stream."""
        super().on_predict_start(trainer, pl_module)
        data = getattr(trainer, "datamodule", None)
        batches = data.layout() if isinstance(data, EditStream) and data.base is not None else []
        self._places = [place for place, item in enumerate(chain.from_iterable(batches)) if item.phase == "edit"]

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Say what the batch is for."""
        super().on_predict_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        asked = in_steps(batch) and batch["positions"]
        if not asked or self.progress is None or self.predict_progress_bar_id is None:
            return
        seen = bisect_right(self._places, max(asked))  # by all ranks, which share the edits
        is_edit = batch["phase"] == "edit"
        text = f"editing {seen}/{len(self._places)}" if is_edit else f"probing after {seen} edits"
        self.progress.update(self.predict_progress_bar_id, description=text)
