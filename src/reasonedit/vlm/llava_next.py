"""LLaVA-NeXT and LLaVA-OneVision: LLaVA on the whole image, scaled down, and on tiles of it."""

from __future__ import annotations

from typing import Any

from PIL import Image
from torch import Tensor

from reasonedit.boxes import WHOLE, Box

from .llava import LlavaVLM, without_cls
from .vision import as_square


class LlavaNextVLM(LlavaVLM):
    """LLaVA-NeXT and LLaVA-OneVision. Layers and overview are those of the whole image, which comes first."""

    model_types = ("llava_next", "llava_onevision")
    pixel_keys = ("pixel_values", "image_sizes")

    def raster(self, name: str, states: Tensor, pixels: Any, count: int) -> list[Tensor]:
        """Of each image the first picture."""
        first, rasters = 0, []
        for size in pixels["image_sizes"]:
            rasters.append(as_square(without_cls(states[first : first + 1])[0]))
            first += self._picture_count(size)
        return rasters

    def overview(self, features: Tensor, pixels: Any, index: int) -> Tensor:
        """The features of the first picture."""
        config = self.model.config.vision_config
        return as_square(features[: (config.image_size // config.patch_size) ** 2])

    def view(self, image: Image.Image) -> Box:
        """All of it: the first picture is squeezed, not cut."""
        return WHOLE

    def _picture_count(self, size: Tensor) -> int:
        from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

        config = self.model.config
        return int(image_size_to_num_patches(size, config.image_grid_pinpoints, config.vision_config.image_size))
