"""InstructBLIP: a vision tower, a Q-Former that reads the question, a language model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from reasonedit.errors import InputError
from reasonedit.safe_text import to_safe_text

from .family import Family
from .generate import run_generate
from .generation import Generation
from .llava import without_cls
from .vision import IMAGE_FEATURES, Vision, as_square

_log = logging.getLogger(__name__)


class InstructBlipVLM(Family):
    """InstructBLIP with a decoder as its language model (Vicuna, OPT).

    The tower runs once per image, the Q-Former once per image and text: the few tokens that the language model reads of
    an image depend on the text. So the image features are what enters the Q-Former.
    """

    model_types = ("instructblip",)
    tower = "vision_model.encoder.layers"
    projector = IMAGE_FEATURES
    shares_prefix = False

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        super().__init__(model, processor, name)
        if not model.config.use_decoder_only_language_model:
            raise InputError(
                f"'{name}' is an InstructBLIP on an encoder-decoder (Flan-T5), which is not served: use one on Vicuna."
            )
        blocks = "model.decoder.layers" if hasattr(self.model.language_model.base_model, "decoder") else "model.layers"
        self.blocks = f"language_model.{blocks}"
        self.queries = int(model.config.num_query_tokens)
        self._warned = False
        # The Q-Former reads the end of a text that is too long: there the question stands.
        processor.qformer_tokenizer.truncation_side = "left"

    @property
    def image_token(self) -> str:
        """The placeholder of a query."""
        token = self.processor.image_token
        return str(getattr(token, "content", token))

    @property
    def vision_layers(self) -> list[str]:
        """The blocks of the tower, and what leaves it."""
        return [*self._block_names(self.tower), IMAGE_FEATURES]

    @property
    def language_layers(self) -> list[str]:
        """The layers of the Q-Former (its queries are read), its projection, the blocks of the language model."""
        return [*self._block_names("qformer.encoder.layer"), "language_projection", *self._block_names(self.blocks)]

    def run_vision(self, pixels: dict[str, Tensor]) -> Any:
        """The tower alone."""
        return self.model.vision_model(**pixels, return_dict=True)

    def features(self, output: Any, pixels: Any) -> list[Tensor]:
        """The tower's tokens with the CLS token, at which the Q-Former looks as well."""
        return list(output.last_hidden_state)

    def raster(self, name: str, states: Tensor, pixels: Any, count: int) -> list[Tensor]:
        """Patches are in raster order; a CLS token comes before them."""
        return [as_square(tokens) for tokens in without_cls(states)]

    def overview(self, features: Tensor, pixels: Any, index: int) -> Tensor:
        """All but the CLS token."""
        return as_square(without_cls(features[None])[0])

    def placeholder(self, features: Tensor, pixels: Any, index: int) -> str:
        """One token per query."""
        return self.image_token * self.queries

    def format_prompt(self, text: str) -> str:
        """A question in the form on which InstructBLIP was tuned, any other text as it is: it has no chat."""
        framed = f"Question: {text} Short answer:" if "?" in text else text
        return f"{self.image_token}{framed}"

    def format_text(self, text: str) -> str:
        """As :meth:`format_prompt`, without the image."""
        return self.format_prompt(text).replace(self.image_token, "")

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The queries come first, before the BOS token, as its processor puts them."""
        rows = self.tokenizer([t.replace(self.image_token, "") for t in texts])["input_ids"]
        counts = [t.count(self.image_token) for t in texts]
        return [[self.image_token_id] * n + list(ids) for n, ids in zip(counts, rows, strict=True)]

    def inputs(self, vision: Vision, prompts: Sequence[str]) -> dict[str, Any]:
        """With the Q-Former run on each image and text."""
        inputs = super().inputs(vision, prompts)
        texts = [p.replace(self.image_token, "") for p in prompts]
        longest = self.model.config.qformer_config.max_position_embeddings
        self._warn_of_long_text(texts, longest)
        # Its tokenizer pads on the right, whatever the language model's does.
        tokens = self.processor.qformer_tokenizer(
            texts,
            padding=True,
            padding_side="right",
            truncation=True,
            max_length=longest,
            return_tensors="pt",
        ).to(self.device)
        images = torch.stack([seen.features for seen in vision.images])
        queries = self.model.query_tokens.expand(len(images), -1, -1)
        query_mask = torch.ones(queries.shape[:2], dtype=torch.long, device=self.device)
        query_states = self.model.qformer(
            input_ids=tokens["input_ids"],
            attention_mask=torch.cat([query_mask, tokens["attention_mask"]], dim=1),
            query_embeds=queries,
            encoder_hidden_states=images,
            encoder_attention_mask=torch.ones(images.shape[:2], dtype=torch.long, device=self.device),
        ).last_hidden_state[:, : self.queries]
        projected = self.model.language_projection(query_states)
        inputs["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=projected)}
        return inputs

    def generate(self, vision: Vision, prompts: Sequence[str], generation: Generation) -> list[Tensor]:
        """The tokens that the language model generates on embeddings; penalties look at the prompt's ids as well."""
        inputs = self.inputs(vision, prompts)
        inputs["inputs_embeds"] = self._embed(inputs["input_ids"], inputs.pop("mm_encoder_outputs"))
        tokens = run_generate(self, self.model.language_model, inputs, generation)
        return list(tokens[:, inputs["input_ids"].shape[1] :])

    @property
    def text_model(self) -> Any:
        """The language model: what is around it reads no text without an image."""
        return self.model.language_model

    def states(self, **inputs: Any) -> Any:
        """The language model without its head."""
        embeddings = self._embed(inputs.pop("input_ids"), inputs.pop("mm_encoder_outputs"))
        return self.model.language_model.base_model(inputs_embeds=embeddings, **inputs)

    def strip_padding(self, states: Tensor, inputs: dict[str, Any]) -> list[Tensor]:
        """The queries of a Q-Former layer, which runs while the inputs are made; else as in all models."""
        return super().strip_padding(states, inputs) if inputs else list(states[:, : self.queries])

    def _warn_of_long_text(self, texts: Sequence[str], longest: int) -> None:
        """Warn once that the Q-Former does not read all of a text."""
        if self._warned or 4 * max(map(len, texts)) < longest:  # no token is shorter than a byte
            return
        for text in texts:
            length = len(self.processor.qformer_tokenizer(text, verbose=False)["input_ids"])
            if length > longest:
                self._warned = True
                _log.warning(
                    "The Q-Former of '%s' reads the last %d tokens of a text, which its language model reads as a "
                    "whole; this one has %d: '%s…'. Fewer facts (k) leave room. This is said once.",
                    self.name, longest, length, to_safe_text(text[:60]),
                )  # fmt: skip
                return

    def _embed(self, ids: Tensor, encoder_outputs: dict[str, Any]) -> Tensor:
        embeddings = self.model.get_input_embeddings()(ids)
        image = encoder_outputs["image"].pooler_output.to(embeddings)
        is_image = (ids == self.image_token_id)[..., None].to(embeddings.device)
        return torch.as_tensor(embeddings.masked_scatter(is_image, image))
