"""Gemma 3: a fixed number of tokens per image, which see each other; most layers see only a window."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .family import Family
from .vision import Vision, as_square


class Gemma3VLM(Family):
    """Gemma 3."""

    model_types = ("gemma3",)
    tower = "model.vision_tower.encoder.layers"
    projector = "model.multi_modal_projector"
    blocks = "model.language_model.layers"
    nested = True
    images_see_ahead = True

    def features(self, output: Any, pixels: Any) -> list[Tensor]:
        """One row of tokens per image."""
        return list(output.pooler_output)

    def raster(self, name: str, states: Tensor, pixels: Any, count: int) -> list[Tensor]:
        """Patches are in raster order."""
        return [as_square(tokens) for tokens in states]

    def overview(self, features: Tensor, pixels: Any, index: int) -> Tensor:
        """All features."""
        return as_square(features)

    def placeholder(self, features: Tensor, pixels: Any, index: int) -> str:
        """Line breaks and tokens around the image."""
        return str(self.processor.replace_image_token(pixels, index))

    def encoder_outputs(self, vision: Vision) -> Any:
        """Images of one size make one tensor."""
        output = super().encoder_outputs(vision)
        output.pooler_output = torch.stack(list(output.pooler_output))
        return output

    def extra_inputs(self, ids: Tensor, vision: Vision) -> dict[str, Tensor]:
        """Which tokens are an image's: they see each other."""
        return {"token_type_ids": (ids == self.image_token_id).int()}
