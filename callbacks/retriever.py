"""Embeds queries, fetches facts, and puts them before the questions at the start of a batch."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import lightning as L

from reasonedit.errors import ReasonEditError
from reasonedit.method import Method
from reasonedit.retrieval import RetrievalConfig

from .batch import column
from .beside import beside
from .codebook import Codebook


class Retriever(L.Callback):
    """Puts the facts of the K nearest keys before each question, in place.

    The codebook is that of the :class:`~reasonedit.callbacks.Codebook` in the same trainer, or one read from a folder.

    Args:
        codebook: Folder of a saved codebook; not needed beside a ``Codebook`` callback.
        k: K, in place of that of ``retrieval``.
        percentile: p of the rejection gate, in place of that of ``retrieval``.
        retrieval: How facts are fetched; as the codebook's design says when not given.
        image_key: Key of the images in a batch.
        prompt_key: Key of the questions in a batch.
        choice_key: Key of the choices in a batch, if it has any: they take room in the prompt.

    Raises:
        ReasonEditError: An argument is out of range, or the folder holds no codebook.
    """

    def __init__(
        self,
        codebook: str | os.PathLike[str] | None = None,
        k: int | None = None,
        percentile: float | None = None,
        retrieval: RetrievalConfig | None = None,
        image_key: str = "images",
        prompt_key: str = "prompts",
        choice_key: str = "choices",
    ) -> None:
        self._given: dict[str, Any] = {n: v for n, v in (("k", k), ("percentile", percentile)) if v is not None}
        replace(retrieval or RetrievalConfig(), **self._given)  # refused here rather than when the run begins
        self.retrieval = retrieval
        self.image_key = image_key
        self.prompt_key = prompt_key
        self.choice_key = choice_key
        self._source = Codebook.load(codebook) if codebook is not None else None
        self._method: Method | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the codebook."""
        source, other = self._source, beside(trainer, Codebook)
        if source is None or (other is not None and source.same(other)):  # then it is that one that changes
            source = self._source = other
            if source is None:
                raise ReasonEditError(
                    "Retriever has no codebook: give it a folder, or put a Codebook callback beside it."
                )
        source.setup(trainer, pl_module, stage)
        self._method = source.method
        assert self._method is not None
        self._method.use(replace(self.retrieval or self._method.own.retrieval, **self._given))

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Rewrite the batch's prompts; add what was retrieved, and the vision pass for others to share."""
        assert self._method is not None  # set-up ran
        questions = column(batch, self.prompt_key, self)
        if self._source is not None and self._source not in trainer.callbacks and trainer.world_size == 1:  # type: ignore[attr-defined]
            self._source.memory.refresh()  # others may write it; ranks would not see that at the same time
        if not questions or "answers" in batch or not self._method.memory.edits:
            return
        vision = batch.get("vision")
        if not self._method.embedder.has(vision):
            vision = self._method.embedder.see(column(batch, self.image_key, self))
        found = self._method.retrieve(vision, questions)
        longest = getattr(pl_module, "max_new_tokens", 16)
        texts, kept = self._method.prompts(vision, questions, found, batch.get(self.choice_key), longest)
        batch[self.prompt_key], batch["retrieved"], batch["vision"] = texts, kept, vision
