"""The edge of a server: what every request passes before a path sees it, and every answer on its way out."""

from __future__ import annotations

import hmac
import json
import time
import uuid
from datetime import datetime, timezone
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .observed import Metrics, log_request
from .problems import ApiError, as_api_error
from .settings import Settings

_GUARDED = ("/v1/", "/metrics")
"""Paths for which the key is needed. The page's own files and /health tell nobody anything."""


class Edge:
    """Checks the host, the key and the size of each request; logs and counts it; turns what was not foreseen into JSON.

    Args:
        app: What answers.
        settings: The bounds.
        metrics: The figures.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; see the class."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        handled = _Handled(scope, receive, send, self.settings)
        self.metrics.under_way.inc()
        try:
            self._check(scope)
            handled.check_length()
            await self.app(scope, handled.receive, handled.send)
        except HTTPException as error:
            await handled.fail(ApiError(error.status_code, error.detail))
        except Exception as error:
            await handled.fail(as_api_error(error, handled.id))
        finally:
            self.metrics.under_way.dec()
            self._note(scope, handled)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self.settings.hosts and name.strip("[]").lower() not in self.settings.hosts:
            raise ApiError(403, "This server is called by another name than that of this machine.", "wrong_host")
        key = self.settings.api_key
        if key and (scope["path"] + "/").startswith(_GUARDED):
            kind, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            if not given:
                raise ApiError(401, "This server needs a key: Authorization: Bearer KEY.", "missing_api_key")
            if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), key.encode()):
                raise ApiError(401, "The key is wrong.", "invalid_api_key")

    def _note(self, scope: Scope, handled: _Handled) -> None:
        route = getattr(scope.get("route"), "path_format", "other")
        self.metrics.requests.labels(route, str(handled.status)).inc()
        entry = {
            "id": handled.id,
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "method": scope["method"],
            "path": scope["path"][:500],
            "status": handled.status,
            "ms": round(1e3 * (time.perf_counter() - handled.began), 1),
            **scope["state"].get("log", {}),
        }
        if handled.gone:
            entry["client_gone"] = True
        log_request(entry)


class _Handled:
    """One request on its way through, and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: Settings) -> None:
        self.id, self.began, self.status = uuid.uuid4().hex, time.perf_counter(), 0
        self.gone, self._started = False, False
        self._scope, self._receive, self._send = scope, receive, send
        self._most, self._read = settings.body_mb * 2**20, 0
        scope.setdefault("state", {})
        scope["state"] |= {"id": self.id, "log": {}}

    def check_length(self) -> None:
        """Refuse a body that says that it is too large, before any of it is read."""
        length = dict(self._scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._most:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next part of the body, unless it grows too large."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = self.gone or not self._started
        self._read += len(message.get("body", b""))
        if self._read > self._most:
            raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        """A part of the answer, its head with the request's id."""
        if message["type"] == "http.response.start":
            self._started, self.status = True, message["status"]
            headers = {**_SAFE, **dict(message.get("headers", ())), b"x-request-id": self.id.encode()}
            message = {**message, "headers": list(headers.items())}
        await self._send(message)

    async def fail(self, error: ApiError) -> None:
        """Say what went wrong, if nothing was said yet; an answer that has begun breaks off."""
        if self._started:
            return
        body = json.dumps(error.body).encode()
        headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
        headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
        start: dict[str, Any] = {"type": "http.response.start", "status": error.status}
        await self.send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await self.send({"type": "http.response.body", "body": body})

    def _too_large(self) -> HTTPException:
        # FastAPI passes on errors of its own kind alone while it reads a body.
        return HTTPException(413, f"The body has more than {self._most >> 20} MiB, which is the limit.")


_SAFE = {b"x-content-type-options": b"nosniff", b"referrer-policy": b"no-referrer"}
"""Headers of every answer: a browser takes a picture for nothing else, and tells nobody where it was."""
