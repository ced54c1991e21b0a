"""A progress bar that says whether the stream is editing or probing."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

from .batch import in_steps


class StreamProgress(RichProgressBar):
    """Lightning's rich bar, with what the batch is for: ``editing 12/40`` or ``probing after 40 edits``.

    Example:
        >>> L.Trainer(callbacks=[Codebook(), Retriever(), StreamProgress()])  # doctest: +SKIP
    """

    def __init__(self, refresh_rate: int = 1, leave: bool = False) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=leave, console_kwargs={"stderr": True})
        self._edits = self._seen = 0

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the edits of the stream."""
        super().on_predict_start(trainer, pl_module)
        self._seen = 0
        base = getattr(getattr(trainer, "datamodule", None), "base", None)
        self._edits = len(base.edits) if base is not None else 0

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Say what the batch is for."""
        super().on_predict_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        phase = batch["phase"] if in_steps(batch) else None
        if phase is None or self.progress is None or self.predict_progress_bar_id is None:
            return
        if phase == "edit":
            self._seen += sum(e is not None for e in batch["edits"])
            text = f"editing {self._seen}/{self._edits}" if self._edits else f"editing {self._seen}"
        else:
            text = f"probing after {self._seen} edits"
        self.progress.update(self.predict_progress_bar_id, description=text)
