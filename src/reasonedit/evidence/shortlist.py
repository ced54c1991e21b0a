"""A shortlist of windows by an open_clip model: fewer of them need the VLM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from reasonedit.errors import InputError, UnavailableError


class Shortlist(Protocol):
    """Ranks windows for sentences, cheaply."""

    def rank(self, crops: Sequence[Image.Image], sentences: Sequence[str]) -> list[list[int]]:
        """For each sentence the indices of the windows, the most promising first."""
        ...


class ClipShortlist:
    """Ranks windows by the similarity of a CLIP model's embeddings.

    Args:
        model: The open_clip model.
        transform: What turns a PIL image into its input.
        tokenizer: What turns texts into its input.
    """

    def __init__(self, model: Any, transform: Any, tokenizer: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.transform = transform
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, name: str, device: torch.device | str = "cpu") -> ClipShortlist:
        """Load a model.

        Args:
            name: An architecture of open_clip, a colon, and the name or the file of its weights.
            device: Where it runs.

        Raises:
            InputError: The name has no weights.
            UnavailableError: The model cannot be loaded.
        """
        import open_clip

        architecture, _, weights = name.partition(":")
        if not weights:
            raise InputError(f"The open_clip model '{name}' names no weights: write ARCHITECTURE:WEIGHTS.")
        try:
            source = weights if not Path(weights).suffix else str(Path(weights).expanduser())
            model, _, transform = open_clip.create_model_and_transforms(architecture, pretrained=source, device=device)
            return cls(model, transform, open_clip.get_tokenizer(architecture))
        except (RuntimeError, OSError, ValueError) as error:
            raise UnavailableError(
                f"The open_clip model '{name}' is not available ({error}): name architecture and weights that "
                "open_clip lists, or a file of weights."
            ) from error

    @torch.inference_mode()
    def rank(self, crops: Sequence[Image.Image], sentences: Sequence[str]) -> list[list[int]]:
        """For each sentence the indices of the windows, the most similar first.

        A sentence that is longer than the model reads counts as the mean of its parts.
        """
        device = next(self.model.parameters()).device
        images = self.model.encode_image(torch.stack([self.transform(c) for c in crops]).to(device), normalize=True)
        parts = [self._split(sentence) for sentence in sentences]
        ids = self.tokenizer([part for of_sentence in parts for part in of_sentence]).to(device)
        encoded = self.model.encode_text(ids, normalize=True).split([len(of_sentence) for of_sentence in parts])
        texts = torch.stack([rows.mean(0) for rows in encoded])
        order = (texts @ images.T).argsort(dim=1, descending=True, stable=True)
        return [[int(i) for i in row] for row in order]

    def _split(self, sentence: str) -> list[str]:
        """Split a sentence into parts that the tokenizer does not cut off."""
        # Of what is cut off, words at the end change nothing. (The last id does not tell: some pad with the end token.)
        if len(sentence) < 2 or not torch.equal(*self.tokenizer([sentence, f"{sentence} {sentence}"])):
            return [sentence]
        words, separator = sentence.split(), " "
        if len(words) < 2:  # some languages put no spaces between their words
            words, separator = list(sentence), ""
        half = len(words) // 2
        return self._split(separator.join(words[:half])) + self._split(separator.join(words[half:]))
