"""Qwen3-VL: images of any size, patches in merge groups, positions in three axes, features for deeper layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .family import Family
from .vision import Vision


class Qwen3VLM(Family):
    """Qwen3-VL."""

    model_types = ("qwen3_vl",)
    tower = "model.visual.blocks"
    projector = "model.visual.merger"
    blocks = "model.language_model.layers"
    pixel_keys = ("pixel_values", "image_grid_thw")

    def features(self, output: Any, pixels: Any) -> list[Tensor]:
        """Merged patches, in raster order."""
        return list(output.pooler_output)

    def raster(self, name: str, states: Tensor, pixels: Any, count: int) -> list[Tensor]:
        """The patches of all images stand in one row; those that are merged stand together."""
        grids = pixels["image_grid_thw"]
        merge = self.processor.image_processor.merge_size
        parts = states.split(grids.prod(1).tolist())  # type: ignore[no-untyped-call]
        return [
            part.view(rows // merge, columns // merge, merge, merge, -1).transpose(1, 2).reshape(rows, columns, -1)
            for part, (_, rows, columns) in zip(parts, grids.tolist(), strict=True)
        ]

    def overview(self, features: Tensor, pixels: Any, index: int) -> Tensor:
        """All features."""
        _, rows, columns = pixels["image_grid_thw"][index].tolist()
        merge = self.processor.image_processor.merge_size
        return features.view(rows // merge, columns // merge, -1)

    def extras(self, output: Any, pixels: Any, index: int) -> dict[str, Any]:
        """The size in patches, and the features that are added to the first layers of the language model."""
        deep = getattr(output, "deepstack_features", None) or ()
        return {"grid": pixels["image_grid_thw"][index], "deepstack": [layer[index] for layer in deep]}

    def encoder_outputs(self, vision: Vision) -> Any:
        """With the features that are added to the first layers of the language model."""
        output = super().encoder_outputs(vision)
        deep = [seen.extras["deepstack"] for seen in vision.images]
        output.deepstack_features = [list(layer) for layer in zip(*deep, strict=True)]
        return output

    def extra_inputs(self, ids: Tensor, vision: Vision) -> dict[str, Tensor]:
        """Which tokens are an image's, and its size in patches."""
        grids = torch.stack([seen.extras["grid"] for seen in vision.images])
        return {"mm_token_type_ids": (ids == self.image_token_id).int(), "image_grid_thw": grids.to(ids.device)}

    def positions(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Positions in three axes: (3, B, L).

        They are given to every pass, as the model remembers those of the image that it saw last.
        """
        names = ("input_ids", "mm_token_type_ids", "image_grid_thw", "attention_mask")
        positions, moved = self.model.model.get_rope_index(**{name: inputs[name] for name in names})
        return positions, inputs["attention_mask"].sum(1) + moved[:, 0]
