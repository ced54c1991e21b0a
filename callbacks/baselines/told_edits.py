"""Editors that tell the VLM of stored edits, which they find by the image and the question together."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import lightning as L
import torch
from torch import Tensor

from reasonedit.errors import InputError, MismatchError
from reasonedit.kinds import KeyKind
from reasonedit.retrieval import Retrieval, fit_prompts
from reasonedit.types import Edit, Hit
from reasonedit.vlm import generation_of

from ..batch import answered_already, choices_of, pictures, texts_alone
from ..batch import questions as questions_of
from ..editor import Editor
from ..model import vlm_for
from .ike import WORDINGS, demonstration
from .joint_embedding import JointEmbedder


class TellsEdits(Editor):
    """Stores edits under the embedding of their image and question, and puts what it chooses before a question.

    Args:
        reasoning: Whether the reasoning is told too.
        wording: How an edit is worded, see :data:`.ike.WORDINGS`.
        image_weight: As for :class:`JointEmbedder`, like the next two.
        encoder: The sentence encoder.
        clip: The open_clip model.
        prompt_key: Key of the questions in a batch.

    Raises:
        InputError: There is no such wording, or the weight is negative.
    """

    def __init__(
        self,
        reasoning: bool = False,
        wording: str = "new fact",
        image_weight: float = 1.0,
        encoder: str = "embedded",
        clip: str | None = None,
        prompt_key: str = "prompts",
    ) -> None:
        super().__init__()
        if wording not in WORDINGS:
            raise InputError(f"wording must be one of {', '.join(WORDINGS)}, not '{wording}'.")
        if not 0 <= image_weight < torch.inf:
            raise InputError(f"image_weight must be 0 or more, not {image_weight}.")
        self.reasoning, self.wording, self.image_weight = reasoning, wording, image_weight
        self.encoder, self.clip, self.prompt_key = encoder, clip, prompt_key
        self._embedder: JointEmbedder | None = None
        self._stored: list[tuple[str, str]] = []  # the edits' ids, and what is told of them
        self._keys = torch.empty(0, 0)

    @property
    def keys(self) -> int:
        """One for each edit."""
        return len(self._stored)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Load what embeds.

        Raises:
            MismatchError: The edits are stored under embeddings of another VLM.
            ReasonEditError: It cannot be had; or as for :meth:`Editor.setup`.
        """
        super().setup(trainer, pl_module, stage)
        vlm = vlm_for(pl_module, None)
        if self._embedder is None or self._embedder.vlm is not vlm:
            if self._stored:
                raise MismatchError(f"This {type(self).__name__} holds edits of another VLM: make a new one.")
            self._embedder = JointEmbedder(vlm, self.encoder, self.clip, self.image_weight)

    @property
    def embedder(self) -> JointEmbedder:
        """What embeds; there once the run is set up."""
        assert self._embedder is not None
        return self._embedder

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Store the edit; see :meth:`Editor.write`."""
        key = self.embedder.embed(self.embedder.see([edit.image]), [edit.image], [edit.question])
        self._keys = torch.cat([self._keys, key]) if self._stored else key
        self._stored.append((edit.id, demonstration(edit, reasoning=self.reasoning, wording=self.wording)))

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put what is chosen before the questions, in place."""
        super().on_predict_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        questions = questions_of(batch, self.prompt_key, self)
        if not questions or not self._stored or answered_already(batch) is not None:
            return
        choices = choices_of(batch, "choices", self, len(questions))
        images = pictures(batch, "images", self, len(questions))
        vision: Any = batch.get("vision")
        if not self.embedder.has(vision) or len(vision) != len(questions):
            vision = self.embedder.see(images)
        alone = texts_alone(batch, self, len(questions))
        retrieved = self.choose(self.embedder.embed(vision, images, questions, alone))
        longest = generation_of(pl_module).max_new_tokens
        prompts, retrieved = fit_prompts(self.embedder.vlm, vision, questions, retrieved, choices, longest)
        batch[self.prompt_key], batch["retrieved"], batch["vision"] = prompts, retrieved, vision

    @abstractmethod
    def choose(self, queries: Tensor) -> list[Retrieval]:
        """The edits that are told before each question.

        Args:
            queries: Embeddings of the questions with their images (B, D), float32.

        Returns:
            For each question what is put before it, the nearest first.
        """

    def hit(self, row: int, distance: float) -> Hit:
        """A stored edit by its number, at a distance from the question."""
        edit_id, told = self._stored[row]
        return Hit(told, distance, KeyKind.ANSWER, edit_id)
