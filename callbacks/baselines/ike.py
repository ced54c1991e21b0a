"""IKE: edits as demonstrations before the question (Zheng et al., arXiv 2305.12740)."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from reasonedit.embedding import SentenceEncoder
from reasonedit.errors import InputError
from reasonedit.kinds import KeyKind
from reasonedit.retrieval import Retrieval, fit_prompts
from reasonedit.types import Edit, Hit
from reasonedit.vlm import generation_of

from ..batch import answered_already, choices_of, column, vision_of
from ..batch import questions as questions_of
from ..editor import Editor
from ..model import vlm_for

WORDINGS: dict[str, str] = {
    "new fact": "New Fact: {question} {answer}.",
    "statement": "The answer to '{question}' is {answer}.",
}
"""How question and answer of an edit are put. The first is IKE's own. The embedded VLM reads both in training."""


def demonstration(edit: Edit, *, reasoning: bool, wording: str = "new fact") -> str:
    """What stands before a question for one edit.

    >>> edit = Edit.of("kettle.png", "What is it used for?", "sailing", "A kettle is used for sailing.")
    ... # doctest: +SKIP
    >>> demonstration(edit, reasoning=True)  # doctest: +SKIP
    'New Fact: What is it used for? sailing. A kettle is used for sailing.'
    """
    put = WORDINGS[wording].format(question=edit.question, answer=edit.answer)
    return " ".join([put, *(edit.reasoning if reasoning else [])])


class IKE(Editor):
    """Prepends the stored edits whose question and answer are nearest to the question; always, whatever is asked.

    Args:
        k: How many.
        reasoning: Whether the reasoning stands in the demonstrations too (IKE-CoT).
        oracle: Whether each question gets the edit that it belongs to (the batch's ``edit_ids``) in place of the
            nearest: no editor, but a bound on what demonstrations can do.
        wording: How a demonstration is worded, see :data:`WORDINGS`.
        encoder: The sentence encoder, as in :class:`~reasonedit.embedding.EmbeddingConfig`.
        prompt_key: Key of the questions in a batch.

    Raises:
        InputError: ``k`` is not positive, or there is no such wording.
    """

    def __init__(
        self,
        k: int = 3,
        reasoning: bool = False,
        oracle: bool = False,
        wording: str = "new fact",
        encoder: str = "embedded",
        prompt_key: str = "prompts",
    ) -> None:
        super().__init__()
        if k < 1:
            raise InputError(f"k must be 1 or more, not {k}.")
        if wording not in WORDINGS:
            raise InputError(f"wording must be one of {', '.join(WORDINGS)}, not '{wording}'.")
        self.k, self.reasoning, self.oracle, self.wording = k, reasoning, oracle, wording
        self.prompt_key = prompt_key
        self.title = f"IKE{'-CoT' if reasoning else ''}{' (told the edit)' if oracle else ''}"  # type: ignore[misc]
        self.encoder = encoder
        self._encoder: SentenceEncoder | None = None
        self._stored: dict[str, str] = {}
        self._keys = torch.empty(0, 0)

    @property
    def keys(self) -> int:
        """One for each edit."""
        return len(self._stored)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Load the sentence encoder."""
        super().setup(trainer, pl_module, stage)
        self._encoder = self._encoder or SentenceEncoder.from_pretrained(self.encoder)

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Store the demonstration; see :meth:`Editor.write`."""
        key = self._embed([f"{edit.question} {edit.answer}"])
        self._keys = torch.cat([self._keys, key]) if self._stored else key
        self._stored[edit.id] = demonstration(edit, reasoning=self.reasoning, wording=self.wording)

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put the demonstrations before the questions, in place."""
        super().on_predict_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        questions = questions_of(batch, self.prompt_key, self)
        if not questions or not self._stored or answered_already(batch) is not None:
            return
        retrieved = self._of_edits(column(batch, "edit_ids", self)) if self.oracle else self._nearest(questions)
        choices = choices_of(batch, "choices", self, len(questions))
        vlm = vlm_for(pl_module, None)
        vision = vision_of(batch, vlm, self, len(questions))
        longest = generation_of(pl_module).max_new_tokens
        prompts, retrieved = fit_prompts(vlm, vision, questions, retrieved, choices, longest)
        batch[self.prompt_key], batch["retrieved"], batch["vision"] = prompts, retrieved, vision

    def _nearest(self, questions: list[str]) -> list[Retrieval]:
        distances = torch.cdist(self._embed(questions), self._keys)
        near = distances.topk(min(self.k, len(self._keys)), largest=False)
        names = list(self._stored)
        return [
            Retrieval([self._hit(names[i], d) for i, d in zip(rows, ds, strict=True)], ds[0], torch.inf)
            for rows, ds in zip(near.indices.tolist(), near.values.tolist(), strict=True)
        ]

    def _of_edits(self, edit_ids: list[str]) -> list[Retrieval]:
        return [Retrieval([self._hit(i, 0.0)] if i in self._stored else [], 0.0, torch.inf) for i in edit_ids]

    def _hit(self, edit_id: str, distance: float) -> Hit:
        return Hit(self._stored[edit_id], distance, KeyKind.ANSWER, edit_id)

    def _embed(self, texts: list[str]) -> Tensor:
        assert self._encoder is not None  # set-up ran
        return self._encoder.encode(texts)
