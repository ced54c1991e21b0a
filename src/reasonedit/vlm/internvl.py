"""InternVL: tiles of an image, then the whole image, scaled down."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .family import Family
from .llava import without_cls
from .vision import Vision, as_square, flat


class InternVLVLM(Family):
    """InternVL. Layers and overview are those of the whole image, which comes last."""

    model_types = ("internvl",)
    tower = "model.vision_tower.encoder.layer"
    projector = "model.multi_modal_projector"
    blocks = "model.language_model.layers"

    def features(self, output: Any, pixels: Any) -> list[Tensor]:
        """The tiles' tokens one after the other."""
        parts = output.pooler_output.split(_picture_counts(pixels))
        return [flat(part) for part in parts]

    def raster(self, name: str, states: Tensor, pixels: Any, count: int) -> list[Tensor]:
        """Of each image the last picture."""
        parts = states.split(_picture_counts(pixels))  # type: ignore[no-untyped-call]
        return [as_square(without_cls(part[-1:])[0]) for part in parts]

    def overview(self, features: Tensor, pixels: Any, index: int) -> Tensor:
        """The features of the last picture."""
        return as_square(features[-self.processor.image_seq_length :])

    def placeholder(self, features: Tensor, pixels: Any, index: int) -> str:
        """A token before the image and one after it."""
        return str(self.processor.replace_image_token(pixels, index))

    def encoder_outputs(self, vision: Vision) -> Any:
        """The tiles of all images make one tensor."""
        output = super().encoder_outputs(vision)
        size = self.processor.image_seq_length
        tiles = [tokens.view(-1, size, tokens.shape[-1]) for tokens in output.pooler_output]
        output.pooler_output = torch.cat(tiles)
        return output


def _picture_counts(pixels: Any) -> list[int]:
    return [int(n) for n in pixels["num_patches"]]
