"""Running a server until it is asked to end."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from reasonedit.errors import UnavailableError
from reasonedit.util.signals import Interrupted

from .observed import REQUESTS

_GRACE = 60
"""Seconds in which what is being answered when the server is asked to end may be answered."""


def run_server(app: FastAPI, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C comes; then finish what is being answered.

    Args:
        app: The server.
        host: The address to listen at.
        port: The port; a free one where it is 0.
        ready: Told the server's URL once it listens.

    Raises:
        UnavailableError: The port is taken, or there is no such address.
    """
    listening = _listen(host, port)
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{listening.getsockname()[1]}"
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=_GRACE, lifespan="on"
    )
    server = _Server(config, lambda: ready(url))
    _log_requests()
    # The command line ends a process that does not end soon after a signal: uvicorn ends by itself, in its own time.
    wakes = signal.set_wakeup_fd(-1)
    try:
        server.run([listening])
    except (KeyboardInterrupt, Interrupted):  # uvicorn passes the signal on once it has ended
        pass
    finally:
        signal.set_wakeup_fd(wakes)
        listening.close()


class _Server(uvicorn.Server):
    """Says when it is there."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer; see uvicorn."""
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(1024)
        except BaseException:
            listening.close()
            raise
    except (OSError, OverflowError) as error:
        raise UnavailableError(f"The server cannot listen at {host}, port {port} ({error}): name another.") from error
    return listening


def _log_requests() -> None:
    """Write the lines of requests to the standard output, and nothing else there."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger(REQUESTS)
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
