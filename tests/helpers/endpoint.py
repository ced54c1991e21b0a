"""An OpenAI-compatible endpoint on loopback, well-behaved or not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[int], Any]
"""What is done at the n-th request: a status code, raw text, bytes that are cut off, ``LATE``, or None to answer."""

LATE = object()
"""The answer comes later than the client waits, see :func:`late_answers`."""
_LATE = "x-late"


def late_answers(patch: Any) -> None:
    """Let the client give up on late answers, as it does when its time is over: but no time need go by."""
    import importlib

    import openai

    # The HTTP library below openai's client, whichever of its two names it bears.
    httpx = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
    real = httpx.HTTPTransport.handle_request

    def handle(self: Any, request: Any) -> Any:
        response = real(self, request)
        if _LATE in response.headers:
            response.close()
            raise httpx.ReadTimeout("The read operation timed out", request=request)
        return response

    patch.setattr(httpx.HTTPTransport, "handle_request", handle)


class Endpoint(ThreadingHTTPServer):
    """Answers chat completions by a function of the request.

    It returns a text; or a dict with ``content`` and more of the ``choice`` and the ``body``; or a status, by itself or
    with what is said of it.
    """

    daemon_threads = True

    def __init__(self, reply: Callable[[dict[str, Any]], Any], behaviour: Behaviour = lambda n: None) -> None:
        self.reply, self.behaviour, self.requests = reply, behaviour, []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """What OPENAI_BASE_URL is to be."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        what = self.server.behaviour(len(self.server.requests) - 1)
        if isinstance(what, int):
            return self._send(what, json.dumps({"error": {"message": f"this is a {what}"}}))
        if isinstance(what, (str, bytes)):
            return self._send(200, what)
        said = self.server.reply(request)
        if isinstance(said, int):
            return self._send(said, json.dumps({"error": {"message": f"this is a {said}"}}))
        if isinstance(said, tuple):  # a status, and what is said of it
            return self._send(said[0], json.dumps({"error": {"message": said[1]}}))
        parts = said if isinstance(said, dict) else {"content": said}
        message = {"role": "assistant", "content": parts.get("content", "")}
        choice = {"index": 0, "finish_reason": "stop", "message": message, **parts.get("choice", {})}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": request["model"], "choices": [choice]}
        return self._send(200, json.dumps({**body, **parts.get("body", {})}), late=what is LATE)

    def do_GET(self) -> None:
        listed = {"object": "list", "data": [{"id": "tiny", "object": "model", "created": 0, "max_model_len": 2048}]}
        self._send(200, json.dumps(listed))

    def _send(self, status: int, body: str | bytes, *, late: bool = False) -> None:
        """Send a body; of bytes only the first half, as a server does that is killed meanwhile."""
        try:
            self.send_response(status)
            if isinstance(body, bytes):
                self.send_header("Content-Length", str(2 * len(body)))
            self.send_header("Content-Type", "application/json")
            self.send_header("retry-after-ms", "10")
            if late:
                self.send_header(_LATE, "1")
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else body.encode())
        except BrokenPipeError:  # the client did not wait
            pass

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""


@contextmanager
def serving(reply: Callable[[dict[str, Any]], Any], behaviour: Behaviour = lambda n: None) -> Iterator[Endpoint]:
    """An endpoint that runs."""
    server = Endpoint(reply, behaviour)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
