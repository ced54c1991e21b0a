"""Qwen2.5-VL: as Qwen3-VL, with windowed attention in the vision part."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .qwen3_vl import Qwen3VLM


class Qwen25VLM(Qwen3VLM):
    """Qwen2.5-VL. Before the first block the merge groups are sorted by its windows."""

    model_types = ("qwen2_5_vl",)

    def raster(self, name: str, states: Tensor, pixels: Any, count: int) -> list[Tensor]:
        """Merge groups in their own order again, then as in Qwen3-VL."""
        from transformers.vision_utils import get_vision_window_index

        visual = self.model.model.visual
        order, _ = get_vision_window_index(
            pixels["image_grid_thw"], visual.spatial_merge_size, visual.window_size, visual.patch_size
        )
        groups = states.view(-1, visual.spatial_merge_unit, states.shape[-1])
        restored = groups[order.to(states.device).argsort()].reshape(states.shape)
        return super().raster(name, restored, pixels, count)

    def encoder_outputs(self, vision: Any) -> Any:
        """The features alone: nothing is added to deeper layers."""
        return super(Qwen3VLM, self).encoder_outputs(vision)
