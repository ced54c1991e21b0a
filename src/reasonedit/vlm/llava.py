"""The LLaVA family: a vision tower, a projector, a language model."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor, nn

from reasonedit.boxes import Box

from .family import Family
from .vision import as_square

_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""The published prompt of LLaVA-1.5, for checkpoints saved without a chat template."""


class LlavaVLM(Family):
    """LLaVA-1.5 and whatever is saved as ``LlavaForConditionalGeneration``, except with Pixtral's tower."""

    model_types: ClassVar[tuple[str, ...]] = ("llava",)
    projector = "model.multi_modal_projector"
    blocks = "model.language_model.layers"

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        super().__init__(model, processor, name)
        tower = self.model.get_submodule("model.vision_tower")
        blocks = next(n for n, m in tower.named_modules() if isinstance(m, nn.ModuleList))
        self.tower = f"model.vision_tower.{blocks}"
        if processor.chat_template is None and model.config.model_type == "llava":
            processor.chat_template = _TEMPLATE

    @classmethod
    def serves(cls, config: Any) -> bool:
        """All but Pixtral, which puts the patches of all images into one row: :class:`.anyvlm.AnyVLM` serves it."""
        return super().serves(config) and config.vision_config.model_type != "pixtral"

    def features(self, output: Any, pixels: Any) -> list[Tensor]:
        """One row of tokens per image."""
        return list(output.pooler_output)

    def raster(self, name: str, states: Tensor, pixels: Any, count: int) -> list[Tensor]:
        """Patches are in raster order, after a CLS token if there is one."""
        return [as_square(tokens) for tokens in without_cls(states)]

    def overview(self, features: Tensor, pixels: Any, index: int) -> Tensor:
        """All features."""
        return as_square(features)

    def view(self, image: Image.Image) -> Box:
        """The middle: CLIP's processor scales the shorter side to size and cuts the longer one at both ends.

        LLaVA's own may first add margins that make the image a square: then the grid shows more than the image.
        """
        processor = self.processor.image_processor
        adds_margins = hasattr(processor, "pad_to_square") and bool(processor.do_pad)
        sides = (max(image.size),) * 2 if adds_margins else image.size
        width, height = (side / of_image for side, of_image in zip(sides, image.size, strict=True))
        size = getattr(processor, "size", None) or {}
        if getattr(processor, "do_center_crop", False) and "shortest_edge" in size:
            scale = size["shortest_edge"] / min(sides)
            crop = processor.crop_size
            width = min(crop["width"] / (image.width * scale), width)
            height = min(crop["height"] / (image.height * scale), height)
        return (1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2


def without_cls(states: Tensor) -> Tensor:
    """Tokens (B, P, D) of square images without the CLS token that may come before them."""
    patches = states.shape[1] - 1
    return states[:, 1:] if patches and math.isqrt(patches) ** 2 == patches else states
