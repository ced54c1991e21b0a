"""What an endpoint gives, found out once: log-probabilities, likelihoods of prompts, names of parameters."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from reasonedit.safe_text import to_safe_text

from .connection import Connection, RefusedError
from .messages import data_uri, messages_of
from .scores import logs_of_last, steps_of

_log = logging.getLogger(__name__)

_MOST_CANDIDATES = 20  # what OpenAI and vLLM allow
_FEWER = {_MOST_CANDIDATES: 5, 5: 0}
_LENGTHS = ("max_model_len", "context_length", "max_context_length", "context_window")
_WORD = "Grey"
_AS_ASKED = "as it was asked to:"


@dataclass(frozen=True)
class Served:
    """What an endpoint gives of a model.

    Attributes:
        candidates: How many of the most probable tokens it names in each place; 0 where it names none.
        likelihoods: Whether it says how probable each token of a prompt is, as vLLM does.
        choices: Whether it takes the choices of a question and answers with one of them, as ``reasonedit serve`` does.
        context_length: Number of tokens that the model reads, where it says so.
        limit: Its name of the parameter that limits an answer.
        takes_temperature: Whether it can be asked for the likeliest answer.
    """

    candidates: int = _MOST_CANDIDATES
    likelihoods: bool = False
    choices: bool = False
    context_length: int | None = None
    limit: str = "max_tokens"
    takes_temperature: bool = True

    def options(self, length: int, *, candidates: bool = False) -> dict[str, Any]:
        """Values of a request for the likeliest answer.

        Args:
            length: The most tokens of the answer.
            candidates: Whether the most probable tokens are asked for.
        """
        options: dict[str, Any] = {self.limit: length}
        if self.takes_temperature:
            options["temperature"] = 0.0
        if candidates and self.candidates:
            options |= {"logprobs": True, "top_logprobs": self.candidates}
        return options

    @property
    def lacks(self) -> list[str]:
        """What it does not give, in words, with what follows from it."""
        lacks = []
        if not self.candidates:
            lacks.append(
                "no log-probabilities (a window is verified by the yes or no that it says, a choice by its words)"
            )
        if not self.likelihoods:
            lacks.append("no likelihoods of texts (designs that need them are refused)")
        if self.context_length is None:
            lacks.append("no length of its context (no facts are left out for want of room)")
        return lacks


def find_out(connection: Connection) -> Served:
    """Ask an endpoint a little about a grey picture, and say in one line what it does not give.

    Raises:
        ReasonEditError: It cannot be asked at all; see :meth:`Connection.chat`.
    """
    grey = data_uri(Image.new("RGB", (64, 64), (128, 128, 128)), "png")
    served, reply = _ask(connection, grey)
    lengths = (connection.about_model().get(name) for name in _LENGTHS)
    served = replace(
        served,
        candidates=served.candidates if steps_of(reply.choices[0]) else 0,
        choices=isinstance((reply.model_extra or {}).get("reasonedit"), dict),
        context_length=next((length for length in lengths if isinstance(length, int)), None),
    )
    served = replace(served, likelihoods=_gives_likelihoods(connection, grey, served))
    if served.lacks:
        name = to_safe_text(connection.settings.model)
        _log.warning("The endpoint %s gives of '%s': %s.", connection.address, name, "; ".join(served.lacks))
    return served


def _ask(connection: Connection, picture: str) -> tuple[Served, Any]:
    """Ask with fewer and fewer parameters, until the endpoint takes them."""
    messages, served = messages_of(picture, "What colour is this?"), Served()
    while True:
        try:
            return served, connection.chat(messages, **served.options(1, candidates=True))
        except RefusedError as error:
            easier = _easier(served, str(error).lower())
            if easier is None:
                raise
            served = easier


def _easier(served: Served, said: str) -> Served | None:
    """What is left to be asked for, where an endpoint refused something; ``None`` where nothing is."""
    if "max_completion_tokens" in said and served.limit == "max_tokens":
        return replace(served, limit="max_completion_tokens")
    if "temperature" in said and served.takes_temperature:
        return replace(served, takes_temperature=False)
    # Some say no more than that they refuse it; where it is the model that they do not have, nothing is left to try.
    if served.candidates and ("logprob" in said or "model" not in said.partition(_AS_ASKED)[2]):
        return replace(served, candidates=_FEWER[served.candidates])
    return None


def _gives_likelihoods(connection: Connection, picture: str, served: Served) -> bool:
    try:
        return bool(likelihoods_of(connection, served, messages_of(picture, "What colour is this?"), _WORD))
    except RefusedError:
        return False


def likelihoods_of(
    connection: Connection, served: Served, messages: list[dict[str, Any]], text: str
) -> list[float] | None:
    """Log-likelihoods of the tokens of a text as the answer to messages, by vLLM's ``prompt_logprobs``.

    Returns:
        One value per token; ``None`` where the endpoint does not say.
    """
    said = [*messages, {"role": "assistant", "content": text}]
    goes_on = {"prompt_logprobs": 0, "add_generation_prompt": False, "continue_final_message": True}
    reply = connection.chat(said, **served.options(1), extra_body=goes_on)
    return logs_of_last((reply.model_extra or {}).get("prompt_logprobs"), text)
