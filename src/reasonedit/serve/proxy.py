"""A thin proxy: facts are found here, and a server behind this one answers."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reasonedit.call_batcher import CallBatcher
from reasonedit.editor import ReasonEditor
from reasonedit.explain import make_answer
from reasonedit.prompts import with_facts
from reasonedit.retrieval import Retrieval
from reasonedit.types import Answer, Query
from reasonedit.vlm import Reply
from reasonedit.vlm.endpoint.messages import text_of

from .completion import DONE, event_of
from .problems import ApiError
from .settings import Upstream

_MOST_EVENT = 16 * 2**20
"""Bytes of one event of a stream: more is no answer."""


@dataclass
class Passed:
    """What passes through for one request.

    Attributes:
        body: What the server behind is sent.
        found: The facts; ``None`` where the codebook does not count.
        ms: Milliseconds of each part.
        text: What was answered so far.
        finish_reason: Why the answer ended.
        whole: Whether the answer came to its end; with several answers, the first of them.
    """

    body: dict[str, Any]
    found: Retrieval | None = None
    ms: dict[str, float] = field(default_factory=dict)
    text: str = ""
    finish_reason: str = "stop"
    whole: bool = False

    @property
    def content(self) -> bytes:
        """The body in ASCII: halves of characters, which some clients cut texts into, pass as they came."""
        return json.dumps(self.body).encode()

    @property
    def answer(self) -> Answer | None:
        """The answer with its facts."""
        if self.found is None:
            return None
        return make_answer(Reply(self.text, "", self.finish_reason), self.found, "")


class Proxy:
    """Sends requests on, with facts before their last question, and answers back.

    Args:
        upstream: The server behind.
        editor: What finds facts: its VLM's vision part is here.
    """

    def __init__(self, upstream: Upstream, editor: ReasonEditor) -> None:
        import httpx2

        self.upstream, self.editor = upstream, editor
        self._batcher: CallBatcher[Query, tuple[Retrieval, float]] = CallBatcher(self._find)
        headers = {"Content-Type": "application/json"}
        if upstream.api_key:
            headers["Authorization"] = f"Bearer {upstream.api_key}"
        timeout = httpx2.Timeout(upstream.patience, connect=min(10.0, upstream.patience))
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx2.AsyncClient(
            base_url=upstream.url.rstrip("/") + "/", headers=headers, timeout=timeout, limits=limits
        )
        self._failures: tuple[type[Exception], ...] = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError)
        self._breaks = (*self._failures, ValueError)  # no event, or no text
        self._too_slow: type[Exception] = httpx2.TimeoutException

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def prepare(self, body: Mapping[str, Any], query: Query | None) -> Passed:
        """Make what is sent on: the request as it came, with facts before its last question.

        Args:
            body: The request.
            query: Its last question; ``None`` where no facts are sought.

        Raises:
            ReasonEditError: The picture cannot be used, or the codebook cannot be read.
        """
        body = {name: value for name, value in copy.deepcopy(dict(body)).items() if name != "reasonedit"}
        body["model"] = self.upstream.model
        if query is None:
            return Passed(body)
        found, ms = self._batcher.ask(query)
        _put_before(body["messages"], [self.editor.vlm.clean(text) for text in found.facts])
        return Passed(body, found, {"retrieve": ms})

    def _find(self, queries: Sequence[Query]) -> list[tuple[Retrieval, float]]:
        """Find facts for questions, and how many milliseconds it took for all of them."""
        pipeline, began = self.editor.pipeline, time.perf_counter()
        pipeline.memory.refresh()
        questions, images = [query.question for query in queries], [query.image for query in queries]
        ahead = pipeline.embedder.begin_texts(questions) if pipeline.memory.edits else None
        vision = pipeline.see(images)
        pipeline.watch(images, vision)
        found = pipeline.retrieve(vision, questions, ahead)
        _, fitted = pipeline.prompts(vision, questions, found, None, self.editor.generation)
        return [(retrieval, 1e3 * (time.perf_counter() - began)) for retrieval in fitted]

    async def complete(self, passed: Passed) -> dict[str, Any]:
        """The answer as the server behind gives it.

        Raises:
            ApiError: It gives none.
        """
        began = time.perf_counter()
        try:
            response = await self._client.post("chat/completions", content=passed.content)
        except self._failures as error:
            raise self._unreachable(error) from error
        if response.status_code != 200:
            raise _refusal(response.status_code, response.headers, response.content)
        passed.ms["answer"] = 1e3 * (time.perf_counter() - began)
        try:
            answer = json.loads(response.content)
            choice = _first(answer["choices"]) or answer["choices"][0]
            passed.text = text_of((choice.get("message") or {}).get("content"))
            passed.finish_reason, passed.whole = str(choice.get("finish_reason") or "stop"), True
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ApiError(502, "The model's server did not answer with a chat completion.", "bad_upstream") from error
        return dict(answer)

    async def stream(self, passed: Passed, last: Callable[[Passed], Mapping[str, Any]]) -> AsyncIterator[str]:
        """The answer's events as they come; nothing comes before the server behind has begun to answer.

        Args:
            passed: What passes through; its text grows.
            last: What the chunk that ends the answer holds besides.

        Raises:
            ApiError: It does not begin to. Where it breaks off later, the last event says so.
        """
        began = time.perf_counter()
        request = self._client.build_request("POST", "chat/completions", content=passed.content)
        try:
            response = await self._client.send(request, stream=True)
        except self._failures as error:
            raise self._unreachable(error) from error
        try:
            if response.status_code != 200:
                raise _refusal(response.status_code, response.headers, await response.aread())
            yield ""  # it has begun
            done = False
            async for event in _events(_lines(response.aiter_bytes())):
                done = done or _data_of(event) == "[DONE]"
                passed.ms["answer"] = 1e3 * (time.perf_counter() - began)
                yield self._watch(event, passed, last)
            if not done:
                yield event_of(_broken_off().body)
        except self._breaks as error:
            yield event_of((self._unreachable(error) if isinstance(error, self._too_slow) else _broken_off()).body)
        finally:
            await response.aclose()

    def _watch(self, event: str, passed: Passed, last: Callable[[Passed], Mapping[str, Any]]) -> str:
        """An event, unchanged unless it ends the first answer; its text is noted."""
        try:
            values = json.loads(_data_of(event))
            choice = _first(values["choices"])
            if choice is None:
                return event
            passed.text += text_of((choice.get("delta") or {}).get("content"))
            if not choice.get("finish_reason"):
                return event
            passed.finish_reason, passed.whole = str(choice["finish_reason"]), True
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return event
        return event_of({**values, "reasonedit": dict(last(passed))})

    def _unreachable(self, error: Exception) -> ApiError:
        if isinstance(error, self._too_slow):
            seconds = f"{self.upstream.patience:g}"
            return ApiError(504, f"The model's server said nothing for {seconds} seconds.", "upstream_timeout")
        return ApiError(502, f"The model's server cannot be reached ({type(error).__name__}).", "upstream_unreachable")


def _first(choices: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Of several answers (``n``) the first, which alone is noted: in a stream their parts come mixed."""
    return next((choice for choice in choices if not choice.get("index")), None)


