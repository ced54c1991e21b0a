"""A VLM behind an endpoint: it answers there, and what sees for its keys runs here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from reasonedit.errors import NotServedError, UnavailableError
from reasonedit.prompts import with_choices
from reasonedit.safe_text import to_safe_text
from reasonedit.util.threads import Guard
from reasonedit.util.weights import digest_of

from ..generation import Generation
from ..interface import VLM, Turn
from ..reply import Reply, split_thought
from ..vision import IMAGE_FEATURES, ReadImages, Seen, Vision
from .connection import Connection
from .encoder import Encoder
from .messages import data_uri, messages_of, text_of
from .scores import closest_choice, likeliest_choice, p_yes_of, said_yes, steps_of
from .served import Served, likelihoods_of

_log = logging.getLogger(__name__)

_IMAGES_AT_ONCE = 32
_CHARACTERS_PER_TOKEN = 3  # fewer than most tokenizers have of English, so that no text is longer than it counts
_YES_OR_NO = " Answer yes or no."
_LONGEST_VERDICT = 256  # a reasoning VLM thinks first
_PICTURE, _URI = "picture", "uri"
"""What :attr:`Seen.extras` hold here."""
_PASSED_ON = {"temperature": "", "top_p": "", "top_k": "vLLM", "min_p": "vLLM", "repetition_penalty": "vLLM"}
"""Arguments of transformers' ``generate`` that endpoints take, too, some of them beside the protocol."""


@dataclass(frozen=True)
class _Asked:
    """One question: its image, its text and what belongs to it."""

    seen: Seen
    text: str
    choices: Sequence[str] = ()
    earlier: Sequence[Turn] = ()


