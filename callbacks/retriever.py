"""Retrieves facts for the questions of a batch, and puts them before the questions."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import lightning as L
from PIL import Image

from reasonedit.codebook import Store
from reasonedit.errors import InputError
from reasonedit.pipeline import EditingPipeline
from reasonedit.retrieval import Retrieval, RetrievalConfig
from reasonedit.vlm import Vision, generation_of

from .base import RunCallback
from .batch import answered_already, choices_of, edits_in, is_list, pictures, questions, texts_alone
from .codebook import Codebook
from .held_pipeline import HeldPipeline
from .lookup import find_callback
from .model import own_vlm


class Retriever(RunCallback):
    """Puts the facts of the K nearest keys before each question, in place.

    It works in prediction, validation and test; batches to train on are left alone. A question without a picture
    (``text_only``) gets no facts: keys are of pictures with questions, and none of them is of it. The codebook is that
    of the :class:`~reasonedit.callbacks.Codebook` in the same trainer, or one in a folder. A codebook that is made in
    the run keeps how facts were fetched in it; one that was there before keeps its own way.

    Args:
        codebook: Folder of a codebook; not needed beside a ``Codebook`` callback.
        k: K, in place of that of ``retrieval``.
        percentile: p of the rejection gate, in place of that of ``retrieval``.
        retrieval: How facts are retrieved; the codebook's design says it when not given.
        image_key: Key of the images in a batch.
        prompt_key: Key of the questions in a batch.
        choice_key: Key of the choices in a batch, if it has any: they take room in the prompt.

    Raises:
        ReasonEditError: An argument is out of range, or the folder holds no codebook.

    Example:
        >>> retriever = Retriever("codebook", image_key="photos", prompt_key="questions")  # doctest: +SKIP
        >>> L.Trainer(callbacks=[retriever]).predict(their_module, their_loader)  # doctest: +SKIP
    """

    works_in: ClassVar[tuple[str, ...]] = ("predict", "validate", "test")
    elsewhere: ClassVar[str] = "in trainer.{} facts come before the questions of validation, not of training"

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
        replace(retrieval or RetrievalConfig(), **self._given)  # refuse them now, not when a run begins
        self.retrieval = retrieval
        self.image_key = image_key
        self.prompt_key = prompt_key
        self.choice_key = choice_key
        self._own = HeldPipeline.of_folder(Store.open(codebook)) if codebook is not None else None
        self._pipeline: EditingPipeline | None = None  # of this run
        self._follows = False

    def __getstate__(self) -> dict[str, Any]:
        """All but the pipeline of a run, so that it can be copied without its VLM."""
        return {**super().__getstate__(), "_pipeline": None}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Open the codebook, if it is not that of a callback.

        Raises:
            ReasonEditError: There is none, it is that of another VLM, or another retriever is beside this one; or as
                for :meth:`RunCallback.setup`.
        """
        super().setup(trainer, pl_module, stage)
        if sum(isinstance(c, Retriever) for c in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            raise InputError(
                "Two Retrievers in one trainer would each put their facts before what the other made of the questions: "
                "merge the codebooks ('reasonedit codebook import'), or run one after the other."
            )
        codebook = find_callback(trainer, Codebook)
        if self._own is None and codebook is None:
            raise InputError("Retriever has no codebook: give it a folder, or put a Codebook callback beside it.")
        self._pipeline = None
        if self._own is not None and not self._is_of(codebook):
            self._pipeline = self._own.attach(trainer, pl_module, partial(self.say_once, trainer))
        # Others may write into our folder meanwhile; several ranks would not see that at the same time.
        self._follows = self._pipeline is not None and trainer.world_size == 1

    def _is_of(self, codebook: Codebook | None) -> bool:
        """Whether our folder is that of a callback, which may change it during the run."""
        assert self._own is not None
        store = self._own.memory.store
        return codebook is not None and store is not None and codebook.is_in(store.folder)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the pipeline of the Codebook callback, which is set up by now, and retrieve as the arguments say.

        Raises:
            MismatchError: A checkpoint was loaded meanwhile, and the keys were not made with its weights.
        """
        held = self._own
        if held is None or self._pipeline is None:
            codebook = find_callback(trainer, Codebook)
            assert codebook is not None  # so it was at set-up
            held = codebook.held
            self._pipeline = held.pipeline
        assert self._pipeline is not None
        held.check_restored(trainer)
        self._pipeline.use(replace(self.retrieval or self._pipeline.own.retrieval, **self._given))

    on_validation_start = on_test_start = on_predict_start

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put facts before the batch's questions; add what was retrieved, and the vision pass for others to share.

        Raises:
            InputError: The batch is no dict, has facts already, or one of its columns cannot be used.
        """
        pipeline = self._pipeline
        assert pipeline is not None  # the run has begun
        asked = questions(batch, self.prompt_key, self)
        if self._follows:
            pipeline.memory.refresh()
        choices = choices_of(batch, self.choice_key, self, len(asked))
        if not asked or answered_already(batch) is not None:
            return
        found = batch.get("retrieved")
        if is_list(found) and any(isinstance(one, Retrieval) for one in found):
            raise InputError(
                "The batch has the facts of an earlier run before its questions: where a data set keeps its batches, "
                "have the loader or transfer_batch_to_device make a new dict each time (collate_fn=dict)."
            )
        if not pipeline.memory.edits:
            if edits_in(batch) and own_vlm(pl_module) is pipeline.vlm:  # who answers and who edits share the pass
                self._see(batch, len(asked), pipeline.embedder.has, pipeline.embedder.see)
            return
        texts = texts_alone(batch, self, len(asked))
        shown = [row for row, alone in enumerate(texts) if not alone]
        prompts, retrieved = list(asked), [Retrieval([], math.inf, 0.0) for _ in asked]  # as texts alone have it
        if shown:
            of_shown, ahead = [asked[row] for row in shown], pipeline.embedder.begin_texts([asked[r] for r in shown])
            vision = self._see(batch, len(asked), pipeline.has, pipeline.see)
            vision = vision.select(shown) if any(texts) else vision
            found = pipeline.retrieve(vision, of_shown, ahead)
            of_choices = [choices[row] for row in shown] if choices else None
            told = pipeline.prompts(vision, of_shown, found, of_choices, generation_of(pl_module))
            for row, prompt, of_row in zip(shown, *told, strict=True):
                prompts[row], retrieved[row] = prompt, of_row
        batch[self.prompt_key], batch["retrieved"] = prompts, retrieved

    def _see(
        self,
        batch: dict[str, Any],
        samples: int,
        has: Callable[[object], bool],
        see: Callable[[Sequence[Image.Image]], Vision],
    ) -> Vision:
        """The vision pass of a batch, which stays in the batch for others to share."""
        vision: Any = batch.get("vision")
        if not has(vision) or len(vision) != samples:
            vision = see(pictures(batch, self.image_key, self, samples))
        if "vision" not in batch or isinstance(batch["vision"], Vision):  # else it is something of the user's own
            batch["vision"] = vision
        return vision  # type: ignore[no-any-return]

    on_validation_batch_start = on_test_batch_start = on_predict_batch_start
