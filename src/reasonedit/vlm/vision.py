"""What one pass of the vision part gives, shared by all who need the images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from reasonedit.boxes import WHOLE, Box

IMAGE_FEATURES = "image_features"
"""The name of the layer that leaves the vision part: the image's tokens as the language model gets them."""


@dataclass
class Seen:
    """One image, as the vision part saw it.

    Attributes:
        features: What the language model reads of it, (tokens, width).
        layers: Activations that enter the recorded layers, without a CLS token: (rows, columns, width) in raster
            order, or (tokens, width) where they are no grid. Of an image that is cut into tiles, those of the picture
            that shows all of it.
        placeholder: What stands for the image in a prompt, one image token per token of it.
        size: Number of tokens it takes in a prompt.
        pixels: Number of values that the vision part read of it.
        view: The part of the image that a grid shows, where the image processor cuts something off; it reaches beyond
            the image where margins are added.
        extras: What else the family needs for its inputs.
        regions: Boxes of the image that passed the vision part by themselves as well, as it saw them.
    """

    features: Tensor
    layers: dict[str, Tensor]
    placeholder: str
    size: int
    pixels: int = 0
    view: Box = WHOLE
    extras: dict[str, Any] = field(default_factory=dict)
    regions: dict[Box, Seen] = field(default_factory=dict)


@dataclass
class Vision:
    """Images, as the vision part saw them.

    Attributes:
        images: The images.
        prefix: The same images as far as the language model read them already, for whoever asks about them next.
    """

    images: list[Seen]
    prefix: ReadImages | None = field(default=None, compare=False, repr=False)

    def take_prefix(self, vlm: object) -> ReadImages | None:
        """What a VLM read of these images already, once: it is not kept any longer."""
        prefix, self.prefix = self.prefix, None
        if prefix is None or prefix.vlm is not vlm or len(prefix) != len(self):
            return None
        same = all(a is b for a, b in zip(prefix.vision.images, self.images, strict=True))
        return prefix if same else None

    def __len__(self) -> int:
        return len(self.images)

    def layer(self, name: str) -> list[Tensor]:
        """What entered a layer, for each image; see :attr:`Seen.layers`."""
        return [seen.layers[name] for seen in self.images]

    def select(self, indices: Sequence[int]) -> Vision:
        """The images at ``indices``, in that order, repeats allowed."""
        return Vision([self.images[i] for i in indices])


class ReadImages:
    """Images for any number of texts that follow them, as far as a VLM has read them by then.

    Args:
        vlm: The VLM.
        vision: The images, as its ``see`` returned them.
    """

    def __init__(self, vlm: object, vision: Vision) -> None:
        self.vlm: Any = vlm
        self.vision = vision

    def __len__(self) -> int:
        return len(self.vision)

    def narrow(self, indices: Sequence[int]) -> None:
        """Keep only the images at ``indices``, in that order."""
        self.vision = self.vision.select(indices)


def as_square(tokens: Tensor) -> Tensor:
    """Tokens (N, D) in raster order as a square (side, side, D); unchanged where N is no square number."""
    side = math.isqrt(len(tokens))
    return tokens.view(side, side, -1) if side * side == len(tokens) else tokens


def flat(tokens: Tensor) -> Tensor:
    """Tokens as (N, D), whether they are a grid or not."""
    return tokens.reshape(-1, tokens.shape[-1])
