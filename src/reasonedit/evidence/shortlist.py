"""A shortlist of windows by an open_clip model: fewer of them need the VLM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from reasonedit.errors import ReasonEditError


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
            ReasonEditError: It cannot be had.
        """
        import open_clip

        architecture, _, weights = name.partition(":")
        if not weights:
            raise ReasonEditError(f"The open_clip model '{name}' names no weights: write ARCHITECTURE:WEIGHTS.")
        try:
            known = weights if not Path(weights).suffix else str(Path(weights).expanduser())
            model, _, transform = open_clip.create_model_and_transforms(architecture, pretrained=known, device=device)
            return cls(model, transform, open_clip.get_tokenizer(architecture))
        except (RuntimeError, OSError, ValueError) as error:
            raise ReasonEditError(
                f"The open_clip model '{name}' cannot be had ({error}): name an architecture and weights that "
                "open_clip lists, or a file of weights."
            ) from error

    @torch.inference_mode()
    def rank(self, crops: Sequence[Image.Image], sentences: Sequence[str]) -> list[list[int]]:
        """For each sentence the indices of the windows, the most similar first.

        A sentence that is longer than the model reads counts as the mean of its parts.
        """
        device = next(self.model.parameters()).device
        images = self.model.encode_image(torch.stack([self.transform(c) for c in crops]).to(device), normalize=True)
        parts = [self._parts(sentence) for sentence in sentences]
        read = self.tokenizer([part for mine in parts for part in mine]).to(device)
        encoded = self.model.encode_text(read, normalize=True).split([len(mine) for mine in parts])
        texts = torch.stack([mine.mean(0) for mine in encoded])
        order = (texts @ images.T).argsort(dim=1, descending=True, stable=True)
        return [[int(i) for i in row] for row in order]

    def _parts(self, sentence: str) -> list[str]:
        """A sentence in parts that the tokenizer does not cut off: where it is filled to its end, it may have been."""
        filled = int(self.tokenizer([sentence])[0, -1]) != int(self.tokenizer([""])[0, -1])
        if not filled or len(sentence) < 2:
            return [sentence]
        words, between = sentence.split(), " "
        if len(words) < 2:  # some languages put no spaces between their words
            words, between = list(sentence), ""
        half = len(words) // 2
        return self._parts(between.join(words[:half])) + self._parts(between.join(words[half:]))
