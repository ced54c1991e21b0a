"""Writes edits into the codebook at the end of a batch."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import lightning as L

from reasonedit.codebook import EditMemory
from reasonedit.codebook.memory import check_fingerprint
from reasonedit.design import Design
from reasonedit.edits import Edit
from reasonedit.embedding import Statistics, statistics_of
from reasonedit.errors import ReasonEditError
from reasonedit.evidence import Evidence
from reasonedit.method import Method
from reasonedit.vlm import VLM

from .batch import column
from .editor import Editor
from .model import vlm_for

_log = logging.getLogger(__name__)


class Codebook(Editor):
    """Keeps the edits of a stream.

    Where a sample of the batch carries an edit and the answer given is wrong, the edit is written, as it would be in
    deployment. The codebook is saved when the run ends, and also when it is interrupted or fails.

    Args:
        path: Folder in which the codebook is saved; not saved when not given.
        design: How edits are embedded, grounded, written and fetched; when not given, for the embedded VLM what won on
            it, for any other the paper's. Or a JSON file of it, such as ``reasonedit select`` writes.
        model: The VLM that embeds, where the LightningModule has none of its own (``pl_module.vlm``).
        image_key: Key of the images in a batch.

    Attributes:
        memory: The codebook itself.
        method: What writes and fetches; there once the run is set up.
        evidence: What was found for each sentence of an edit, by its id.
    """

    title = "ReasonEdit"

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        design: Design | str | None = None,
        model: str | None = None,
        image_key: str = "images",
    ) -> None:
        super().__init__()
        self.path = Path(path) if path is not None else None
        self.design = design
        self.model = model
        self.image_key = image_key
        self.memory = EditMemory()
        self.method: Method | None = None
        self.evidence: dict[str, list[Evidence]] = {}
        self._fingerprint: dict[str, Any] | None = None
        self._statistics: Statistics | None = None
        self._saved: int | None = None  # edits that are in the folder already; None while it is not ours

    @classmethod
    def load(cls, path: str | os.PathLike[str], image_key: str = "images") -> Codebook:
        """Go on with a saved codebook; its own design is used.

        Raises:
            ReasonEditError: There is none, or it is damaged.
        """
        memory, fingerprint, config, tensors = EditMemory.load(path)
        callback = cls(path, Design.from_dict(config["design"]), config["model"], image_key)
        callback.memory, callback._fingerprint = memory, fingerprint
        callback._statistics = statistics_of(tensors)
        callback._saved = len(memory.edits)
        return callback

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the VLM and make ready to write.

        Raises:
            ReasonEditError: The keys were made by another model, the folder holds another codebook, or edits would be
                written on several devices.
        """
        if trainer.world_size > 1 and self in trainer.callbacks:  # type: ignore[attr-defined]
            raise ReasonEditError("Edits can be written on one device only for now: use devices=1.")
        if self._saved is None and self.path is not None and (self.path / "codebook.json").exists():
            raise ReasonEditError(
                f"There is a codebook in '{self.path}' already: go on with it by Codebook.load('{self.path}'), "
                "or name another folder."
            )
        theirs = getattr(pl_module, "vlm", None)
        if self.method is not None and (not isinstance(theirs, VLM) or theirs is self.method.vlm):
            return  # set up already, by a retriever or in an earlier run
        vlm = vlm_for(pl_module, self.model)
        design = self.design
        if isinstance(design, str):
            design = Design.load(design, Design.default(vlm.name))
        method = Method(vlm, design, self.memory, statistics=self._statistics)
        if self._fingerprint is not None and len(self.memory):
            check_fingerprint(self._fingerprint, method.embedder.fingerprint, self.path or "")
        self.method, self._fingerprint = method, method.embedder.fingerprint

    @property
    def edits(self) -> int:
        """Number of edits in the codebook, those of earlier runs included."""
        return len(self.memory.edits)

    @property
    def keys(self) -> int:
        """Number of keys."""
        return len(self.memory)

    def has(self, edit_id: str) -> bool:
        """Whether the codebook has an edit."""
        return edit_id in self.memory.edits

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Write one edit into the codebook; see :meth:`Editor.write`."""
        assert self.method is not None  # set-up ran
        vision: Any = batch.get("vision")
        if not self.method.embedder.has(vision):
            vision, row = self.method.embedder.see([column(batch, self.image_key, self)[row]]), 0
        self.evidence[edit.id] = self.method.write(edit, vision.select([row])).evidence

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save."""
        self.save()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save what was edited so far, and say where."""
        if self.path is None or len(self.memory.edits) <= (self._saved or 0):
            return
        try:
            self.save()
        except ReasonEditError as error:  # the other callbacks have things to save too
            _log.error("The run stopped early, and its edits cannot be saved: %s", error)
        else:
            _log.warning("The run stopped early. %d edits are saved in '%s'.", len(self.memory.edits), self.path)

    def save(self) -> None:
        """Write the codebook to :attr:`path`, if it has one and there is anything new.

        Raises:
            ReasonEditError: The folder cannot be written.
        """
        if self.path is None or self.method is None or len(self.memory.edits) == self._saved:
            return
        config = {"model": self.method.vlm.name, "design": self.method.design.to_dict()}
        self.memory.save(self.path, self.method.embedder.fingerprint, config, self.method.tensors)
        self._saved = len(self.memory.edits)
