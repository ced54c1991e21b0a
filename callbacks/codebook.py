"""Writes edits into the codebook at the end of a batch."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import lightning as L

from reasonedit.codebook import EditMemory, entries_of
from reasonedit.codebook.memory import check_fingerprint
from reasonedit.edits import Edit
from reasonedit.embedding import DualEmbedder, EmbeddingConfig
from reasonedit.errors import ReasonEditError
from reasonedit.metrics import matches
from reasonedit.retrieval import DEFAULT_K, DEFAULT_PERCENTILE
from reasonedit.vlm import VLM, Vision

from .batch import answers_of, column
from .beside import beside
from .embedder import embedder_for

_log = logging.getLogger(__name__)


class Codebook(L.Callback):
    """Keeps the edits of a stream.

    Where a sample of the batch carries an edit and the answer given is wrong, the edit is written, as it would be in
    deployment. The codebook is saved when the run ends, and also when it is interrupted or fails.

    Args:
        path: Folder in which the codebook is saved; not saved when not given.
        embedding: How images and texts are embedded.
        model: The VLM that embeds, where the LightningModule has none of its own (``pl_module.vlm``).
        image_key: Key of the images in a batch.

    Attributes:
        memory: The codebook itself.
        settings: K and percentile a retriever uses that is given none.
        seconds: Time each edit took, in seconds, by its id.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        embedding: EmbeddingConfig | None = None,
        model: str | None = None,
        image_key: str = "images",
    ) -> None:
        self.path = Path(path) if path is not None else None
        self.embedding = embedding
        self.model = model
        self.image_key = image_key
        self.memory = EditMemory()
        self.embedder: DualEmbedder | None = None
        self.seconds: dict[str, float] = {}
        self._fingerprint: dict[str, Any] | None = None
        self.settings: dict[str, Any] = {"k": DEFAULT_K, "percentile": DEFAULT_PERCENTILE}
        self._saved: int | None = None  # edits that are in the folder already; None while it is not ours

    @classmethod
    def load(cls, path: str | os.PathLike[str], image_key: str = "images") -> Codebook:
        """Go on with a saved codebook; its own settings are used.

        Raises:
            ReasonEditError: There is none, or it is damaged.
        """
        memory, fingerprint, config = EditMemory.load(path)
        embedding = EmbeddingConfig(fingerprint["layer"], fingerprint["text_weight"], fingerprint["encoder"])
        callback = cls(path, embedding, config["model"], image_key)
        callback.memory, callback._fingerprint = memory, fingerprint
        callback.settings = {"k": config["k"], "percentile": config["percentile"]}
        callback._saved = len(memory.edits)
        return callback

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the embedder.

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
        if self.embedder is not None and (not isinstance(theirs, VLM) or theirs is self.embedder.vlm):
            return  # set up already, by a retriever or in an earlier run
        embedder = embedder_for(pl_module, self.embedding, self.model)
        if self._fingerprint is not None and len(self.memory):
            check_fingerprint(self._fingerprint, embedder.fingerprint, self.path or "")
        self.embedder, self._fingerprint = embedder, embedder.fingerprint

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
        for i, (edit, answer) in enumerate(zip(batch["edits"], answers_of(outputs), strict=True)):
            # An edit that is there already, from an earlier run of the same stream, is not written twice.
            if edit is not None and edit.id not in self.memory.edits and not matches(answer, edit.answer):
                self._write(edit, i, batch)

    def _write(self, edit: Edit, row: int, batch: dict[str, Any]) -> None:
        assert self.embedder is not None  # set-up ran
        start = time.perf_counter()
        texts = [text for text, _ in entries_of(edit)]
        vision = batch.get("vision")
        if not isinstance(vision, Vision) or self.embedder.layer not in vision.layers:
            vision, row = self.embedder.see([column(batch, self.image_key, self)[row]]), 0
        self.memory.write(edit, self.embedder.embed(vision.select([row] * len(texts)), texts))
        self.seconds[edit.id] = time.perf_counter() - start

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save."""
        self.save(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save what was edited so far, and say where."""
        if self.path is None or len(self.memory.edits) <= (self._saved or 0):
            return
        try:
            self.save(trainer)
        except ReasonEditError as error:  # the other callbacks have things to save too
            _log.error("The run stopped early, and its edits cannot be saved: %s", error)
        else:
            _log.warning("The run stopped early. %d edits are saved in '%s'.", len(self.memory.edits), self.path)

    def save(self, trainer: L.Trainer) -> None:
        """Write the codebook to :attr:`path`, if it has one and there is anything new.

        Raises:
            ReasonEditError: The folder cannot be written.
        """
        from .retriever import Retriever

        if self.path is None or self.embedder is None or len(self.memory.edits) == self._saved:
            return
        retriever = beside(trainer, Retriever)
        used = self.settings if retriever is None else {"k": retriever.k, "percentile": retriever.percentile}
        settings = {**used, "model": self.embedder.vlm.name}
        self.memory.save(self.path, self.embedder.fingerprint, settings)
        self._saved = len(self.memory.edits)
