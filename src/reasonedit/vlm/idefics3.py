"""Idefics3 and SmolVLM: tiles of an image, then the whole image, scaled down."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .family import Family
from .vision import as_square


class Idefics3VLM(Family):
    """Idefics3 and SmolVLM. Layers and overview are those of the whole image, which comes last."""

    model_types = ("idefics3", "smolvlm")
    tower = "model.vision_model.encoder.layers"
    projector = "model.connector"
    blocks = "model.text_model.layers"
    nested = True
    pixel_keys = ("pixel_values", "pixel_attention_mask")

    def features(self, output: Any, pixels: Any) -> list[Tensor]:
        """The tiles' tokens one after the other."""
        return list(output.pooler_output)

    def raster(self, name: str, states: Tensor, pixels: Any, count: int) -> list[Tensor]:
        """Of each image the last picture."""
        last, rasters = -1, []
        for rows, columns in zip(_flatten(pixels["rows"]), _flatten(pixels["cols"]), strict=True):
            last += rows * columns + 1
            rasters.append(as_square(states[last]))
        return rasters

    def overview(self, features: Tensor, pixels: Any, index: int) -> Tensor:
        """The features of the last picture."""
        return as_square(features[-self.processor.image_seq_len :])

    def placeholder(self, features: Tensor, pixels: Any, index: int) -> str:
        """Each tile has a token of its own before it."""
        return str(self.processor.replace_image_token(pixels, index))


def _flatten(nested: Any) -> list[int]:
    return [int(value) for row in nested for value in row]
