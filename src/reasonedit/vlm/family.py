"""Families whose vision part runs once, apart from the texts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from reasonedit.boxes import WHOLE, Box
from reasonedit.errors import ReasonEditError
from reasonedit.finite import finite

from .base import VLM
from .vision import IMAGE_FEATURES, Seen, Vision


class Family(VLM):
    """A family of models: the vision part runs once, whatever is asked of the image then.

    A family is one file with one subclass. It names the ``model_type`` values it serves and where the blocks are, and
    says how images become tokens.

    Attributes:
        model_types: The ``model_type`` values of the configs that are served.
        tower: Name of the list of the vision part's blocks.
        projector: Name of the last module of the vision part, whose input is read unless another layer is named.
        blocks: Name of the list of the language model's blocks.
        nested: Whether the image processor takes a list of images per prompt.
        pixel_keys: What of the image processor's output the vision part takes.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    tower: str
    projector: str
    blocks: str
    nested: ClassVar[bool] = False
    pixel_keys: ClassVar[tuple[str, ...]] = ("pixel_values",)

    @classmethod
    def serves(cls, config: Any) -> bool:
        """Whether the family serves the model of a config."""
        return config.model_type in cls.model_types

    # ---- what a family says

    @abstractmethod
    def features(self, output: Any, pixels: Any) -> list[Tensor]:
        """What the language model reads of each image, (tokens, width), from what the vision part returned.

        Args:
            output: What ``get_image_features`` of the model returned.
            pixels: What the image processor returned.
        """

    @abstractmethod
    def raster(self, name: str, states: Tensor, pixels: Any, count: int) -> list[Tensor]:
        """What entered a layer, for each image; see :attr:`Seen.layers`.

        Args:
            name: The layer.
            states: Its input, for the whole batch.
            pixels: What the image processor returned.
            count: Number of images.
        """

    @abstractmethod
    def overview(self, features: Tensor, pixels: Any, index: int) -> Tensor:
        """Those of an image's features that show all of it, as a layer: (rows, columns, width) or (tokens, width)."""

    def placeholder(self, features: Tensor, pixels: Any, index: int) -> str:
        """What stands in a prompt for the image of an index."""
        return self.image_token * len(features)

    def view(self, image: Image.Image) -> Box:
        """The part of an image that its layers show."""
        return WHOLE

    def extras(self, output: Any, pixels: Any, index: int) -> dict[str, Any]:
        """What else of the image of an index the inputs are made from."""
        return {}

    def encoder_outputs(self, vision: Vision) -> Any:
        """Images as the model takes them when the vision part has run already."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        return BaseModelOutputWithPooling(pooler_output=[s.features for s in vision.images])  # type: ignore[arg-type]

    def extra_inputs(self, ids: Tensor, vision: Vision) -> dict[str, Tensor]:
        """What else the model is given, beside the token ids (B, L)."""
        return {}

    # ---- what all families share

    @property
    def vision_layers(self) -> list[str]:
        """Names of the vision-side layers whose input can be read: blocks, projector, :data:`IMAGE_FEATURES`."""
        return [*self._block_names(self.tower), self.projector, IMAGE_FEATURES]

    @property
    def language_layers(self) -> list[str]:
        """Names of the layers that read image and text: the blocks of the language model."""
        return self._block_names(self.blocks)

    @torch.inference_mode()
    def see(self, images: Sequence[Image.Image], layers: Sequence[str] = ()) -> Vision:
        """Run the vision part once.

        Args:
            images: RGB images.
            layers: Names of layers whose input is kept.

        Raises:
            ReasonEditError: The model has no such layer, or cannot take an image of such a shape.
        """
        for name in layers:
            self.check_layer(name)
        pixels = self.pixels(images)
        given = {k: self._to_device(pixels[k]) for k in self.pixel_keys if k in pixels}
        with self.record_inputs([name for name in layers if name != IMAGE_FEATURES]) as kept:
            output = self.run_vision(given)
        features = self.features(output, pixels)
        read = {name: self.raster(name, states, pixels, len(images)) for name, states in kept.items()}
        numbers = given["pixel_values"].numel() // max(1, len(images))
        seen = []
        for i, tokens in enumerate(features):
            finite(tokens, f"What the vision part makes of image {i + 1} of {len(images)}: its features")
            # A copy: a view would hold the layer of the whole batch, all its tiles included.
            mine = {name: states[i].clone() for name, states in read.items()}
            if IMAGE_FEATURES in layers:
                mine[IMAGE_FEATURES] = self.overview(tokens, pixels, i)
            place = self.placeholder(tokens, pixels, i)
            extras = self.extras(output, pixels, i)
            size = place.count(self._image_word)
            seen.append(Seen(tokens, mine, place, size, numbers, self.view(images[i]), extras))
        return Vision(seen)

    def pixels(self, images: Sequence[Image.Image]) -> Any:
        """What the image processor makes of images.

        Raises:
            ReasonEditError: It takes no image of such a shape.
        """
        given = [[image] for image in images] if self.nested else list(images)
        options = getattr(self.processor, "images_kwargs", None) or {}  # those that the whole processor would add
        try:
            return self.processor.image_processor(images=given, return_tensors="pt", **options)
        except ValueError as error:
            sizes = ", ".join(sorted({f"{i.width} x {i.height}" for i in images}))
            reason = str(error).strip().rstrip(".")
            raise ReasonEditError(f"The model '{self.name}' takes no image of {sizes} pixels: {reason}.") from error

    def run_vision(self, pixels: dict[str, Tensor]) -> Any:
        """Run the vision part on what the image processor returned."""
        return self.model.get_image_features(**pixels, return_dict=True)

    def inputs(self, vision: Vision, prompts: Sequence[str]) -> dict[str, Any]:
        """Left-padded inputs of the model for one image and one prompt each, with the vision part already run."""
        seen = vision.images
        rows = self.token_ids(
            [p.replace(self.image_token, s.placeholder, 1) for p, s in zip(prompts, seen, strict=True)]
        )
        width = max(len(row) for row in rows)
        ids = torch.full((len(rows), width), self.pad_token_id)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, width - len(row) :] = torch.tensor(row)
            mask[i, width - len(row) :] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        self.prompt_mask = mask.bool()
        return {
            "input_ids": ids,
            "attention_mask": mask,
            **self.extra_inputs(ids, vision),
            "mm_encoder_outputs": {"image": self.encoder_outputs(vision)},
        }
