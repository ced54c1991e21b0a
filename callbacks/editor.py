"""What all editors share: which samples they edit, and what they count."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import Any, ClassVar

import lightning as L

from reasonedit.errors import InputError
from reasonedit.metrics import matches
from reasonedit.types import Edit
from reasonedit.vlm import VLM

from .base import RunCallback
from .batch import answers_of, column, in_steps


class Editor(RunCallback, ABC):
    """Edits what a stream shows to be wrong.

    If a sample carries an edit and its answer is wrong, the edit is written, as it would be in deployment. A new editor
    is a subclass with :meth:`write`, and with the hooks by which its edits change later answers.

    Attributes:
        title: Its name in tables.
        distributed: Whether it can edit on several devices together.
        seconds: How long each edit took, in seconds, by its id.
    """

    elsewhere: ClassVar[str] = "in trainer.{} nothing is edited"
    title: ClassVar[str] = ""
    distributed: ClassVar[bool] = False

    _taken_back: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @property
    def edits(self) -> int:
        """Number of edits written."""
        return len(self.seconds)

    @property
    def keys(self) -> int:
        """Number of keys, or of whatever grows with the edits; 0 if nothing does."""
        return 0

    def has(self, edit_id: str) -> bool:
        """Whether an edit is written already, from an earlier run of the same stream, and was not taken back."""
        return edit_id in self.seconds and edit_id not in self._taken_back

    @abstractmethod
    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Write one edit.

        Args:
            edit: The edit.
            row: Its row in the batch.
            batch: The batch in which its question was answered wrongly.
            pl_module: The module that answered.
        """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a run with several editors, or on several devices if the editor cannot do that.

        Raises:
            InputError: It is such a run.
            ReasonEditError: As for :meth:`RunCallback.setup`.
        """
        super().setup(trainer, pl_module, stage)
        editors = [c for c in getattr(trainer, "callbacks", ()) if isinstance(c, Editor)]
        if len(editors) > 1:
            names = " and ".join(type(c).__name__ for c in editors)
            raise InputError(f"{names} would edit the same samples: give each editor a trainer of its own.")
        if trainer.world_size > 1 and not self.distributed:
            raise InputError(f"{self.title or type(self).__name__} edits on one device only: use devices=1.")
        if getattr(getattr(trainer, "datamodule", None), "alone", False) and type(self).forget is Editor.forget:
            self.forget()

    def forget(self) -> None:
        """Take back all edits, so that the next one stands alone; an editor that can do that says how.

        It is called by :meth:`on_predict_batch_start`.

        Raises:
            InputError: It cannot.
        """
        raise InputError(f"{self.title or type(self).__name__} takes no edit back: leave the stream's 'alone' out.")

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Where each edit stands alone, take back the one before the next is asked."""
        if in_steps(batch) and batch["phase"] == "edit" and batch.get("alone") and self.edits:
            self.forget()
            self._taken_back = frozenset(self.seconds)

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
            InputError: The batch holds something else than edits; or, on several devices, the batches do not come in
                steps that all ranks take together.
        """
        if not isinstance(batch, dict):
            name = type(self).__name__
            self.say_once(trainer, f"{name} finds no edits in batches that are not dicts ({type(batch).__name__}).")
            return
        edits = self._edits_in(batch)
        if in_steps(batch):  # ranks without a sample come here as well
            if batch["phase"] != "edit":
                return
        elif not any(edits):
            return
        elif trainer.world_size > 1:
            raise InputError(
                "On several devices edits must come in steps that all ranks take together: use an EditStream, or "
                "devices=1."
            )
        answers = answers_of(outputs)
        if len(answers) != len(edits):
            raise InputError(
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
        other = next((e for e in edits if e is not None and not isinstance(e, Edit)), None)
        if other is not None:
            raise InputError(
                f"The batch has a {type(other).__name__} among its edits: make it a reasonedit.Edit, or None "
                "for a sample without one."
            )
        return edits

    def write_block(
        self, wrong: list[tuple[int, Edit]], batch: dict[str, Any], trainer: L.Trainer, pl_module: L.LightningModule
    ) -> None:
        """Write the edits of a batch, one after the other. On several devices all ranks take this step together.

        Args:
            wrong: The edits whose questions were answered wrongly, with their rows in the batch.
            batch: The batch.
            trainer: The trainer.
            pl_module: The module that answered.
        """
        vlm = getattr(pl_module, "vlm", None)
        # Nobody may see the model while it is changed.
        with vlm.guard if isinstance(vlm, VLM) else nullcontext():
            for row, edit in wrong:
                start = time.perf_counter()
                self.write(edit, row, batch, pl_module)
                self.seconds[edit.id] = time.perf_counter() - start
                self._taken_back -= {edit.id}
