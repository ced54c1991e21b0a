"""A request of ``/v1/chat/completions``, and the question about a picture that is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from reasonedit.errors import InputError
from reasonedit.validation import check_characters
from reasonedit.vlm import Generation, Turn
from reasonedit.vlm.generation import SAMPLING

from .pictures import PictureReader
from .problems import ApiError

EXAMPLE_PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLb"
    "SncAAAAFElEQVR4nGM8ISfHgA0wYRUdtBIA0MoBFD5jqJkAAAAASUVORK5CYII="
)
"""A red square of 8 x 8 pixels."""

EXAMPLE: dict[str, Any] = {
    "model": "embedded",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": EXAMPLE_PICTURE}},
                {"type": "text", "text": "What is the red object used for?"},
            ],
        }
    ],
    "max_tokens": 32,
}


class Extra(BaseModel):
    """What this server takes beyond OpenAI's protocol."""

    model_config = ConfigDict(extra="forbid")

    edits: bool = Field(True, description="Whether the codebook counts; without it the bare model answers.")
    choices: list[str] | None = Field(None, description="The choices of a multiple-choice question.")


class StreamOptions(BaseModel):
    """How an answer is streamed."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool | None = False


class ChatRequest(BaseModel):
    """A request of OpenAI's chat completions."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"example": EXAMPLE})

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=1000)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    reasonedit: Extra = Field(default_factory=lambda: Extra.model_validate({}))


@dataclass(frozen=True)
class Conversation:
    """What a request asks.

    Attributes:
        picture: The last picture of the last user's turn that has any.
        question: The text of the user's last turn.
        earlier: The turns before it.
        pictures: How many pictures there are in all.
    """

    picture: Image.Image | None
    question: str
    earlier: tuple[Turn, ...]
    pictures: int


_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


def conversation_of(messages: Sequence[dict[str, Any]], reader: PictureReader, *, behind: bool = False) -> Conversation:
    """Read the messages of a request.

    Args:
        messages: The messages.
        reader: Reads the picture.
        behind: Whether a server behind is sent the messages. Roles and parts of other kinds are its concern then, as
            are turns after the question (those of tools), and there may be no question.

    Raises:
        ApiError: They are no conversation whose last turn is the user's, or the picture cannot be read.
    """
    turns, pictures = _read_turns(messages, behind)
    while behind and turns and turns[-1][0] != "user":
        turns.pop()
    if behind and not turns:
        turns = [("user", "")]
    if turns[-1][0] != "user":
        raise ApiError(400, "The last turn must be the user's: it holds the question.", "invalid_value", "messages")
    if not turns[-1][1].strip() and not behind:
        raise ApiError(400, "The last turn has no text: ask a question.", "invalid_value", "messages")
    picture = reader.read(*pictures[-1]) if pictures else None
    return Conversation(picture, turns[-1][1], tuple(turns[:-1]), len(pictures))


def _read_turns(messages: Sequence[dict[str, Any]], behind: bool) -> tuple[list[Turn], list[tuple[str, str]]]:
    """What was said in turn, and the sources of the user's pictures with the fields that name them."""
    turns: list[Turn] = []
    pictures: list[tuple[str, str]] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        role = _ROLES.get(str(message.get("role")), "other" if behind else None)
        if role is None:
            raise ApiError(
                400, f"A role must be system, user or assistant, not {message.get('role')!r}.", "invalid_value", where
            )
        text, found = _read_content(message.get("content"), f"{where}.content", behind)
        if not behind:
            check_characters(text, f"text of {where}")
        if role == "user":
            pictures += found
        elif found and not behind:
            raise ApiError(400, "Only a turn of the user may hold a picture.", "invalid_value", where)
        if turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n{text}".strip())
        else:
            turns.append((role, text))
    return turns, pictures


def _read_content(content: Any, where: str, behind: bool) -> tuple[str, list[tuple[str, str]]]:
    """The text of a message, and the sources of its pictures with the fields that name them."""
    if content is None:
        return "", []
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise ApiError(400, "The content must be text or a list of parts.", "invalid_type", where)
    texts, pictures = [], []
    for number, part in enumerate(content):
        here = f"{where}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            source = part.get("image_url")
            source = source.get("url") if isinstance(source, dict) else source
            if not isinstance(source, str):
                raise ApiError(400, "The picture has no url.", "invalid_type", here)
            pictures.append((source, f"{here}.image_url"))
        elif kind == "text":
            raise ApiError(400, "The part has no text.", "invalid_type", here)
        elif not (behind and isinstance(part, dict)):
            raise ApiError(400, f"A part must be text or image_url, not {kind!r}.", "invalid_value", here)
    return "\n".join(texts), pictures


_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "store": (False,),
}
"""Fields that a local model does not take, and the values with which they, besides null, ask for nothing."""

_ABOUT_THE_CALLER = ("user", "metadata", "safety_identifier", "prompt_cache_key")


def check_local(request: ChatRequest) -> None:
    """Refuse what a local model does not do: nothing is ignored that would change an answer.

    Raises:
        ApiError: The request asks for it.
    """
    for name, value in (request.model_extra or {}).items():
        if value is None or name in _ABOUT_THE_CALLER or value in _NEUTRAL.get(name, ()):
            continue
        raise ApiError(400, f"The local model takes no '{name}': leave it out.", "unsupported_parameter", name)
    if request.n not in (None, 1):
        raise ApiError(400, "The local model gives one answer: leave n out.", "unsupported_parameter", "n")
    if request.top_logprobs is not None and not request.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs=true.", "invalid_value", "top_logprobs")
    if request.logprobs and request.reasonedit.choices:
        raise ApiError(400, "A choice has no logprobs: leave logprobs or the choices out.", "invalid_value", "logprobs")


def stops_of(request: ChatRequest) -> list[str]:
    """The texts at which an answer ends.

    Raises:
        ApiError: There are more than OpenAI allows, or one is empty.
    """
    stops = [request.stop] if isinstance(request.stop, str) else list(request.stop or ())
    if len(stops) > 4 or not all(stops):
        raise ApiError(400, "stop must be up to four texts.", "invalid_value", "stop")
    return stops


def generation_of(request: ChatRequest, default: Generation) -> Generation:
    """How a request has its answer made.

    Args:
        request: The request.
        default: How it is made where the request does not say.

    Raises:
        ApiError: It cannot be made so.
    """
    how = dict(default.generate_kwargs)
    if request.temperature == 0:  # greedy, whatever the server was started with
        how = {name: value for name, value in how.items() if name not in ("do_sample", *SAMPLING)}
    elif request.temperature is not None:
        how |= {"do_sample": True, "temperature": float(request.temperature)}
    if how.get("do_sample") and request.top_p is not None:
        how["top_p"] = float(request.top_p)
    length = request.max_completion_tokens or request.max_tokens or default.max_new_tokens
    try:
        return replace(default, max_new_tokens=length, generate_kwargs=how)
    except InputError as error:
        raise ApiError(400, str(error), "invalid_value") from error