class EndpointVLM(VLM):
    """A VLM that answers behind an endpoint that speaks OpenAI's protocol.

    What the endpoint gives of it is in :attr:`served`: verification goes by the log-probabilities of the first token
    where there are any, and choices by those of the tokens with which they begin.

    Args:
        connection: The endpoint.
        encoder: What sees the pictures for the keys.
        served: What the endpoint gives.
    """

    def __init__(self, connection: Connection, encoder: Encoder, served: Served) -> None:
        self.connection, self.encoder, self.served = connection, encoder, served
        self.name = connection.settings.lasting_name
        self.model: nn.Module = encoder.model
        self.projector = encoder.projector
        self._counting = Guard()
        self._guessed = self._evaded = 0

    # ---- what runs here

    @property
    def guard(self) -> Any:
        """The encoder's: the endpoint takes any number of questions at once."""
        return self.encoder.guard

    @property
    def device(self) -> torch.device:
        """The encoder's."""
        return self.encoder.device

    @property
    def dtype(self) -> torch.dtype:
        """The encoder's."""
        return self.encoder.dtype

    @property
    def movable(self) -> bool:
        """The encoder is where it was loaded to."""
        return False

    @property
    def vision_layers(self) -> list[str]:
        """The encoder's."""
        return self.encoder.vision_layers

    @property
    def language_layers(self) -> list[str]:
        """None: they are behind the endpoint."""
        return []

    def see(self, images: Sequence[Image.Image], layers: Sequence[str] = ()) -> Vision:
        """Keep the images, and run the encoder where its layers are asked for; see :meth:`VLM.see`."""
        if layers:
            vision = self.encoder.see(images, layers)
        else:
            vision = Vision([Seen(torch.empty(0, 0), {}, "", 0) for _ in images])
        for image, seen in zip(images, vision.images, strict=True):
            seen.extras = {_PICTURE: image}
        return vision

    def images_at_once(self, tokens: int, pixels: int, characters: int) -> int:
        """As many as pass the encoder at once: the language model is elsewhere."""
        return _IMAGES_AT_ONCE

    def language_states(self, vision: Vision, texts: Sequence[str], layer: str) -> list[Tensor]:
        """Refuse: see :attr:`language_layers`.

        Raises:
            NotServedError: Always.
        """
        raise NotServedError(f"'{self.name}' keeps its language layers behind its endpoint: read a vision layer.")

    # ---- what it is

    def key_parts(self, layer: str) -> dict[str, str]:
        """Those of the encoder alone."""
        return self.encoder.key_parts(layer)

    @property
    def identity(self) -> str:
        """A checksum of the model's name, its endpoint and what that gives, and of the encoder."""
        parts = self.encoder.key_parts(IMAGE_FEATURES)
        settings = self.connection.settings
        return digest_of([settings.model, self.connection.address, settings.image_format, str(self.served), parts])

    # ---- texts

    def clean(self, text: str) -> str:
        """As the encoder does: where it comes from the same VLM, it knows its special tokens."""
        return self.encoder.clean(text)

    def prompt(self, text: str, choices: Sequence[str] | None = None, earlier: Sequence[Turn] = ()) -> str:
        """All that is asked, as text: the endpoint puts its chat template around it."""
        text = self.clean(text)
        if choices:
            text = with_choices(text, [self.clean(choice) for choice in choices])
        return "\n".join([*(self.clean(said) for _, said in earlier), text])

    def has_room(self, seen: Seen, prompt: str, more: int = 1) -> bool:
        """Whether a text fits, by its length in characters; any does where the endpoint does not say what it reads."""
        if self.served.context_length is None:
            return True
        return len(prompt) // _CHARACTERS_PER_TOKEN + seen.size + more <= self.served.context_length

    def answer_length(
        self, question: str, choices: Sequence[str] | None, max_new_tokens: int, earlier: Sequence[Turn] = ()
    ) -> int:
        """See :meth:`VLM.answer_length`; counted by characters."""
        if choices:
            return max(map(_length_of, choices))
        reads = self.served.context_length
        return max_new_tokens if reads is None else min(max_new_tokens, reads // 2)

    # ---- answers

    def reply(
        self,
        vision: Vision,
        questions: Sequence[str],
        choices: Sequence[Sequence[str] | None] | None = None,
        generation: Generation | None = None,
        earlier: Sequence[Sequence[Turn]] | None = None,
    ) -> list[Reply]:
        """Answer one question per image; see :meth:`VLM.reply`.

        Raises:
            InputError: A question is longer than the model reads.
            NotServedError: The endpoint takes no such argument of ``generation``.
            UnavailableError: The endpoint cannot be asked, or the limit is reached.
        """
        vision.take_prefix(self)
        generation = generation or Generation()
        if any(choices or ()) and generation.choice_rule != "acc" and not self.served.likelihoods:
            raise NotServedError(
                f"The choice_rule '{generation.choice_rule}' takes likelihoods: {self._no_likelihoods}"
            )
        options = self._generation_options(generation)
        turns = earlier if earlier is not None else [()] * len(questions)
        offered = choices if choices is not None else [None] * len(questions)
        asked = [self._asked(*parts) for parts in zip(vision.images, questions, offered, turns, strict=True)]

        def answer(one: _Asked) -> Reply:
            return self._choose(one, generation.choice_rule) if one.choices else self._answer(one, options)

        return self.connection.map(answer, asked)

    def reply_to_texts(self, questions: Sequence[str], generation: Generation | None = None) -> list[Reply]:
        """Answer open questions without a picture; see :meth:`VLM.reply_to_texts`.

        Raises:
            NotServedError: The endpoint takes no such argument of ``generation``.
            UnavailableError: The endpoint cannot be asked, or the limit is reached.
        """
        options = self._generation_options(generation or Generation())
        return self.connection.map(lambda text: self._say(messages_of(None, self.clean(text)), options), questions)

    def _asked(
        self, seen: Seen, text: str, choices: Sequence[str] | None = None, earlier: Sequence[Turn] = ()
    ) -> _Asked:
        """A question, cleaned here: the threads that ask it do not wait for the guard."""
        turns = [(role, self.clean(said)) for role, said in earlier]
        named = None if self.served.choices else choices  # it puts them behind the question itself
        return _Asked(seen, self.prompt(text, named), [self.clean(choice) for choice in choices or ()], turns)

    def _answer(self, asked: _Asked, options: dict[str, Any]) -> Reply:
        return self._say(self._messages(asked), options)

    def _say(self, messages: list[dict[str, Any]], options: dict[str, Any]) -> Reply:
        (choice, *_) = self.connection.chat(messages, **options).choices
        thought, text = split_thought(text_of(choice.message.content), "")
        more = choice.message.model_extra or {}
        apart = more.get("reasoning_content") or more.get("reasoning") or thought  # vLLM's name of it before and now
        return Reply(text, str(apart).strip(), "length" if choice.finish_reason == "length" else "stop")

    def _generation_options(self, generation: Generation) -> dict[str, Any]:
        options = self.served.options(generation.max_new_tokens)
        given = dict(generation.generate_kwargs)
        if given.pop("do_sample", False):
            options.pop("temperature", None)
        given.pop("num_beams", None) if given.get("num_beams") == 1 else None
        for name, value in given.items():
            if name not in _PASSED_ON:
                raise NotServedError(
                    f"No endpoint takes the generation argument '{name}': it takes {', '.join(_PASSED_ON)}."
                )
            target = options.setdefault("extra_body", {}) if _PASSED_ON[name] else options
            target[name] = value
        return options

    def _choose(self, asked: _Asked, choice_rule: str) -> Reply:
        """The choice that the rule takes, as near as the endpoint lets it be known."""
        choices = asked.choices
        if self.served.likelihoods:
            scores = [sum(self._logs(asked, choice)) for choice in choices]
            if choice_rule == "acc_norm":
                scores = [score / len(choice.strip()) for score, choice in zip(scores, choices, strict=True)]
            return Reply(choices[scores.index(max(scores))])
        longest = max(map(_length_of, choices))
        if self.served.choices:
            options = {**self.served.options(longest), "extra_body": {"reasonedit": {"choices": list(choices)}}}
        else:
            options = self.served.options(longest if self.served.candidates else max(longest, 16), candidates=True)
        (choice, *_) = self.connection.chat(self._messages(asked), **options).choices
        number = None if self.served.choices else likeliest_choice(choices, steps_of(choice))
        if number is None:
            said = split_thought(text_of(choice.message.content), "")[1]
            number, named = closest_choice(choices, said)
            self._count_guess(named, said, choices[number])
        return Reply(choices[number])

    def _logs(self, asked: _Asked, text: str) -> list[float]:
        """Log-likelihoods of the tokens of a text as the answer.

        Raises:
            UnavailableError: The endpoint does not say this time.
        """
        logs = likelihoods_of(self.connection, self.served, self._messages(asked), text.strip())
        if not logs:
            raise UnavailableError(f"The endpoint {self.connection.address} gave no likelihoods for '{text}'.")
        return logs

    def _count_guess(self, named: bool, said: str, choice: str) -> None:
        if named:
            return
        with self._counting:
            self._guessed += 1
            first = self._guessed == 1
        if first:
            _log.warning(
                "'%s' answered '%s…', which names none of its choices alone: '%s' is taken. This is said once.",
                to_safe_text(self.name), to_safe_text(said[:60]), to_safe_text(choice),
            )  # fmt: skip

    def _messages(self, asked: _Asked) -> list[dict[str, Any]]:
        extras = asked.seen.extras
        if _URI not in extras:
            extras[_URI] = data_uri(extras[_PICTURE], self.connection.settings.image_format)
        return messages_of(extras[_URI], asked.text, asked.earlier)

    # ---- scores

    def read(self, images: Vision | ReadImages) -> ReadImages:
        """The images: the endpoint reads them with each question."""
        return images if isinstance(images, ReadImages) else ReadImages(self, images)

    def p_yes(self, images: Vision | ReadImages, questions: Sequence[Sequence[str]]) -> list[Tensor]:
        """See :meth:`VLM.p_yes`; 1 or 0 where the endpoint gives no log-probabilities.

        Raises:
            UnavailableError: The endpoint cannot be asked, or the limit is reached.
        """
        seen = self.read(images).vision.images
        asked = [self._asked(s, q) for s, of_image in zip(seen, questions, strict=True) for q in of_image]
        values = torch.tensor(self.connection.map(self._verdict, asked), dtype=torch.float32)
        return list(values.split([len(of_image) for of_image in questions]))  # type: ignore[no-untyped-call]

    def _verdict(self, asked: _Asked) -> float:
        # Of a server with edits what it sees counts, and not what it was told.
        bare: dict[str, Any] = {"extra_body": {"reasonedit": {"edits": False}}} if self.served.choices else {}
        if self.served.candidates:
            options = {**self.served.options(1, candidates=True), **bare}
            reply = self.connection.chat(self._messages(asked), **options)
            value = next((p_yes_of(step) for step in steps_of(reply.choices[0])[:1]), None)
            if value is not None:
                return value
        options = {**self.served.options(_LONGEST_VERDICT), **bare}
        reply = self._answer(replace(asked, text=asked.text + _YES_OR_NO), options)
        said = said_yes(reply.text)
        if said is None:
            self._count_evasion(reply.text)
        return said or 0.0

    def _count_evasion(self, said: str) -> None:
        with self._counting:
            self._evaded += 1
            first = self._evaded == 1
        if first:
            _log.warning(
                "'%s' answered '%s…', which is neither yes nor no: it counts as no. This is said once.",
                to_safe_text(self.name), to_safe_text(said[:60]),
            )  # fmt: skip

    @property
    def _no_likelihoods(self) -> str:
        return (
            f"the endpoint {self.connection.address} does not say how probable each token of a prompt is "
            "(prompt_logprobs, as vLLM does)."
        )

    def check_likelihoods(self) -> None:
        """See :meth:`VLM.check_likelihoods`."""
        if not self.served.likelihoods:
            raise NotServedError(f"The design scores sentences by their likelihoods, and {self._no_likelihoods}")

    def sentence_nll(
        self, images: Vision | ReadImages, question: str, sentences: Sequence[Sequence[str]]
    ) -> list[Tensor]:
        """See :meth:`VLM.sentence_nll`."""
        self.check_likelihoods()
        seen = self.read(images).vision.images
        texts = [(self._asked(s, question), self.clean(t)) for s, of in zip(seen, sentences, strict=True) for t in of]
        logs = self.connection.map(lambda parts: self._logs(*parts), texts)
        values = torch.tensor([-sum(of_text) / len(of_text) for of_text in logs], dtype=torch.float32)
        return list(values.split([len(of) for of in sentences]))  # type: ignore[no-untyped-call]


def _length_of(choice: str) -> int:
    """About the most tokens that a choice takes."""
    return len(choice) // 2 + 4
