"""RAG: the edits whose image and question are most like those that are asked about, before every question."""

from __future__ import annotations

import torch
from torch import Tensor

from reasonedit.errors import InputError
from reasonedit.retrieval import Retrieval

from .told_edits import TellsEdits


class RAG(TellsEdits):
    """Retrieval-augmented generation, as a practitioner would build it in an afternoon: top k by cosine, no gate.

    A key is one vector for the edit's image and question (:class:`JointEmbedder`), and so is a query. There is no
    threshold: k edits stand before each question, whatever is asked.

    Args:
        k: How many edits are told.
        reasoning: Whether the reasoning is told too (RAG-CoT).
        wording: How an edit is worded, see :data:`.ike.WORDINGS`.
        image_weight: How much longer the image's half of a vector is than the question's.
        encoder: The sentence encoder, as in :class:`~reasonedit.embedding.EmbeddingConfig`.
        clip: An open_clip model that embeds the images, "ARCHITECTURE:WEIGHTS"; the VLM's own vision part does where
            none is given.
        prompt_key: Key of the questions in a batch.

    Raises:
        InputError: ``k`` is not positive; or as for :class:`TellsEdits`.
    """

    def __init__(
        self,
        k: int = 3,
        reasoning: bool = False,
        wording: str = "new fact",
        image_weight: float = 1.0,
        encoder: str = "embedded",
        clip: str | None = None,
        prompt_key: str = "prompts",
    ) -> None:
        super().__init__(reasoning, wording, image_weight, encoder, clip, prompt_key)
        if k < 1:
            raise InputError(f"k must be 1 or more, not {k}.")
        self.k = k
        self.title = "RAG-CoT" if reasoning else "RAG"  # type: ignore[misc]

    def choose(self, queries: Tensor) -> list[Retrieval]:
        """The k edits of the highest cosine, at a distance of 1 - cosine; see :meth:`TellsEdits.choose`."""
        near = (1 - queries @ self._keys.T).topk(min(self.k, len(self._keys)), largest=False)
        return [
            Retrieval([self.hit(i, d) for i, d in zip(rows, ds, strict=True)], ds[0], torch.inf)
            for rows, ds in zip(near.indices.tolist(), near.values.tolist(), strict=True)
        ]
