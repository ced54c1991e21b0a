"""A frozen VLM on this machine: it sees, answers and scores."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reasonedit.errors import InputError
from reasonedit.util.finite import check_finite
from reasonedit.util.threads import guarded

from .generate import run_generate, tokens_never_said
from .generation import Generation
from .identity import identity_of, key_parts
from .interface import Turn
from .prefix import ImagePrefix
from .reply import Reply, close_thought, decode_reply
from .texts import TextSide
from .vision import ReadImages, Vision


class _Reached(Exception):  # noqa: N818 - it is no error
    """The layer has been reached: the rest of the model need not run."""


class LocalVLM(TextSide):
    """A frozen vision-language model on this machine: it answers, it scores, its layers can be read; it never changes.

    Answers, scores and probabilities are computed here. How the model sees images and turns them into inputs is a
    family's part: see :class:`~reasonedit.vlm.family.Family`. Arguments and attributes are those of
    :class:`~reasonedit.vlm.frozen.FrozenModel`.

    Any number of threads may use it: one pass runs at a time, whatever wraps the model (:attr:`guard`). Whoever calls
    the model itself, past this class, takes the guard too.
    """

    # ---- what a family says

    @abstractmethod
    def inputs(self, vision: Vision, prompts: Sequence[str]) -> dict[str, Any]:
        """Left-padded inputs of the model; the vision part does not run again.

        Args:
            vision: The images, as :meth:`see` returned them.
            prompts: One prompt per image.
        """

    # ---- what it is

    def key_parts(self, layer: str) -> dict[str, str]:
        """What the keys of a layer depend on; see :func:`~reasonedit.vlm.identity.key_parts`."""
        return key_parts(self, layer)

    @property
    def identity(self) -> str:
        """A checksum of all that its answers depend on except the question; see :mod:`reasonedit.vlm.identity`."""
        return identity_of(self)

    # ---- answers

    @guarded
    @torch.inference_mode()
    def reply(
        self,
        vision: Vision,
        questions: Sequence[str],
        choices: Sequence[Sequence[str] | None] | None = None,
        generation: Generation | None = None,
        earlier: Sequence[Sequence[Turn]] | None = None,
    ) -> list[Reply]:
        """Answer one question per image.

        Args:
            vision: The images, as :meth:`see` returned them.
            questions: One question per image, after its facts, if any.
            choices: For each question its choices, or ``None`` for an open answer.
            generation: How to answer.
            earlier: For each question the turns before it, if there are any; see :meth:`format_turns`.

        Returns:
            For an open question the generated text, stripped, as far as the model's context reaches; for a question
            with choices the choice that the rule of ``generation`` takes.

        Raises:
            InputError: A prompt is longer than the model reads, or the model's numbers are not finite.
        """
        generation = generation or Generation()
        choices = choices if choices is not None else [None] * len(questions)
        turns = earlier if earlier is not None else [()] * len(questions)
        prompts = [self.prompt(*parts) for parts in zip(questions, choices, turns, strict=True)]
        for seen, prompt in zip(vision.images, prompts, strict=True):
            self.check_room(seen, prompt)
        images = self.read(vision.take_prefix(self) or vision)
        replies = {i: Reply(choice) for i, choice in self._choose(images, prompts, choices, generation.choice_rule)}
        opened = {i: prompts[i] for i in range(len(prompts)) if i not in replies}
        for i, tokens in self._generate(images, opened, generation).items():
            limited, seen = generation, vision.images[i]
            if not self.has_room(seen, prompts[i], generation.max_new_tokens):  # tokens beyond it mean nothing
                limited = generation.but(self.room_behind(seen, prompts[i]))
            replies[i] = decode_reply(self, tokens[: limited.max_new_tokens], prompts[i], limited)
        return [replies[i] for i in range(len(prompts))]

    def _choose(
        self, images: ImagePrefix, prompts: Sequence[str], choices: Sequence[Sequence[str] | None], choice_rule: str
    ) -> list[tuple[int, str]]:
        """The numbers of the questions that have choices, and the choice that is taken of each."""
        chosen = []
        offered = [list(options or ()) for options in choices]
        means = self.log_likelihood(images, prompts, offered) if any(offered) else []
        for i, (prompt, options, mean) in enumerate(zip(prompts, offered, means, strict=False)):
            if not options:
                continue
            answered = close_thought(prompt)
            scores = mean * torch.tensor([len(self.continuation(answered, option)) for option in options])
            if choice_rule == "acc_norm":
                scores = scores / torch.tensor([len(option.strip()) for option in options])
            chosen.append((i, options[int(scores.argmax())]))
        return chosen

    def _generate(self, images: ImagePrefix, prompts: Mapping[int, str], generation: Generation) -> dict[int, Tensor]:
        """The tokens that the model generates after prompts, by the numbers of the images."""
        if not prompts:
            return {}
        never = tokens_never_said(self, generation)
        has_own_way = getattr(self.generate, "__func__", None) is not LocalVLM.generate
        if never is not None and images.can_answer and not has_own_way:
            return images.answer(prompts, generation.max_new_tokens, never)
        seen, most = images.vision.images, generation.max_new_tokens
        whole = [i for i, prompt in prompts.items() if self.has_room(seen[i], prompt, most)]
        # Beyond its context a model's own way to generate may fail: what comes near it is limited, one by one.
        near = [i for i in prompts if i not in whole]
        parts = [(whole, generation), *(([i], generation.but(self.room_behind(seen[i], prompts[i]))) for i in near)]
        generated: dict[int, Tensor] = {}
        for numbers, limited in parts:
            if numbers:
                tokens = self.generate(images.vision.select(numbers), [prompts[i] for i in numbers], limited)
                generated |= zip(numbers, tokens, strict=True)
        return generated

    @guarded
    def generate(self, vision: Vision, prompts: Sequence[str], generation: Generation) -> list[Tensor]:
        """The tokens that the model generates after each prompt: (tokens) for each."""
        inputs = self.inputs(vision, prompts)
        tokens = run_generate(self, self.model, inputs, generation)
        return list(tokens[:, inputs["input_ids"].shape[1] :])

    # ---- without a picture

    @property
    def text_model(self) -> Any:
        """What reads a text without an image, with a head on it."""
        return self.model

    def text_inputs(self, prompt: str, followed: Sequence[int] = ()) -> dict[str, Tensor]:
        """Inputs of :attr:`text_model` for one prompt without an image, and what follows it.

        Args:
            prompt: The prompt, from :meth:`format_text`.
            followed: Ids of the tokens after it.

        Raises:
            InputError: It is longer than the model reads.
        """
        ids = self.token_ids([prompt])[0]
        if len(ids) + len(followed) >= self.context_length:
            raise InputError(
                f"The question without a picture is {len(ids)} tokens long, of which '{self.name}' reads "
                f"{self.context_length}: shorten it."
            )
        self.prompt_mask = torch.ones(1, len(ids), dtype=torch.bool, device=self.device)
        tokens = torch.tensor([[*ids, *followed]], device=self.device)
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

    @guarded
    @torch.inference_mode()
    def reply_to_texts(self, questions: Sequence[str], generation: Generation | None = None) -> list[Reply]:
        """Answer open questions without a picture, one after the other; see :meth:`VLM.reply_to_texts`."""
        generation = generation or Generation()
        replies = []
        for question in questions:
            prompt = self.format_text(self.clean(question))
            inputs = self.text_inputs(prompt)
            length = inputs["input_ids"].shape[1]
            room = self.context_length - length
            limited = generation if generation.max_new_tokens <= room else generation.but(room)
            tokens = run_generate(self, self.text_model, inputs, limited)[0]
            replies.append(decode_reply(self, tokens[length:], prompt, limited))
        return replies

    # ---- scores

    def read(self, images: Vision | ReadImages) -> ImagePrefix:
        """Have the language model read images once, for any number of texts that follow them."""
        if isinstance(images, ImagePrefix):
            return images
        return ImagePrefix(self, images.vision if isinstance(images, ReadImages) else images)

    def log_likelihood(
        self, images: Vision | ReadImages, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[Tensor]:
        """Mean log-likelihood per token of texts that may follow each prompt.

        The image and the prompt run once, whatever the number of texts; all texts of all prompts run in one pass.

        Args:
            images: One image per prompt.
            prompts: Prompts, from :meth:`prompt`.
            continuations: For each prompt the texts.

        Returns:
            For each prompt a float32 tensor with one value per text.
        """
        prompts = [close_thought(prompt) for prompt in prompts]
        texts = [
            [(prompt, self.continuation(prompt, text)) for text in texts_of]
            for prompt, texts_of in zip(prompts, continuations, strict=True)
        ]
        return self.read(images).log_likelihood(texts)

    def check_likelihoods(self) -> None:
        """It gives likelihoods of any text."""

    def sentence_nll(
        self, images: Vision | ReadImages, question: str, sentences: Sequence[Sequence[str]]
    ) -> list[Tensor]:
        """Mean negative log-likelihood per token of sentences as the answer to one question about each image."""
        return [-scores for scores in self.log_likelihood(images, [self.prompt(question)] * len(images), sentences)]

    @guarded
    @torch.inference_mode()
    def next_token_probabilities(self, vision: Vision, prompts: Sequence[str]) -> Tensor:
        """Distribution of the token after each prompt: float32 (prompts, vocabulary).

        Raises:
            InputError: A prompt is longer than the model reads, or the model's numbers are not finite.
        """
        for seen, prompt in zip(vision.images, prompts, strict=True):
            self.check_room(seen, prompt)
        states = self.run(self.inputs(vision, [close_thought(p) for p in prompts])).last_hidden_state
        return check_finite(self.head(states[:, -1]).float(), "The logits of the next token").softmax(-1).cpu()

    def p_yes(self, images: Vision | ReadImages, questions: Sequence[Sequence[str]]) -> list[Tensor]:
        """P("yes") / (P("yes") + P("no")), each summed over its case and leading-space variants.

        Section 2 of the method (arXiv 2602.02408).

        Args:
            images: Images; the language model reads each once, whatever the number of questions.
            questions: For each image, the questions.

        Returns:
            For each image float32 (questions,).
        """
        yes, no = self._yes_no
        prompts = [[close_thought(self.prompt(q)) for q in questions_of] for questions_of in questions]
        logits = self.read(images).next_logits(prompts, [*yes, *no])
        # The sums over the whole vocabulary cancel.
        return [(x[:, : len(yes)].logsumexp(1) - x[:, len(yes) :].logsumexp(1)).sigmoid() for x in logits]

    # ---- layers of the language model

    @guarded
    @torch.inference_mode()
    def language_states(self, vision: Vision, texts: Sequence[str], layer: str) -> list[Tensor]:
        """Activations that enter a layer of image and text; the model runs only up to there.

        Args:
            vision: One image per text.
            texts: The texts, which :meth:`prompt` turns into prompts.
            layer: One of :attr:`language_layers`.

        Returns:
            For each text (tokens, width), with the image's tokens and without padding.

        Raises:
            InputError: A text is longer than the model reads.
        """
        for seen, text in zip(vision.images, texts, strict=True):
            self.check_room(seen, self.prompt(text))
        states: list[Tensor] = []
        thread = threading.get_ident()  # another thread may run the bare model meanwhile

        def stop(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if threading.get_ident() == thread:
                states.append(args[0] if args else kwargs["hidden_states"])
                raise _Reached

        inputs: dict[str, Any] = {}
        handle = self.model.get_submodule(layer).register_forward_pre_hook(stop, with_kwargs=True)
        try:
            inputs = self.inputs(vision, [self.prompt(text) for text in texts])  # a Q-Former runs here already
            self.run(inputs)
        except _Reached:
            pass
        finally:
            handle.remove()
        return self.strip_padding(states[0], inputs)
