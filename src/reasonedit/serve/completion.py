"""Answers in the shape of OpenAI's chat completions, whole or in chunks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from reasonedit.vlm.logprobs import TokenLogprob

from .asked import Told

DONE = "data: [DONE]\n\n"


def completion_of(told: Told, request_id: str, model: str, stops: Sequence[str], field: Mapping[str, Any]) -> Any:
    """An answer as a whole.

    Args:
        told: The answer.
        request_id: The request's id.
        model: The model's name.
        stops: Texts at which the answer ends.
        field: What the codebook did.
    """
    text, finish_reason, logprobs = _cut(told, stops)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if told.answer.thought:
        message["reasoning_content"] = told.answer.thought
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": _view(logprobs)}
    head = _head(request_id, model, "chat.completion")
    return {**head, "choices": [choice], "usage": usage_of(told), "reasonedit": dict(field)}


class Chunks:
    """An answer in chunks, as server-sent events.

    Args:
        request_id: The request's id.
        model: The model's name.
        usage: Whether a last chunk says how many tokens there were.
    """

    def __init__(self, request_id: str, model: str, *, usage: bool) -> None:
        self._head, self._usage = _head(request_id, model, "chat.completion.chunk"), usage

    def first(self) -> str:
        """Who speaks."""
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> str:
        """A piece of the answer."""
        return self._chunk({"content": text})

    def last(
        self, told: Told, stops: Sequence[str], rest: Callable[[str], str], field: Mapping[str, Any]
    ) -> Iterator[str]:
        """What is left to be sent once the whole answer is there.

        Args:
            told: The answer.
            stops: Texts at which it ends.
            rest: What of its text was not sent yet.
            field: What the codebook did; it is in the chunk that ends the answer.
        """
        text, finish_reason, logprobs = _cut(told, stops)
        if told.answer.thought:
            yield self._chunk({"reasoning_content": told.answer.thought})
        if rest(text):
            yield self._chunk({"content": rest(text)}, logprobs=_view(logprobs))
        yield self._chunk({}, finish_reason, reasonedit=dict(field))
        if self._usage:
            yield event_of({**self._head, "choices": [], "usage": usage_of(told)})
        yield DONE

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None, logprobs: Any = None, **more: Any) -> str:
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish, "logprobs": logprobs}
        return event_of({**self._head, "choices": [choice], **({"usage": None} if self._usage else {}), **more})


def event_of(values: Mapping[str, Any]) -> str:
    """A server-sent event that holds JSON."""
    return f"data: {json.dumps(dict(values), ensure_ascii=False)}\n\n"


def usage_of(told: Told) -> dict[str, int]:
    """How many tokens there were."""
    total = told.prompt_tokens + told.completion_tokens
    return {
        "prompt_tokens": told.prompt_tokens,
        "completion_tokens": told.completion_tokens,
        "total_tokens": total,
    }


def _head(request_id: str, model: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{request_id}", "object": kind, "created": int(time.time()), "model": model}


def _cut(told: Told, stops: Sequence[str]) -> tuple[str, str, list[TokenLogprob] | None]:
    """The text of an answer up to the first place where it is to end, why it ends there, and its tokens up to there."""
    text, logprobs = told.answer.text, list(told.logprobs) if told.logprobs is not None else None
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    if not places:
        return text, told.answer.finish_reason, logprobs
    kept, length = [], 0
    for token in logprobs or ():
        if length >= min(places):
            break
        kept.append(token)
        length += len(token.text)
    return text[: min(places)], "stop", kept if logprobs is not None else None


def _view(logprobs: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    if logprobs is None:
        return None
    content = []
    for token in logprobs:
        top = [_view_token(*other) for other in token.top]
        content.append({**_view_token(token.text, token.logprob), "top_logprobs": top})
    return {"content": content, "refusal": None}


def _view_token(text: str, logprob: float) -> dict[str, Any]:
    # An impossible token is at minus infinity, which JSON does not have.
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode("utf-8", "replace"))}
