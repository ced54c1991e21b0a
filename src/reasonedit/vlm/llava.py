"""The LLaVA family: a vision tower, a projector, a language model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .base import IMAGE_FEATURES, VLM, Vision

_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
"""The published prompt of LLaVA-1.5, for checkpoints saved without a chat template."""


class LlavaVLM(VLM):
    """LLaVA-1.5 and all that is saved as ``LlavaForConditionalGeneration``."""

    model_types = ("llava",)

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        super().__init__(model, processor, name)
        self.tokenizer.padding_side = "left"
        if processor.chat_template is None:
            processor.chat_template = _TEMPLATE

    @property
    def image_token(self) -> str:
        """The placeholder of an image in a prompt."""
        return str(self.processor.image_token)

    @property
    def vision_layers(self) -> list[str]:
        """The blocks of the vision tower, the projector, and what leaves it."""
        tower = "model.vision_tower"
        blocks = next(n for n, m in self.model.get_submodule(tower).named_modules() if isinstance(m, nn.ModuleList))
        depth = len(self.model.get_submodule(f"{tower}.{blocks}"))
        return [*(f"{tower}.{blocks}.{i}" for i in range(depth)), "model.multi_modal_projector", IMAGE_FEATURES]

    @property
    def language_layers(self) -> list[str]:
        """The blocks of the language model."""
        return [f"model.language_model.layers.{i}" for i in range(len(self.model.model.language_model.layers))]

    @torch.inference_mode()
    def see(self, images: Sequence[Image.Image], layers: Sequence[str] = ()) -> Vision:
        """Run the tower and the projector once; see :meth:`VLM.see`."""
        pixels = self.processor.image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        kept: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                kept[name] = args[0] if args else kwargs["hidden_states"]

            return hook

        with ExitStack() as hooks:
            for name in layers:
                if name == IMAGE_FEATURES:
                    continue
                self.check_layer(name)
                module = self.model.get_submodule(name)
                hooks.callback(module.register_forward_pre_hook(keep(name), with_kwargs=True).remove)
            output = self.model.get_image_features(
                pixel_values=pixels.to(self.device, self.model.dtype), return_dict=True
            )
        features = list(output.pooler_output)
        patches = features[0].shape[0]
        # A tower with a CLS token has one token more than the projector lets through; it comes first.
        read = {name: tokens[:, tokens.shape[1] - patches :] for name, tokens in kept.items()}
        if IMAGE_FEATURES in layers:
            read[IMAGE_FEATURES] = torch.stack(features)
        side = math.isqrt(patches)
        return Vision(features, read, (side, side) if side * side == patches else None)

    def inputs(self, vision: Vision, prompts: Sequence[str]) -> dict[str, Any]:
        """Inputs for one image and one prompt each; see :meth:`VLM.inputs`."""
        expanded = [
            prompt.replace(self.image_token, self.image_token * len(tokens), 1)
            for prompt, tokens in zip(prompts, vision.features, strict=True)
        ]
        # A tokenizer that begins with a BOS token gets it, unless the template wrote it already.
        begun = self.tokenizer.bos_token is not None and expanded[0].startswith(self.tokenizer.bos_token)
        encoded = self.tokenizer(expanded, padding=True, return_tensors="pt", add_special_tokens=not begun)
        seen = BaseModelOutputWithPooling(pooler_output=vision.features)  # type: ignore[arg-type]
        return {
            "input_ids": encoded["input_ids"].to(self.device),
            "attention_mask": encoded["attention_mask"].to(self.device),
            "mm_encoder_outputs": {"image": seen},
        }
