"""The frozen VLM behind one small interface."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from reasonedit.errors import ReasonEditError

from .prefix import ImagePrefix, positions_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

_IMAGE_TOKENS = 1024  # allowed for an image and its prompt when batches are sized
_SHARE_OF_MEMORY = 0.5
_MOST_ROWS = 64  # more at once is no faster anywhere it was measured

IMAGE_FEATURES = "image_features"
"""The name of what leaves the vision part: the image's tokens as the language model gets them."""

PROMPT_OF_CHOICES = "{question} Choices: {choices}."


def best_dtype() -> torch.dtype:
    """bfloat16 where the machine multiplies it in hardware (a recent GPU; AVX-512 BF16 or AMX), else float32."""
    if torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        features = torch.cpu.get_capabilities()
        able = bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return torch.bfloat16 if able else torch.float32


@dataclass
class Vision:
    """What one pass of the vision part gives, shared by all who need the images.

    Attributes:
        features: Image tokens as the language model reads them, one tensor (tokens, width) per image.
        layers: Activations that enter the layers asked for, (images, tokens, width) each, without a CLS token.
        grid: Rows and columns of these tokens, which are in raster order; ``None`` where they are no grid.
    """

    features: list[Tensor]
    layers: dict[str, Tensor]
    grid: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.features)

    def select(self, indices: Sequence[int]) -> Vision:
        """The images at ``indices``, in that order, repeats allowed."""
        index = torch.as_tensor(indices, dtype=torch.long)
        picked = {name: tokens[index.to(tokens.device)] for name, tokens in self.layers.items()}
        return Vision([self.features[i] for i in indices], picked, self.grid)


class _Reached(Exception):  # noqa: N818 - it is no error
    """The layer that was wanted has been reached: the rest of the model need not run."""


