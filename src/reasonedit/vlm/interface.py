"""What every frozen VLM offers, whether it runs on this machine or behind an endpoint."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from reasonedit.errors import InputError, NotServedError

from .generation import Generation
from .reply import Reply
from .vision import ReadImages, Seen, Vision

Turn = tuple[str, str]
"""Who spoke, ``"system"``, ``"user"`` or ``"assistant"``, and what was said."""


class VLM(ABC):
    """A frozen vision-language model: it sees, answers and scores; it never changes.

    There are two kinds: :class:`~reasonedit.vlm.base.LocalVLM`, all of which runs on this machine, and
    :class:`~reasonedit.vlm.endpoint.model.EndpointVLM`, of which only what sees runs here. Whatever edits a VLM's
    weights or reads layers of its language model takes the first kind.

    Any number of threads may use it.

    Attributes:
        name: Where it was loaded from: what a codebook stores, and finds again.
        projector: The vision-side layer that is read unless another is named.
        model: What of it runs on this machine.
    """

    name: str
    projector: str
    model: nn.Module

    # ---- what runs here

    @property
    @abstractmethod
    def guard(self) -> Any:
        """The lock of the thread that uses :attr:`model`, its tokenizer or its processor; it may take it again.

        It is the last of all locks: whoever holds it calls no editor's methods, which take others before it.
        """

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device of :attr:`model`."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The type of the numbers of :attr:`model`."""

    @property
    @abstractmethod
    def movable(self) -> bool:
        """Whether :attr:`model` may be moved to another device."""

    @property
    @abstractmethod
    def vision_layers(self) -> list[str]:
        """Names of the vision-side layers whose input can be read, the first block first."""

    @property
    @abstractmethod
    def language_layers(self) -> list[str]:
        """Names of the layers that read image and text; none where they do not run here."""

    def check_layer(self, name: str) -> None:
        """Refuse a layer that cannot be read.

        Raises:
            InputError: There is no such layer; layers of similar names are listed.
        """
        known = [*self.vision_layers, *self.language_layers]
        if name not in known:
            similar = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            raise InputError(
                f"The model '{self.name}' has no layer '{name}'. {'Did you mean' if similar else 'There are'}: "
                f"{', '.join(similar or self.vision_layers)}?"
            )

    @abstractmethod
    def see(self, images: Sequence[Image.Image], layers: Sequence[str] = ()) -> Vision:
        """Run the vision part once.

        Args:
            images: RGB images.
            layers: Names of vision-side layers whose input is recorded.

        Raises:
            InputError: The model has no such layer, or cannot take an image of such a shape.
        """

    @abstractmethod
    def images_at_once(self, tokens: int, pixels: int, characters: int) -> int:
        """How many images fit into memory, each with texts after it.

        Args:
            tokens: Number of tokens of an image; :attr:`Seen.size`.
            pixels: Number of values that the vision part reads of it; :attr:`Seen.pixels`.
            characters: About how long the texts after it are together.
        """

    @abstractmethod
    def language_states(self, vision: Vision, texts: Sequence[str], layer: str) -> list[Tensor]:
        """Activations that enter a layer of image and text.

        Args:
            vision: One image per text.
            texts: The texts, which :meth:`prompt` turns into prompts.
            layer: One of :attr:`language_layers`.

        Returns:
            For each text (tokens, width), with the image's tokens and without padding.

        Raises:
            InputError: A text is longer than the model reads, or the layer does not run here.
        """

    # ---- what it is

    @abstractmethod
    def key_parts(self, layer: str) -> dict[str, str]:
        """What the keys of a layer depend on; see :func:`~reasonedit.vlm.identity.key_parts`."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """A checksum of all that its answers depend on except the question, as far as it is known here."""

    # ---- texts

    @abstractmethod
    def clean(self, text: str) -> str:
        """Take out of a text whatever would make it more than text: what users store is data."""

    @abstractmethod
    def prompt(self, text: str, choices: Sequence[str] | None = None, earlier: Sequence[Turn] = ()) -> str:
        """The prompt for a question about one image, after its facts, if any.

        Args:
            text: The question.
            choices: Its choices.
            earlier: The turns before it.
        """

    @abstractmethod
    def has_room(self, seen: Seen, prompt: str, more: int = 1) -> bool:
        """Whether the model can read a text to its end; beyond its context its numbers mean nothing.

        Args:
            seen: Its image.
            prompt: The prompt with the text.
            more: Number of tokens that follow it.
        """

    @abstractmethod
    def answer_length(
        self, question: str, choices: Sequence[str] | None, max_new_tokens: int, earlier: Sequence[Turn] = ()
    ) -> int:
        """Number of tokens that are kept free for an answer.

        Args:
            question: The question.
            choices: Its choices, if it has any: then as many as the longest takes.
            max_new_tokens: The most of an open answer; no more than half of the context is kept free for it, which
                would leave no room for facts.
            earlier: The turns before the question.
        """

    # ---- answers and scores

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
            questions: One question per image, after its facts, if any.
            choices: For each question its choices, or ``None`` for an open answer.
            max_new_tokens: As in :class:`~reasonedit.vlm.generation.Generation`.
            **generation: Other values of it, or arguments of transformers' ``generate``.
        """
        how = Generation().but(max_new_tokens, generation.pop("choice_rule", None), **generation)
        return [reply.text for reply in self.reply(vision, questions, choices, how)]

    @abstractmethod
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
            earlier: For each question the turns before it, if there are any.

        Raises:
            InputError: A prompt is longer than the model reads, or the model's numbers are not finite.
        """

    def reply_to_texts(self, questions: Sequence[str], generation: Generation | None = None) -> list[Reply]:
        """Answer open questions without a picture.

        Args:
            questions: The questions.
            generation: How to answer.

        Raises:
            InputError: A prompt is longer than the model reads, or the model's numbers are not finite.
            NotServedError: It takes no question without a picture.
        """
        raise NotServedError(f"'{self.name}' takes no question without a picture: leave out those that have none.")

    @abstractmethod
    def read(self, images: Vision | ReadImages) -> ReadImages:
        """Have the language model read images once, as far as it can, for any number of texts that follow them."""

    @abstractmethod
    def p_yes(self, images: Vision | ReadImages, questions: Sequence[Sequence[str]]) -> list[Tensor]:
        """P("yes") / (P("yes") + P("no")), each summed over its case and leading-space variants.

        Section 2 of the method (arXiv 2602.02408).

        Args:
            images: Images; each is read once, whatever the number of questions, where that can be.
            questions: For each image, the questions.

        Returns:
            For each image float32 (questions,).
        """

    @abstractmethod
    def sentence_nll(
        self, images: Vision | ReadImages, question: str, sentences: Sequence[Sequence[str]]
    ) -> list[Tensor]:
        """Mean negative log-likelihood per token of sentences as the answer to one question about each image.

        Raises:
            InputError: It gives no likelihoods of texts: see :meth:`check_likelihoods`.
        """

    @abstractmethod
    def check_likelihoods(self) -> None:
        """Refuse a VLM that gives no likelihoods of texts that it did not say itself.

        Raises:
            NotServedError: It gives none.
        """
