"""``/v1/chat/completions`` and ``/v1/models``."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from reasonedit.types import Query

from .asked import Asked, Told
from .chat_request import ChatRequest, Conversation, check_local, conversation_of, generation_of, stops_of
from .completion import Chunks, completion_of, event_of
from .facts_view import headers_of, view_facts
from .gateway import Gateway, add_to_log, gateway_of, texts_of
from .passing import embed_pictures, pass_on
from .problems import ApiError, as_api_error
from .streaming import Stream

router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """The one model that is served."""
    return {"object": "list", "data": [_model(gateway_of(request))]}


@router.get("/v1/models/{name:path}")
async def show_model(name: str, request: Request) -> dict[str, Any]:
    """The model, by its name."""
    gateway = gateway_of(request)
    _check_model(name, gateway)
    return _model(gateway)


@router.post("/v1/chat/completions", response_model=None)
async def complete(body: ChatRequest, request: Request) -> Response:
    """Answer a question about a picture, with the facts of edits before it."""
    gateway, began = gateway_of(request), time.perf_counter()
    add_to_log(request, model=body.model[:200])
    _check_model(body.model, gateway)
    passes = gateway.proxy is not None and not body.reasonedit.choices
    raw: dict[str, Any] = await request.json() if passes else {}

    def read() -> Conversation:
        if passes:
            embed_pictures(raw["messages"], gateway)
        return conversation_of(raw["messages"] if passes else body.messages, gateway.pictures, behind=passes)

    talk = await gateway.do(read)
    parts = {"read": 1e3 * (time.perf_counter() - began)}
    add_to_log(request, **texts_of(gateway.settings, question=talk.question))
    if passes:
        return await pass_on(gateway, body, raw, talk, request, parts)
    return await _answer_here(gateway, body, talk, request, parts)


async def _answer_here(
    gateway: Gateway, body: ChatRequest, talk: Conversation, request: Request, parts: dict[str, float]
) -> Response:
    """Answer with the local model, or choose among choices."""
    check_local(body)
    stops = stops_of(body)
    if talk.picture is None:
        raise ApiError(400, "There is no picture: the model answers questions about one.", "no_image", "messages")
    if talk.pictures > 1:
        raise ApiError(400, "There are several pictures: the model here takes one.", "several_images", "messages")
    asked = Asked(
        Query(talk.picture, talk.question, body.reasonedit.choices),
        generation_of(body, gateway.editor.generation),
        talk.earlier,
        body.reasonedit.edits,
        (body.top_logprobs or 0) if body.logprobs else None,
        body.seed,
    )
    before, name = time.perf_counter(), gateway.settings.model

    async def finish(told: Told) -> dict[str, Any]:
        wait = max(0.0, 1e3 * (time.perf_counter() - before) - sum(told.ms.values()))
        return await gateway.do(lambda: _finish(gateway, request, asked, told, {**parts, **told.ms, "wait": wait}))

    if not body.stream:
        told = await gateway.ask(lambda: _ask(gateway, asked))
        field = await finish(told)
        return JSONResponse(completion_of(told, request.state.id, name, stops, field), headers=headers_of(field))
    usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    stream, chunks = Stream(stops), Chunks(request.state.id, name, usage=usage)
    found = await stream.begin(asked, lambda one: gateway.ask(lambda: _ask(gateway, one)))
    headers = headers_of(view_facts(found if asked.edits else None, gateway.memory, {}))

    async def events() -> AsyncIterator[str]:
        yield chunks.first()
        try:
            async for piece in stream.pieces():
                yield chunks.piece(piece)
            assert stream.answer is not None
            told = await stream.answer
            for event in chunks.last(told, stops, stream.rest, await finish(told)):
                yield event
        except Exception as error:  # what has begun can only say so in its last event
            yield event_of(as_api_error(error, request.state.id).body)

    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def _ask(gateway: Gateway, asked: Asked) -> Told:
    if gateway.models is not None:
        return gateway.models.ask(asked)
    if asked.earlier or not asked.edits:
        raise ApiError(400, "Choices of a model behind a server are asked with edits and without other turns.")
    began, query = time.perf_counter(), asked.query
    answer = gateway.editor.ask(query.image, query.question, query.choices)
    return Told(answer, 0, 0, None, {"answer": 1e3 * (time.perf_counter() - began)})


def _finish(gateway: Gateway, request: Request, asked: Asked, told: Told, parts: Mapping[str, float]) -> dict[str, Any]:
    """Count, keep and log an answer.

    Returns:
        What the codebook did.
    """
    if asked.edits:
        gateway.memory.refresh()  # the copy of the model that answered may have read more
    field = view_facts(told.answer if asked.edits else None, gateway.memory, told.ms)
    gateway.metrics.tokens.labels("prompt").inc(told.prompt_tokens)
    gateway.metrics.tokens.labels("completion").inc(told.completion_tokens)
    gateway.note(request, asked.query, told.answer if asked.edits else None, field, parts)
    return field


def _model(gateway: Gateway) -> dict[str, Any]:
    model = {"id": gateway.settings.model, "object": "model", "created": gateway.began, "owned_by": "reasonedit"}
    length = getattr(gateway.editor.vlm, "context_length", None)
    return model if length is None else {**model, "max_model_len": length}  # as vLLM calls it


def _check_model(name: str, gateway: Gateway) -> None:
    """Refuse another model than the one that is served."""
    if name != gateway.settings.model:
        served = gateway.settings.model
        raise ApiError(404, f"There is no model {name[:200]!r} here: '{served}' is served.", "model_not_found", "model")
