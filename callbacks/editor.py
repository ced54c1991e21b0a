"""What all editors share: which samples they are given to edit, and what is counted."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import Any, ClassVar

import lightning as L

from reasonedit.errors import ReasonEditError
from reasonedit.metrics import matches
from reasonedit.types import Edit
from reasonedit.vlm import VLM

from .base import RunCallback
from .batch import answers_of, column, in_steps


class Editor(RunCallback, ABC):
    """Edits what a stream shows to be wrong.

    Where a sample of the batch carries an edit and the answer given is wrong, the edit is written, as it would be in
    deployment. A new editor is a subclass with :meth:`write`, and whatever hook makes it count for later questions.

    Attributes:
        title: What it is called in tables.
        distributed: Whether it edits on several devices together.
        seconds: Time each edit took, in seconds, by its id.
    """

    elsewhere: ClassVar[str] = "in trainer.{} nothing is edited"
    title: ClassVar[str] = ""
    distributed: ClassVar[bool] = False

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

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a run on several devices where the editor cannot do that, and one with several editors.

        Raises:
            ReasonEditError: It is one of those; or as for :meth:`RunCallback.setup`.
        """
        super().setup(trainer, pl_module, stage)
        editors = [c for c in getattr(trainer, "callbacks", ()) if isinstance(c, Editor)]
        if len(editors) > 1:
            names = " and ".join(type(c).__name__ for c in editors)
            raise ReasonEditError(f"{names} would edit the same samples: give each editor a trainer of its own.")
        if trainer.world_size > 1 and not self.distributed:
            raise ReasonEditError(f"{self.title or type(self).__name__} edits on one device only: use devices=1.")

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the edits whose questions were answered wrongly.

        Raises:
            ReasonEditError: What the batch holds as edits is something else; or, on several devices, the batches do not
                come in steps that all ranks take together.
        """
        if not isinstance(batch, dict):
            name = type(self).__name__
            self.say_once(trainer, f"{name} finds no edits in batches that are no dicts ({type(batch).__name__}).")
            return
        edits = self._edits_in(batch)
        if in_steps(batch):  # all ranks come here, those without a sample too
            if batch["phase"] != "edit":
                return
        elif not any(edits):
            return
        elif trainer.world_size > 1:
            raise ReasonEditError(
                "On several devices edits must come in steps that all ranks take together: use an EditStream, or "
                "devices=1."
            )
        answers = answers_of(outputs)
        if len(answers) != len(edits):
            raise ReasonEditError(
                f"The batch has {len(edits)} edits and its prediction {len(answers)} answers: each sample needs one of "
                "both (None where there is no edit)."
            )
        wrong = [
            (row, edit)
            for row, (edit, answer) in enumerate(zip(edits, answers, strict=True))
            if edit is not None and not self.has(edit.id) and not matches(answer, edit.targets)
        ]
        self.write_block(wrong, batch, trainer, pl_module)

    def _edits_in(self, batch: dict[str, Any]) -> list[Edit | None]:
        edits = column(batch, "edits", self) if batch.get("edits") is not None else []
        odd = next((e for e in edits if e is not None and not isinstance(e, Edit)), None)
        if odd is not None:
            raise ReasonEditError(
                f"The batch has a {type(odd).__name__} among its edits: make it a reasonedit.Edit, or None where there "
                "is none."
            )
        return edits

    def write_block(
        self, wrong: list[tuple[int, Edit]], batch: dict[str, Any], trainer: L.Trainer, pl_module: L.LightningModule
    ) -> None:
        """Write the edits of a batch, one after the other; on several devices all ranks come here in each such step.

        Args:
            wrong: The edits that were answered wrongly, with their places in the batch.
            batch: The batch.
            trainer: The trainer.
            pl_module: The module that answered.
        """
        vlm = getattr(pl_module, "vlm", None)
        # Whoever changes the model shows it to nobody by half.
        with vlm.guard if isinstance(vlm, VLM) else nullcontext():
            for row, edit in wrong:
                start = time.perf_counter()
                self.write(edit, row, batch, pl_module)
                self.seconds[edit.id] = time.perf_counter() - start
