"""Embeds queries, fetches facts, and puts them before the questions at the start of a batch."""

from __future__ import annotations

import os
from typing import Any

import lightning as L

from reasonedit.codebook import EditMemory
from reasonedit.embedding import DualEmbedder
from reasonedit.errors import ReasonEditError
from reasonedit.retrieval import DEFAULT_K, DEFAULT_PERCENTILE, FactRetriever, with_facts
from reasonedit.vlm import Vision

from .batch import column
from .beside import beside
from .codebook import Codebook


class Retriever(L.Callback):
    """Puts the facts of the K nearest keys before each question, in place.

    The codebook is that of the :class:`~reasonedit.callbacks.Codebook` in the same trainer, or one read from a folder.

    Args:
        codebook: Folder of a saved codebook; not needed beside a ``Codebook`` callback.
        k: K, the number of nearest keys; that of the saved codebook, else 5, when not given.
        percentile: p of the rejection gate; that of the saved codebook, else 10, when not given.
        image_key: Key of the images in a batch.
        prompt_key: Key of the questions in a batch.

    Raises:
        ReasonEditError: An argument is out of range, or the folder holds no codebook.
    """

    def __init__(
        self,
        codebook: str | os.PathLike[str] | None = None,
        k: int | None = None,
        percentile: float | None = None,
        image_key: str = "images",
        prompt_key: str = "prompts",
    ) -> None:
        self.k = k if k is not None else DEFAULT_K
        self.percentile = percentile if percentile is not None else DEFAULT_PERCENTILE
        self._given = {"k": k, "percentile": percentile}
        self.image_key = image_key
        self.prompt_key = prompt_key
        self._source = Codebook.load(codebook) if codebook is not None else None
        self._retriever = FactRetriever(EditMemory(), self.k, self.percentile)
        self._embedder: DualEmbedder | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the codebook and the embedder."""
        source = self._source
        if source is None:
            source = beside(trainer, Codebook)
            if source is None:
                raise ReasonEditError(
                    "Retriever has no codebook: give it a folder, or put a Codebook callback beside it."
                )
        source.setup(trainer, pl_module, stage)
        self._embedder = source.embedder
        used = source.settings | {name: value for name, value in self._given.items() if value is not None}
        self.k, self.percentile = used["k"], used["percentile"]
        if self._retriever.memory is not source.memory:
            self._retriever = FactRetriever(source.memory, self.k, self.percentile)

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Rewrite the batch's prompts; add what was retrieved, and the vision pass for others to share."""
        assert self._embedder is not None  # set-up ran
        questions = column(batch, self.prompt_key, self)
        if not questions or not self._retriever.memory.edits:
            return
        vision = batch.get("vision")
        if not isinstance(vision, Vision) or self._embedder.layer not in vision.layers:
            vision = self._embedder.see(column(batch, self.image_key, self))
        found = self._retriever.retrieve(self._embedder.embed(vision, questions))
        # The facts are data: whoever reads the prompt next must not find the tokenizer's own marks in them.
        clean = self._embedder.vlm.clean
        batch[self.prompt_key] = [
            with_facts([clean(f) for f in r.facts], q) for r, q in zip(found, questions, strict=True)
        ]
        batch["vision"] = vision
        batch["retrieved"] = found
