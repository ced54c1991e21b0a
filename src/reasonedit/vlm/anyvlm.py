"""Any model of images and text to text, by its processor and full forward passes alone."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from reasonedit.errors import InputError

from .base import LocalVLM
from .generate import run_generate
from .generation import Generation
from .vision import Seen, Vision, flat


class AnyVLM(LocalVLM):
    """A model that no family serves. Nothing is shared: each text runs alone, its image from the pixels each time.

    Vision-side layers are the blocks of the longest list of modules that is named after vision. Their tokens are taken
    as they come, with a CLS token, so that images have no regions.
    """

    shares_prefix = False
    texts_at_once = 1

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        super().__init__(model, processor, name)
        if model.config.is_encoder_decoder:
            raise InputError(
                f"'{name}' answers by an encoder and a decoder; only models whose language model is a decoder are "
                "served."
            )
        lists = {n: len(m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList)}
        vision = {n: size for n, size in lists.items() if any(w in n for w in ("visi", "visual", "image"))}
        language = {n: size for n, size in lists.items() if n not in vision and "former" not in n}
        self.tower = max(vision, key=lambda n: vision[n], default="")
        self.blocks = max(language, key=lambda n: language[n], default="")
        self.projector = self.vision_layers[-1] if self.tower else "none"

    @property
    def vision_layers(self) -> list[str]:
        """The blocks of the vision part."""
        return self._block_names(self.tower) if self.tower else []

    @property
    def language_layers(self) -> list[str]:
        """The blocks of the language model."""
        return self._block_names(self.blocks) if self.blocks else []

    @property
    def image_token(self) -> str:
        """The processor's placeholder, where it has one."""
        token = getattr(self.processor, "image_token", None) or getattr(self.tokenizer, "image_token", None)
        return str(getattr(token, "content", token) if token is not None else "<image>")

    def format_prompt(self, text: str) -> str:
        """The prompt by the chat template, or the placeholder and the text where there is none."""
        if self.processor.chat_template is None:
            return f"{self.image_token}\n{text}"
        return super().format_prompt(text)

    def format_text(self, text: str) -> str:
        """The prompt by the chat template, or the text alone where there is none."""
        return text if self.processor.chat_template is None else super().format_text(text)

    @property
    def text_model(self) -> Any:
        """The model; of one that reads an image by queries (BLIP-2) its language model, which has a head of its own."""
        return self.model.language_model if getattr(self.processor, "num_query_tokens", None) else self.model

    @torch.inference_mode()
    def see(self, images: Sequence[Image.Image], layers: Sequence[str] = ()) -> Vision:
        """Keep the images. For layers, run the whole model once on each; see :meth:`LocalVLM.see`."""
        for name in layers:
            self.check_layer(name)
        seen = []
        for image in images:
            inputs = self._process(image, self.prompt(""))
            with self.record_inputs(layers) as recorded:
                if layers:
                    self.run(inputs)
            layers_of_image = {name: flat(states) for name, states in recorded.items()}
            seen.append(
                Seen(
                    torch.empty(0, 0),
                    layers_of_image,
                    self.image_token,
                    inputs["input_ids"].shape[1],
                    _size_in_pixels(inputs),
                    extras={"image": image},
                )
            )
        return Vision(seen)

    def inputs(self, vision: Vision, prompts: Sequence[str]) -> dict[str, Any]:
        """What the processor makes of one image and one prompt.

        Raises:
            ValueError: There are more.
        """
        (seen,), (prompt,) = vision.images, prompts
        inputs = self._process(seen.extras["image"], prompt)
        self.prompt_mask = torch.ones_like(inputs["input_ids"], dtype=torch.bool)
        return inputs

    def generate(self, vision: Vision, prompts: Sequence[str], generation: Generation) -> list[Tensor]:
        """The tokens that the model generates after each prompt, one prompt after the other."""
        answers = []
        for i, prompt in enumerate(prompts):
            inputs = self.inputs(vision.select([i]), [prompt])
            tokens = run_generate(self, self.model, inputs, generation)[0]
            length = inputs["input_ids"].shape[1]
            # Some models return the prompt before the new tokens, some do not.
            repeated = tokens[:length].equal(inputs["input_ids"][0])
            answers.append(tokens[length:] if repeated else tokens)
        return answers

    def next_token_probabilities(self, vision: Vision, prompts: Sequence[str]) -> Tensor:
        """One prompt after the other; see :meth:`LocalVLM.next_token_probabilities`."""
        each = [super(AnyVLM, self).next_token_probabilities(vision.select([i]), [p]) for i, p in enumerate(prompts)]
        return torch.cat(each)

    def language_states(self, vision: Vision, texts: Sequence[str], layer: str) -> list[Tensor]:
        """One text after the other; see :meth:`LocalVLM.language_states`."""
        states_of = super().language_states
        return [state for i, text in enumerate(texts) for state in states_of(vision.select([i]), [text], layer)]

    def run(self, inputs: dict[str, Any]) -> Any:
        """The whole model: its logits stand for its states."""
        return BaseModelOutput(last_hidden_state=self.model(**inputs).logits)

    def head(self, states: Tensor) -> Tensor:
        """The states themselves, which are logits already."""
        return states

    def _process(self, image: Image.Image, prompt: str) -> dict[str, Any]:
        """What the processor makes of an image and a prompt.

        Raises:
            InputError: It cannot take them.
        """
        has_bos = bool(self.tokenizer.bos_token) and self.tokenizer.bos_token in prompt
        options = {"add_special_tokens": False} if has_bos else {}
        if getattr(self.processor, "num_query_tokens", None):  # BLIP-2's processor adds its placeholders itself
            prompt = prompt.replace(self.image_token, "").lstrip()
        try:
            inputs = self.processor(images=[image], text=[prompt], return_tensors="pt", **options)
        except (ValueError, TypeError, IndexError) as error:
            raise InputError(
                f"The processor of '{self.name}' takes no image of {image.width} x {image.height} pixels with one "
                f"prompt: {error}"
            ) from error
        inputs.pop("labels", None)
        return {name: moved for name, value in inputs.items() if (moved := self._move(name, value)) is not None}

    def _move(self, name: str, value: Any) -> Any:
        """A tensor of a processor, or lists of them, on the model's device; ``None`` for what the model does not take.

        Raises:
            InputError: The model takes it, and it is neither: without it the model would answer something else.
        """
        if isinstance(value, Tensor):
            return self._to_device(value)
        if isinstance(value, (list, tuple)) and value and all(isinstance(one, (Tensor, list, tuple)) for one in value):
            return [self._move(name, one) for one in value]
        model = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model  # PEFT's takes all
        if value is not None and name in inspect.signature(model.forward).parameters:
            raise InputError(
                f"The processor of '{self.name}' gives '{name}' as {type(value).__name__}, not as tensors: a processor "
                "that does not heed return_tensors='pt' is not served."
            )
        return None


def _size_in_pixels(inputs: dict[str, Any]) -> int:
    return max((_numel(v) for k, v in inputs.items() if k.startswith("pixel_values")), default=0)


def _numel(value: Any) -> int:
    return value.numel() if isinstance(value, Tensor) else sum(map(_numel, value))
