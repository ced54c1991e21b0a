"""The frozen VLM behind one small interface."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from reasonedit.finite import finite
from reasonedit.threads import guarded

from .generate import decode_reply, run_generate
from .generation import Generation, Reply, close_thought
from .identity import identity_of, key_parts
from .prefix import ImagePrefix
from .texts import TextSide
from .vision import Vision


def best_dtype() -> torch.dtype:
    """bfloat16 where the machine multiplies it in hardware (a recent GPU; AVX-512 BF16 or AMX), else float32."""
    if torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        features = torch.cpu.get_capabilities()
        able = bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return torch.bfloat16 if able else torch.float32


class _Reached(Exception):  # noqa: N818 - it is no error
    """The layer that was wanted has been reached: the rest of the model need not run."""


class VLM(TextSide):
    """A frozen vision-language model: it answers, it scores, it shows its vision layers; it never changes.

    Answering, choice scoring and the probabilities are here; how images are seen and become inputs is a family's, see
    :class:`~reasonedit.vlm.family.Family`. Arguments and attributes are those of
    :class:`~reasonedit.vlm.frozen.FrozenModel`.

    Any number of threads may use it: one pass runs at a time, whatever wraps the model (:attr:`guard`). Who calls the
    model itself meanwhile, past this class, takes the guard, too.
    """

    # ---- what a family says

    @abstractmethod
    def see(self, images: Sequence[Image.Image], layers: Sequence[str] = ()) -> Vision:
        """Run the vision part once.

        Args:
            images: RGB images.
            layers: Names of layers whose input is kept.

        Raises:
            ReasonEditError: The model has no such layer, or cannot take an image of such a shape.
        """

    @abstractmethod
    def inputs(self, vision: Vision, prompts: Sequence[str]) -> dict[str, Any]:
        """Left-padded inputs of the model for one image and one prompt each, with the vision part already run."""

    # ---- what it is

    def key_parts(self, layer: str) -> dict[str, str]:
        """What the keys of a layer depend on; see :func:`~reasonedit.vlm.identity.key_parts`."""
        return key_parts(self, layer)

    @property
    def identity(self) -> str:
        """A checksum of all that its answers depend on beside the question; see :mod:`reasonedit.vlm.identity`."""
        return identity_of(self)

    # ---- answers

    def answer(
        self,
        vision: Vision,
        questions: Sequence[str],
        choices: Sequence[Sequence[str] | None] | None = None,
        max_new_tokens: int | None = None,
        **generation: Any,
    ) -> list[str]:
        """Answer one question per image: the texts of :meth:`reply`.

        Args:
            vision: The images, as :meth:`see` returned them.
            questions: Questions, with the facts before them, if any.
            choices: For each question its choices, or ``None`` for an open answer.
            max_new_tokens: As in :class:`~reasonedit.vlm.generation.Generation`.
            **generation: Other values of it, or arguments of transformers' ``generate``.
        """
        how = Generation().but(max_new_tokens, **generation)
        return [reply.text for reply in self.reply(vision, questions, choices, how)]

    @guarded
    @torch.inference_mode()
    def reply(
        self,
        vision: Vision,
        questions: Sequence[str],
        choices: Sequence[Sequence[str] | None] | None = None,
        generation: Generation | None = None,
    ) -> list[Reply]:
        """Answer one question per image.

        Args:
            vision: The images, as :meth:`see` returned them.
            questions: Questions, with the facts before them, if any.
            choices: For each question its choices, or ``None`` for an open answer.
            generation: How answers are made.

        Returns:
            For an open question the generation, stripped, up to where the model's context ends; for one with choices
            the choice that ``generation`` takes.

        Raises:
            ReasonEditError: A prompt is longer than the model reads, or the model's numbers are not finite.
        """
        generation = generation or Generation()
        choices = choices if choices is not None else [None] * len(questions)
        prompts = [self.prompt(q, c) for q, c in zip(questions, choices, strict=True)]
        for seen, prompt in zip(vision.images, prompts, strict=True):
            self.check_room(seen, prompt)
        replies = [Reply("")] * len(prompts)
        opened = [i for i, c in enumerate(choices) if not c]
        closed = [i for i, c in enumerate(choices) if c]
        if opened:
            made = self.generate(vision.select(opened), [prompts[i] for i in opened], generation)
            for i, tokens in zip(opened, made, strict=True):
                seen, prompt, how = vision.images[i], prompts[i], generation
                if not self.has_room(seen, prompt, how.max_new_tokens):  # what it said behind its context means nothing
                    how = how.but(self.context_length - seen.size - self.count_tokens(prompt))
                replies[i] = decode_reply(self, tokens[: how.max_new_tokens], prompt, how)
        if closed:
            offered = [list(choices[i] or ()) for i in closed]
            asked = [prompts[i] for i in closed]
            means = self.log_likelihood(vision.select(closed), asked, offered)
            for i, options, mean in zip(closed, offered, means, strict=True):
                prompt = close_thought(prompts[i])
                score = mean * torch.tensor([len(self.continuation(prompt, o)) for o in options])
                if generation.choice_rule == "acc_norm":
                    score = score / torch.tensor([len(o.strip()) for o in options])
                replies[i] = Reply(options[int(score.argmax())])
        return replies

    @guarded
    def generate(self, vision: Vision, prompts: Sequence[str], generation: Generation) -> list[Tensor]:
        """The tokens that the model continues each prompt with."""
        inputs = self.inputs(vision, prompts)
        made = run_generate(self, self.model, inputs, generation)
        return list(made[:, inputs["input_ids"].shape[1] :])

    # ---- scores

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
        ended = [close_thought(prompt) for prompt in prompts]
        texts = [
            [(prompt, self.continuation(prompt, text)) for text in mine]
            for prompt, mine in zip(ended, continuations, strict=True)
        ]
        return self.read(images).log_likelihood(texts)

    def sentence_nll(
        self, images: Vision | ImagePrefix, question: str, sentences: Sequence[Sequence[str]]
    ) -> list[Tensor]:
        """Mean negative log-likelihood per token of sentences as the answer to one question about each image."""
        return [-scores for scores in self.log_likelihood(images, [self.prompt(question)] * len(images), sentences)]

    @guarded
    @torch.inference_mode()
    def next_token_probabilities(self, vision: Vision, prompts: Sequence[str]) -> Tensor:
        """Distribution of the token that follows each prompt: float32 (prompts, vocabulary).

        Raises:
            ReasonEditError: A prompt is longer than the model reads, or the model's numbers are not finite.
        """
        for seen, prompt in zip(vision.images, prompts, strict=True):
            self.check_room(seen, prompt)
        states = self.run(self.inputs(vision, [close_thought(p) for p in prompts])).last_hidden_state
        return finite(self.head(states[:, -1]).float(), "The logits of the next token").softmax(-1).cpu()

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
        prompts = [[close_thought(self.prompt(q)) for q in mine] for mine in questions]
        found = self.read(images).next_logits(prompts, [*yes, *no])
        # The sums over the whole vocabulary cancel.
        return [(x[:, : len(yes)].logsumexp(1) - x[:, len(yes) :].logsumexp(1)).sigmoid() for x in found]

    # ---- layers of the language model

    @guarded
    @torch.inference_mode()
    def language_states(self, vision: Vision, texts: Sequence[str], layer: str) -> list[Tensor]:
        """Activations that enter a layer which reads image and text; the model runs up to there only.

        Args:
            vision: One image per text.
            texts: The texts, worded by :meth:`prompt`.
            layer: One of :attr:`language_layers`.

        Returns:
            For each text (tokens, width), image tokens included, padding left out.

        Raises:
            ReasonEditError: A text is longer than the model reads.
        """
        for seen, text in zip(vision.images, texts, strict=True):
            self.check_room(seen, self.prompt(text))
        kept: list[Tensor] = []
        thread = threading.get_ident()

        def stop(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if threading.get_ident() != thread:
                return
            kept.append(args[0] if args else kwargs["hidden_states"])
            raise _Reached

        inputs: dict[str, Any] = {}
        handle = self.model.get_submodule(layer).register_forward_pre_hook(stop, with_kwargs=True)
        try:
            inputs = self.inputs(vision, [self.prompt(t) for t in texts])
            self.run(inputs)
        except _Reached:
            pass
        finally:
            handle.remove()
        return self.strip_padding(kept[0], inputs)