async def _lines(parts: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The lines of server-sent events: U+2028 and the like, which httpx splits at, too, are a part of a text there."""
    rest = b""
    async for part in parts:
        lines = (rest + part).splitlines(keepends=True)
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        if len(rest) > _MOST_EVENT:
            raise ValueError("a line without end")
        for line in lines:
            yield line.decode(errors="replace").rstrip("\r\n")
    if rest:
        yield rest.decode(errors="replace").rstrip("\r")


def _data_of(event: str) -> str:
    """The data of an event, which may have comments and a name besides."""
    return "\n".join(line[5:].strip() for line in event.split("\n") if line.startswith("data:"))


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """Server-sent events, whole, from their lines."""
    event: list[str] = []
    size = 0
    async for line in lines:
        size += len(line)
        if size > _MOST_EVENT:
            raise ValueError("an event without end")
        if line:
            event.append(line)
        elif event:
            yield "\n".join(event) + "\n\n"
            event, size = [], 0
    if event == [DONE.strip()]:  # some servers end without the empty line; of anything else a part may be missing
        yield DONE


def _put_before(messages: list[dict[str, Any]], facts: Sequence[str]) -> None:
    """Put facts before the last text that the user says; pictures, or turns of tools, may come after it."""
    if not facts:
        return
    for message in (message for message in reversed(messages) if message.get("role") == "user"):
        content = message.get("content")
        if isinstance(content, str) and content.strip():
            message["content"] = with_facts(facts, content)
            return
        for part in content if isinstance(content, list) else ():
            if part.get("type") == "text" and part["text"].strip():
                part["text"] = with_facts(facts, part["text"])
                return


def _broken_off() -> ApiError:
    return ApiError(502, "The model's server broke off in the middle of its answer.", "upstream_broke_off")


def _refusal(status: int, headers: Mapping[str, str], content: bytes) -> ApiError:
    """What a client is told where the server behind refuses: what that says, as far as it is about the request."""
    try:
        told = json.loads(content)
        told = told.get("error", told)
        message = str(told.get("message") or told.get("detail") or "")[:2000] if isinstance(told, dict) else str(told)
        code = told.get("code") if isinstance(told, dict) else None
    except (ValueError, AttributeError, RecursionError):
        message, code = "", None
    message = " ".join(message.split()) or "it gives no reason"
    if status in (401, 403):  # our key, which is no concern of the client's
        return ApiError(502, "The model's server refuses this server's key.", "upstream_refuses_key")
    wait = {"Retry-After": headers["retry-after"]} if str(headers.get("retry-after", "")).isdigit() else {}
    if 400 <= status < 500:
        return ApiError(status, f"The model's server says: {message}", str(code) if code else None, headers=wait)
    return ApiError(502, f"The model's server failed ({status}): {message}", "upstream_failed", headers=wait)
