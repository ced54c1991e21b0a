"""PaliGemma: image and question see each other, the answer follows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .gemma3 import Gemma3VLM
from .vision import Vision


class PaliGemmaVLM(Gemma3VLM):
    """PaliGemma and PaliGemma 2. The image's states depend on the question: each text runs with its image."""

    model_types = ("paligemma",)
    nested = False
    shares_prefix = False
    fill_values = {"token_type_ids": 1}  # noqa: RUF012 - tokens after the prompt only see back

    def placeholder(self, features: Tensor, pixels: Any, index: int) -> str:
        """One image token per feature."""
        return self.image_token * len(features)

    def extra_inputs(self, ids: Tensor, vision: Vision) -> dict[str, Tensor]:
        """All tokens of a prompt see each other."""
        return {"token_type_ids": torch.zeros_like(ids)}

    def format_prompt(self, text: str) -> str:
        """The image, a BOS token, the text and a line break, as its processor has it: PaliGemma has no chat.

        A question has the form on which the mixed checkpoints were tuned.
        """
        framed = f"answer en {text}" if "?" in text else text
        return f"{self.image_token}{self.tokenizer.bos_token}{framed}\n"

    def format_text(self, text: str) -> str:
        """As :meth:`format_prompt`, without the image."""
        return self.format_prompt(text).replace(self.image_token, "")

    def head(self, states: Tensor) -> Tensor:
        """Logits, capped where the config says so (PaliGemma 2)."""
        logits = super().head(states)
        cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)
