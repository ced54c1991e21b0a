"""Chat completions that a server behind this one answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from reasonedit.types import Query

from .chat_request import ChatRequest, Conversation
from .facts_view import NO_PICTURE, NO_QUESTION, NOT_ASKED, headers_of, view_facts
from .gateway import Gateway
from .pictures import as_data_uri
from .problems import ApiError
from .proxy import Passed


async def pass_on(
    gateway: Gateway,
    body: ChatRequest,
    raw: dict[str, Any],
    talk: Conversation,
    request: Request,
    parts: dict[str, float],
) -> Response:
    """Have the server behind answer, with facts before the last question; everything else passes unchanged.

    Args:
        gateway: The gateway.
        body: The request.
        raw: The same as it came, its pictures in the places of their addresses.
        talk: What it asks.
        request: What it came in.
        parts: Milliseconds of each part so far.
    """
    proxy = gateway.proxy
    assert proxy is not None
    picture = talk.picture if body.reasonedit.edits and talk.question.strip() else None
    query = Query(picture, talk.question) if picture is not None else None
    passed = await gateway.ask(lambda: proxy.prepare(raw, query))
    why_not = NOT_ASKED if not body.reasonedit.edits else NO_PICTURE if talk.picture is None else NO_QUESTION

    def field_of(passed: Passed) -> dict[str, Any]:
        return view_facts(passed.answer, gateway.memory, passed.ms, why_not)

    async def finish() -> None:
        found = passed.answer
        await gateway.do(lambda: gateway.note(request, query, found, field_of(passed), {**parts, **passed.ms}))

    if not body.stream:
        answer = await proxy.complete(passed)
        await finish()
        field = field_of(passed)
        return JSONResponse({**answer, "model": gateway.settings.model, "reasonedit": field}, headers=headers_of(field))
    events = proxy.stream(passed, field_of)
    await anext(events)  # a server that refuses is known before the answer begins
    headers = headers_of(field_of(passed))

    async def stream() -> AsyncIterator[str]:
        try:
            async for event in events:
                yield event
        finally:  # also where the client has gone: then the server behind need not go on
            await events.aclose()  # type: ignore[attr-defined]
        if passed.whole:
            await finish()

    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


def embed_pictures(messages: list[dict[str, Any]], gateway: Gateway) -> None:
    """Put pictures in the places of their addresses: what is seen here is what the server behind is sent.

    Raises:
        ApiError: An address is none of a picture, or must not be read.
    """
    for number, message in enumerate(messages):
        for place, part in enumerate(message["content"] if isinstance(message.get("content"), list) else ()):
            for name, source in part.items() if isinstance(part, dict) else ():
                url = source.get("url") if isinstance(source, dict) else source if name.endswith("url") else None
                if not isinstance(url, str) or url[:5].lower() == "data:":
                    continue
                where = f"messages[{number}].content[{place}].{name}"
                if (name, part.get("type")) != ("image_url", "image_url"):
                    raise ApiError(400, "Only a picture may have an address: send a data URI.", "invalid_url", where)
                picture = as_data_uri(gateway.pictures.read(url, where))
                part[name] = {**source, "url": picture} if isinstance(source, dict) else {"url": picture}
