"""The frozen VLM behind one small interface."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from reasonedit.errors import ReasonEditError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

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
    """

    features: list[Tensor]
    layers: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.features)

    def select(self, indices: Sequence[int]) -> Vision:
        """The images at ``indices``, in that order, repeats allowed."""
        index = torch.as_tensor(indices, dtype=torch.long)
        picked = {name: tokens[index.to(tokens.device)] for name, tokens in self.layers.items()}
        return Vision([self.features[i] for i in indices], picked)


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
        """Names of the vision-side layers (blocks, then projector) whose input can be read."""

    @abstractmethod
    def see(self, images: Sequence[Image.Image], layers: Sequence[str] = ()) -> Vision:
        """Run the vision part once.

        Args:
            images: RGB images.
            layers: Names of modules whose input is kept.

        Raises:
            ReasonEditError: The model has no such layer.
        """

    @abstractmethod
    def _inputs(self, vision: Vision, prompts: Sequence[str]) -> dict[str, Any]:
        """Left-padded inputs of the model for one image and one prompt each, with the vision part already run."""

    # ---- what all families share

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
            inputs = self._inputs(vision.select(opened), [prompts[i] for i in opened])
            length = inputs["input_ids"].shape[1]
            generated = self.model.generate(
                **inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=self._pad
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

    @torch.inference_mode()
    def log_likelihood(
        self, vision: Vision, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[Tensor]:
        """Mean log-likelihood per token of texts that could follow each prompt.

        The image and the prompt run once, whatever the number of texts; all texts of all prompts run in one pass.

        Args:
            vision: One image per prompt.
            prompts: Prompts as :meth:`prompt` words them.
            continuations: For each prompt, the texts.

        Returns:
            For each prompt a float32 tensor with one value per text.
        """
        inputs = self._inputs(vision, prompts)
        before = inputs["attention_mask"]
        first = self.model(**inputs, position_ids=_positions(before), use_cache=True, logits_to_keep=1)
        rows = [(i, text) for i, texts in enumerate(continuations) for text in texts]
        tokens = [self._continuation(prompts[i], text) for i, text in rows]
        owner = torch.tensor([i for i, _ in rows], device=self.device)
        longest = max(len(t) for t in tokens)
        ids = torch.full((len(rows), longest), self._pad, device=self.device)
        real = torch.zeros_like(ids)
        for row, t in enumerate(tokens):
            ids[row, : len(t)] = torch.tensor(t, device=self.device)
            real[row, : len(t)] = 1
        logits = first.logits[owner].float()  # (rows, 1, vocabulary): what the prompt predicts
        if longest > 1:
            cache = first.past_key_values
            cache.batch_select_indices(owner)
            mask = torch.cat([before[owner], real[:, :-1]], dim=1)
            rest = self.model(
                input_ids=ids[:, :-1],
                attention_mask=mask,
                position_ids=_positions(mask)[:, -(longest - 1) :],
                past_key_values=cache,
                use_cache=True,
            )
            logits = torch.cat([logits, rest.logits.float()], dim=1)  # (rows, tokens, vocabulary)
        picked = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
        mean = (picked * real).sum(1) / real.sum(1)
        return list(mean.cpu().split([len(texts) for texts in continuations]))

    def sentence_nll(self, vision: Vision, question: str, sentences: Sequence[Sequence[str]]) -> list[Tensor]:
        """Mean negative log-likelihood per token of sentences as the answer to one question about each image."""
        prompts = [self.prompt(question)] * len(vision)
        return [-scores for scores in self.log_likelihood(vision, prompts, sentences)]

    @torch.inference_mode()
    def next_token_probabilities(self, vision: Vision, prompts: Sequence[str]) -> Tensor:
        """Distribution of the token that follows each prompt: float32 (prompts, vocabulary)."""
        inputs = self._inputs(vision, prompts)
        positions = _positions(inputs["attention_mask"])
        logits = self.model(**inputs, position_ids=positions, logits_to_keep=1).logits[:, -1]
        return torch.as_tensor(logits).float().softmax(-1).cpu()

    def p_yes(self, vision: Vision, questions: Sequence[str]) -> Tensor:
        """P("yes") / (P("yes") + P("no")), each summed over its case and leading-space variants.

        Section 2 of the method (arXiv 2602.02408).
        """
        probabilities = self.next_token_probabilities(vision, [self.prompt(q) for q in questions])
        yes, no = (probabilities[:, tokens].sum(1) for tokens in self._yes_no)
        return yes / (yes + no)

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id)

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


def _positions(mask: Tensor) -> Tensor:
    """Positions that do not count the padding: prompt and continuation must agree on them, whatever the padding."""
    return (mask.cumsum(1) - 1).clamp(min=0)
