"""The server as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from reasonedit.codebook.events import package_version
from reasonedit.editor import ReasonEditor
from reasonedit.errors import ReasonEditError
from reasonedit.safe_text import to_safe_text
from reasonedit.traces import KeptQuestions

from . import chat, checks, edits, exchange, review
from .edge import Edge
from .gateway import Gateway, gateway_of
from .page_files import mount_page, page_samples
from .problems import ApiError, as_api_error
from .settings import Settings

router = APIRouter(tags=["server"])


def create_app(editors: Sequence[ReasonEditor], settings: Settings, questions: KeptQuestions | None = None) -> FastAPI:
    """The server.

    Args:
        editors: An editor for each copy of the model, all opened on the same folder.
        settings: What it is set to do.
        questions: Where questions are kept, if they are.
    """
    gateway = Gateway(editors, settings, questions)

    @asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        yield
        if gateway.proxy is not None:
            await gateway.proxy.close()

    app = FastAPI(
        title="ReasonEdit",
        version=package_version(),
        description="A vision-language model with a codebook of corrections, behind OpenAI's protocol.",
        lifespan=live,
        docs_url=None,  # their scripts come from somebody else's server
        redoc_url=None,
    )
    app.state.gateway = gateway
    # /v1/edits/check, export and import come before /v1/edits/{id}.
    for part in (router, chat.router, checks.router, exchange.router, edits.router, review.router):
        app.include_router(part)
    for kind in (ApiError, ReasonEditError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _tell)
    app.add_middleware(Edge, settings=settings, metrics=gateway.metrics)
    mount_page(app)
    return app


@router.get("/health")
async def show_health(request: Request) -> dict[str, str]:
    """Whether the server answers."""
    return {"status": "ok", "model": gateway_of(request).settings.model}


@router.get("/metrics", response_class=Response)
async def show_metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    gateway = gateway_of(request)

    def count() -> bytes:
        memory = gateway.memory
        with suppress(ReasonEditError):  # the figures of requests are wanted even where the codebook cannot be read
            memory.refresh()
        with memory.guard:
            counts = {"active": len(memory.edits), "undone": len(memory.undone)}
        for state, number in counts.items():
            gateway.metrics.edits.labels(state).set(number)
        return gateway.metrics.text()

    return Response(await gateway.do(count), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/info")
async def show_info(request: Request) -> dict[str, Any]:
    """What the server is set to do."""
    gateway = gateway_of(request)
    settings = gateway.settings
    return {
        "model": settings.model,
        "codebook": settings.codebook,
        "version": package_version(),
        "read_only": settings.read_only,
        "keeps_questions": gateway.questions is not None,
        "needs_key": bool(settings.api_key),
        "upstream": settings.upstream is not None,
        "limits": {"body_mb": settings.body_mb, "pixels": settings.pixels},
        "notes": list(settings.notes),
        "author": gateway.author_of(request, None) or None,
        "samples": page_samples(gateway.editor.vlm.name),
    }


_PLAINER = {404: "There is nothing at this path.", 405: "Nothing is done by this method at this path."}


async def _tell(request: Request, error: Exception) -> Response:
    """Say what went wrong as OpenAI's API does."""
    told = _describe(error, request.state.id)
    return JSONResponse(told.body, status_code=told.status, headers=told.headers)


def _describe(error: Exception, request_id: str) -> ApiError:
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return ApiError(400, "The body is not JSON.", "json_invalid")
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        message = to_safe_text(f"{place}: {first['msg']}" if place else str(first["msg"]))
        return ApiError(400, message[:1000], str(first["type"]), to_safe_text(place)[:200] or None)
    if isinstance(error, HTTPException):
        message = _PLAINER.get(error.status_code) or str(error.detail)
        return ApiError(error.status_code, message, headers=error.headers)
    return as_api_error(error, request_id)