class VLM(ABC):
    """A frozen vision-language model: it answers, it scores, it shows its vision layers; it never changes.

    A family is one file with one subclass: it names the ``model_type`` values it serves and says how images become
    tokens and how a prompt is worded.

    Args:
        model: The model; put in eval mode and frozen.
        processor: Its processor, with tokenizer and image processor.
        name: Where it was loaded from.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    shares_prefix: ClassVar[bool] = True
    """Whether what the language model makes of an image does not depend on the text that follows it."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, name: str) -> None:
        model.requires_grad_(False)
        self.model: Any = model.eval()  # type: ignore[no-untyped-call]
        self.processor: Any = processor
        self.tokenizer: Any = self.processor.tokenizer
        self.name = name
        self._yes_no = [self._first_tokens(word) for word in ("yes", "no")]
        special = {*self.tokenizer.all_special_tokens, self.image_token}
        special |= {t.content for t in self.tokenizer.added_tokens_decoder.values() if t.special}
        self._special = re.compile("|".join(re.escape(s) for s in sorted(special, key=len, reverse=True)))

    # ---- what a family says

    @property
    @abstractmethod
    def image_token(self) -> str:
        """The placeholder of an image in a prompt."""

    @property
    @abstractmethod
    def vision_layers(self) -> list[str]:
        """Names of the vision-side layers whose input can be read: blocks, projector, :data:`IMAGE_FEATURES`."""

    @property
    @abstractmethod
    def language_layers(self) -> list[str]:
        """Names of the blocks of the language model."""

    @abstractmethod
    def see(self, images: Sequence[Image.Image], layers: Sequence[str] = ()) -> Vision:
        """Run the vision part once.

        Args:
            images: RGB images.
            layers: Names of layers whose input is kept.

        Raises:
            ReasonEditError: The model has no such layer.
        """

    @abstractmethod
    def inputs(self, vision: Vision, prompts: Sequence[str]) -> dict[str, Any]:
        """Left-padded inputs of the model for one image and one prompt each, with the vision part already run."""

    # ---- what all families share

    @property
    def projector(self) -> str:
        """The last module of the vision part."""
        return self.vision_layers[-2]

    def check_layer(self, name: str) -> None:
        """Refuse a layer that cannot be read.

        Raises:
            ReasonEditError: The model has no such layer; those of similar names are listed.
        """
        known = [*self.vision_layers, *self.language_layers]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            listed = near or self.vision_layers
            raise ReasonEditError(
                f"The model '{self.name}' has no layer '{name}'. {'Did you mean' if near else 'There are'}: "
                f"{', '.join(listed)}?"
            )

    @torch.inference_mode()
    def language_states(self, vision: Vision, texts: Sequence[str], layer: str) -> list[Tensor]:
        """Activations that enter one layer of the language model, which runs up to there only.

        Args:
            vision: One image per text.
            texts: The texts, worded by :meth:`prompt`.
            layer: One of :attr:`language_layers`.

        Returns:
            For each text (tokens, width), image tokens included, padding left out.
        """
        inputs = self.inputs(vision, [self.prompt(t) for t in texts])
        kept: list[Tensor] = []

        def stop(_module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            kept.append(args[0] if args else kwargs["hidden_states"])
            raise _Reached

        handle = self.model.get_submodule(layer).register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self.states(**inputs, position_ids=positions_of(inputs["attention_mask"]))
        except _Reached:
            pass
        finally:
            handle.remove()
        return [states[mask.bool()] for states, mask in zip(kept[0], inputs["attention_mask"], strict=True)]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(self.model.device)

    @property
    def fingerprint(self) -> dict[str, str]:
        """What must agree for stored keys to mean the same: architecture and a checksum of the first weights.

        The checksum is that of the weights in bfloat16, so that float32 and bfloat16 read each other's codebooks.
        """
        digest = hashlib.sha256()
        for tensor in list(self.model.state_dict().values())[:4]:
            rounded = tensor.detach().to("cpu", torch.bfloat16).contiguous()
            digest.update(rounded.view(torch.int16).numpy().tobytes())
        return {"architecture": type(self.model).__name__, "weights": digest.hexdigest()[:16]}

    def clean(self, text: str) -> str:
        """Take the tokenizer's special tokens and image placeholders out of a text: what users store is data."""
        while (cleaned := self._special.sub("", text)) != text:
            text = cleaned
        return text

    def prompt(self, text: str, choices: Sequence[str] | None = None) -> str:
        """The prompt for a question about one image (with the facts before it, if any), by the chat template."""
        text = self.clean(text)
        if choices:
            listed = ", ".join(self.clean(c) for c in choices)
            text = PROMPT_OF_CHOICES.format(question=text, choices=listed)
        content = [{"type": "image"}, {"type": "text", "text": text}]
        return str(
            self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        )

    @torch.inference_mode()
    def answer(
        self,
        vision: Vision,
        questions: Sequence[str],
        choices: Sequence[Sequence[str] | None] | None = None,
        max_new_tokens: int = 16,
    ) -> list[str]:
        """Answer one question per image.

        Args:
            vision: The images, as :meth:`see` returned them.
            questions: Questions, with the facts before them, if any.
            choices: For each question its choices, or ``None`` for an open answer.
            max_new_tokens: Longest open answer, in tokens.

        Returns:
            For an open question the greedy generation, stripped; for one with choices the choice of the highest
            length-normalised log-likelihood.
        """
        choices = choices if choices is not None else [None] * len(questions)
        prompts = [self.prompt(q, c) for q, c in zip(questions, choices, strict=True)]
        answers = [""] * len(prompts)
        opened = [i for i, c in enumerate(choices) if not c]
        closed = [i for i, c in enumerate(choices) if c]
        if opened:
            inputs = self.inputs(vision.select(opened), [prompts[i] for i in opened])
            length = inputs["input_ids"].shape[1]
            generated = self.model.generate(
                **inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=self.pad
            )
            texts = self.tokenizer.batch_decode(generated[:, length:], skip_special_tokens=True)
            for i, text in zip(opened, texts, strict=True):
                answers[i] = text.strip()
        if closed:
            offered = [list(choices[i] or ()) for i in closed]
            scores = self.log_likelihood(vision.select(closed), [prompts[i] for i in closed], offered)
            for i, options, score in zip(closed, offered, scores, strict=True):
                answers[i] = options[int(score.argmax())]
        return answers

    def read(self, images: Vision | ImagePrefix) -> ImagePrefix:
        """Let the language model read images once, for any number of texts that follow them."""
        return images if isinstance(images, ImagePrefix) else ImagePrefix(self, images)

    def log_likelihood(
        self, images: Vision | ImagePrefix, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[Tensor]:
        """Mean log-likelihood per token of texts that could follow each prompt.

        The image and the prompt run once, whatever the number of texts; all texts of all prompts run in one pass.

        Args:
            images: One image per prompt.
            prompts: Prompts as :meth:`prompt` words them.
            continuations: For each prompt, the texts.

        Returns:
            For each prompt a float32 tensor with one value per text.
        """
        texts = [
            [(prompt, self._continuation(prompt, text)) for text in mine]
            for prompt, mine in zip(prompts, continuations, strict=True)
        ]
        return self.read(images).log_likelihood(texts)

    def sentence_nll(
        self, images: Vision | ImagePrefix, question: str, sentences: Sequence[Sequence[str]]
    ) -> list[Tensor]:
        """Mean negative log-likelihood per token of sentences as the answer to one question about each image."""
        return [-scores for scores in self.log_likelihood(images, [self.prompt(question)] * len(images), sentences)]

    @torch.inference_mode()
    def next_token_probabilities(self, vision: Vision, prompts: Sequence[str]) -> Tensor:
        """Distribution of the token that follows each prompt: float32 (prompts, vocabulary)."""
        inputs = self.inputs(vision, prompts)
        positions = positions_of(inputs["attention_mask"])
        logits = self.model(**inputs, position_ids=positions, logits_to_keep=1).logits[:, -1]
        return torch.as_tensor(logits).float().softmax(-1).cpu()

    def p_yes(self, images: Vision | ImagePrefix, questions: Sequence[Sequence[str]]) -> list[Tensor]:
        """P("yes") / (P("yes") + P("no")), each summed over its case and leading-space variants.

        Section 2 of the method (arXiv 2602.02408).

        Args:
            images: Images; the language model reads each once, whatever the number of questions.
            questions: For each image, the questions.

        Returns:
            For each image float32 (questions,).
        """
        yes, no = self._yes_no
        prompts = [[self.prompt(q) for q in mine] for mine in questions]
        found = self.read(images).next_logits(prompts, [*yes, *no])
        # The sums over the whole vocabulary cancel.
        return [(x[:, : len(yes)].logsumexp(1) - x[:, len(yes) :].logsumexp(1)).sigmoid() for x in found]

    def batches(self, rows: Sequence[int], characters: int) -> list[list[int]]:
        """Split rows of images into batches that fit into memory.

        Args:
            rows: Any numbers, one per image.
            characters: About how long the texts are that follow one image.
        """
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        tokens = _IMAGE_TOKENS + characters
        number = torch.finfo(self.model.dtype).bits // 8
        # Keys and values of all layers, twice as they grow; what one layer holds while it runs; the mask.
        held = 4 * config.num_hidden_layers * heads * size + 16 * config.hidden_size + 4 * tokens
        if self.device.type == "cuda":
            free = torch.cuda.mem_get_info(self.device)[0]
        else:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        count = max(1, min(_MOST_ROWS, int(_SHARE_OF_MEMORY * free / (number * tokens * held))))
        return [list(rows[i : i + count]) for i in range(0, len(rows), count)]

    # ---- what the image prefix works with

    @property
    def packs(self) -> bool:
        """Whether texts can share one image prefix: the family allows it and the attention takes any mask."""
        return self.shares_prefix and self.model.config._attn_implementation in ("sdpa", "eager")

    @property
    def pad(self) -> int:
        """Token that fills what is not there."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id)

    @property
    def image_token_id(self) -> int:
        """Token that stands where the image's tokens go."""
        return int(self.tokenizer.convert_tokens_to_ids(self.image_token))

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    @property
    def context(self) -> int:
        """Number of tokens that the language model can read."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    def length(self, prompt: str) -> int:
        """Number of tokens of a prompt, its image counted as one."""
        return len(self.tokenizer(prompt)["input_ids"])

    def states(self, **inputs: Any) -> Any:
        """The model without its head: an output with ``last_hidden_state`` (and ``past_key_values``)."""
        return self.model.model(**inputs)

    def head(self, states: Tensor) -> Tensor:
        """Logits of hidden states: (N, vocabulary)."""
        with torch.inference_mode():
            return torch.as_tensor(self.model.get_output_embeddings()(states))

    def after_image(self, prompt: str) -> tuple[int, ...]:
        """Token ids of what follows the image in a prompt."""
        ids = self.tokenizer(prompt)["input_ids"]
        return tuple(ids[len(ids) - ids[::-1].index(self.image_token_id) :])

    def _first_tokens(self, word: str) -> list[int]:
        variants = [lead + cased for lead in ("", " ") for cased in (word, word.capitalize(), word.upper())]
        encoded = [self.tokenizer(v, add_special_tokens=False)["input_ids"] for v in variants]
        whole = {ids[0] for ids in encoded if len(ids) == 1}
        return sorted(whole or {ids[0] for ids in encoded})

    def _continuation(self, prompt: str, text: str) -> list[int]:
        lead = "" if prompt[-1:].isspace() else " "
        ids = self.tokenizer(lead + self.clean(text).strip(), add_special_tokens=False)["input_ids"]
        if not ids:
            raise ReasonEditError(f"'{text}' holds no text that the model could say.")
        return list(ids)
