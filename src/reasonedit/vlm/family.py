"""What a family of VLMs says, and what all families share: the vision part runs once per image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from reasonedit.boxes import WHOLE, Box
from reasonedit.errors import InputError
from reasonedit.util.finite import check_finite

from .base import LocalVLM
from .vision import IMAGE_FEATURES, Seen, Vision


class Family(LocalVLM):
    """A family of models whose vision part runs once per image, however many texts are about it.

    A family is one file with one subclass. It names the ``model_type`` values that it serves and the lists of blocks,
    and says how images become tokens.

    Attributes:
        model_types: The values of ``model_type`` in the configs that it serves.
        tower: Name of the list of the vision part's blocks.
        projector: Name of the last module of the vision part, whose input is read unless another layer is named.
        blocks: Name of the list of the language model's blocks.
        nested: Whether the image processor takes a list of images per prompt.
        pixel_keys: Which parts of the image processor's output the vision part takes.
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
        """What the language model reads of each image: (tokens, width).

        Args:
            output: What :meth:`run_vision` returned.
            pixels: What the image processor returned.
        """

    @abstractmethod
    def raster(self, name: str, states: Tensor, pixels: Any, count: int) -> list[Tensor]:
        """What entered a vision-side layer, for each image; see :attr:`Seen.layers`.

        Args:
            name: The layer.
            states: Its input, for all images.
            pixels: What the image processor returned.
            count: Number of images.
        """

    @abstractmethod
    def overview(self, features: Tensor, pixels: Any, index: int) -> Tensor:
        """The features that show a whole image, as a layer: (rows, columns, width) or (tokens, width).

        Args:
            features: The image's features.
            pixels: What the image processor returned.
            index: The image's index.
        """

    def placeholder(self, features: Tensor, pixels: Any, index: int) -> str:
        """What stands for an image in a prompt; arguments as for :meth:`overview`."""
        return self.image_token * len(features)

    def view(self, image: Image.Image) -> Box:
        """The part of an image that its layers show: the image processor may cut something off."""
        return WHOLE

    def extras(self, output: Any, pixels: Any, index: int) -> dict[str, Any]:
        """What else the inputs are made from, for one image: kept as :attr:`Seen.extras`."""
        return {}

    def encoder_outputs(self, vision: Vision) -> Any:
        """Images in the form that the model takes once the vision part has run."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        return BaseModelOutputWithPooling(pooler_output=[s.features for s in vision.images])  # type: ignore[arg-type]

    def extra_inputs(self, ids: Tensor, vision: Vision) -> dict[str, Tensor]:
        """Further inputs of the model, such as token types.

        Args:
            ids: Token ids (B, L).
            vision: One image per row.
        """
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

    @property
    def can_share_prefix(self) -> bool:
        """As in all models, and only if the chat template puts the image before the text."""
        if not super().can_share_prefix:
            return False
        before_image = {self.format_prompt(text).partition(self.image_token)[0] for text in ("a", "b")}
        return len(before_image) == 1

    @torch.inference_mode()
    def see(self, images: Sequence[Image.Image], layers: Sequence[str] = ()) -> Vision:
        """Run the vision part once; see :meth:`LocalVLM.see`."""
        for name in layers:
            self.check_layer(name)
        pixels = self.pixels(images)
        vision_inputs = {k: self._to_device(pixels[k]) for k in self.pixel_keys if k in pixels}
        with self.record_inputs([name for name in layers if name != IMAGE_FEATURES]) as recorded:
            output = self.run_vision(vision_inputs)
        features = self.features(output, pixels)
        rasters = {name: self.raster(name, states, pixels, len(images)) for name, states in recorded.items()}
        size_in_pixels = vision_inputs["pixel_values"].numel() // max(1, len(images))
        seen = []
        for i, tokens in enumerate(features):
            check_finite(tokens, f"What the vision part makes of image {i + 1} of {len(images)}: its features")
            # A copy: a view would hold the layer of the whole batch, all its tiles included.
            layers_of_image = {name: raster[i].clone() for name, raster in rasters.items()}
            if IMAGE_FEATURES in layers:
                layers_of_image[IMAGE_FEATURES] = self.overview(tokens, pixels, i)
            placeholder = self.placeholder(tokens, pixels, i)
            extras = self.extras(output, pixels, i)
            size = self.count_image_tokens(placeholder)
            view = self.view(images[i])
            seen.append(Seen(tokens, layers_of_image, placeholder, size, size_in_pixels, view, extras))
        return Vision(seen)

    def pixels(self, images: Sequence[Image.Image]) -> Any:
        """What the image processor makes of images.

        Raises:
            InputError: It takes no image of such a shape.
        """
        batch = [[image] for image in images] if self.nested else list(images)
        options = getattr(self.processor, "images_kwargs", None) or {}  # which the whole processor would add
        try:
            return self.processor.image_processor(images=batch, **{**options, "return_tensors": "pt"})
        except ValueError as error:
            sizes = ", ".join(sorted({f"{i.width} x {i.height}" for i in images}))
            reason = str(error).strip().rstrip(".")
            raise InputError(f"The model '{self.name}' takes no image of {sizes} pixels: {reason}.") from error

    def _format(self, messages: list[dict[str, Any]]) -> str:
        """The prompt of messages; one for texts alone, as the tokenizer of a language model may bring it, is refused.

        Raises:
            InputError: As in all models, or the template writes no image token.
        """
        prompt = super()._format(messages)
        shows = any(part["type"] == "image" for message in messages for part in message["content"])
        if shows and self.image_token not in prompt:
            raise InputError(
                f"The chat template of '{self.name}' has no place for an image: put a chat_template.jinja into its "
                f"folder that writes {self.image_token}."
            )
        return prompt

    def run_vision(self, pixels: dict[str, Tensor]) -> Any:
        """Run the vision part on parts of what the image processor returned: ``pixel_keys``."""
        return self.model.get_image_features(**pixels, return_dict=True)

    def inputs(self, vision: Vision, prompts: Sequence[str]) -> dict[str, Any]:
        """Left-padded inputs of the model; see :meth:`LocalVLM.inputs`."""
        texts = [p.replace(self.image_token, s.placeholder, 1) for p, s in zip(prompts, vision.images, strict=True)]
        rows = self.token_ids(texts)
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
