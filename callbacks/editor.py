"""What all editors share: which samples they are given to edit, and what is counted."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import lightning as L

from reasonedit.edits import Edit
from reasonedit.metrics import matches

from .batch import answers_of


class Editor(L.Callback, ABC):
    """Edits what a stream shows to be wrong.

    Where a sample of the batch carries an edit and the answer given is wrong, the edit is written, as it would be in
    deployment. A new editor is a subclass with :meth:`write`, and whatever hook makes it count for later questions.

    Attributes:
        title: What it is called in tables.
        seconds: Time each edit took, in seconds, by its id.
    """

    title: ClassVar[str] = ""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @property
    def edits(self) -> int:
        """Number of edits written."""
        return len(self.seconds)

    @property
    def keys(self) -> int:
        """Number of keys, or of whatever grows with the edits; 0 where nothing does."""
        return 0

    def has(self, edit_id: str) -> bool:
        """Whether an edit was written already, in an earlier run of the same stream."""
        return edit_id in self.seconds

    @abstractmethod
    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Write one edit.

        Args:
            edit: The edit.
            row: Its place in the batch.
            batch: The batch in which it was answered wrongly.
            pl_module: The module that answered.
        """

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the edits whose questions were answered wrongly."""
        if not isinstance(batch, dict) or not any(batch.get("edits") or ()):
            return
        for row, (edit, answer) in enumerate(zip(batch["edits"], answers_of(outputs), strict=True)):
            if edit is not None and not self.has(edit.id) and not matches(answer, edit.answer):
                start = time.perf_counter()
                self.write(edit, row, batch, pl_module)
                self.seconds[edit.id] = time.perf_counter() - start
