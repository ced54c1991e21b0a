"""Servers on loopback: in a thread of this process, and as a process of its own."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import uvicorn
from PIL import Image

from reasonedit.cli import main

from .commands import ENTRY
from .waiting import wait_until


def uri_of(image: Image.Image) -> str:
    """A picture as a data URI; nothing of it is lost."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def message_of(image: Image.Image | str, question: str) -> dict[str, Any]:
    """A turn of the user with a picture."""
    url = image if isinstance(image, str) else uri_of(image)
    return {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}],
    }


@dataclass
class Served:
    """A server that listens.

    Attributes:
        url: Its address.
        process: Its process, where it has one of its own.
        said: What it wrote to the standard output, where it has one.
    """

    url: str
    process: subprocess.Popen[bytes] | None = None
    said: Path | None = None

    def http(self, **options: Any) -> httpx2.Client:
        """A client for all paths."""
        return httpx2.Client(base_url=self.url, timeout=600, **options)

    def openai(self, **options: Any) -> openai.OpenAI:
        """OpenAI's client."""
        return openai.OpenAI(**{"base_url": f"{self.url}/v1", "api_key": "any", "max_retries": 0, **options})

    def ask(self, image: Image.Image | str, question: str, model: str = "embedded", **options: Any) -> Any:
        """A question, asked by OpenAI's client."""
        completions: Any = self.openai().chat.completions
        return completions.create(model=model, messages=[message_of(image, question)], **options)


@contextmanager
def serving_app(app: Any) -> Iterator[Served]:
    """Serve in a thread of this process."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@contextmanager
def serving_main(*words: object) -> Iterator[Served]:
    """``reasonedit serve`` with some words, in a thread of this process."""
    apps: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reasonedit.serve.run.run_server", lambda app, *_: apps.append(app))
        assert main(["serve", *map(str, words)]) == 0
    with serving_app(apps[0]) as server:
        yield server


@contextmanager
def serving_command(
    folder: Path, *words: object, env: dict[str, str] | None = None, tiny: bool = False
) -> Iterator[Served]:
    """``reasonedit serve`` with some words, as a process of its own; whatever is there of it at the end is killed.

    With ``tiny`` its sentence encoder is the one that needs no model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    said, complained, entry = folder / "said", folder / "complained", folder / "entry.py"
    entry.write_text(ENTRY)
    begins = [str(entry)] if tiny else ["-m", "reasonedit"]
    command = [sys.executable, *begins, "serve", "--port", "0", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    with (
        said.open("wb") as out,
        complained.open("wb") as err,
        subprocess.Popen(command, stdout=out, stderr=err, env=environment, start_new_session=True) as process,
    ):
        try:

            def url() -> list[str]:
                return re.findall(r"edits?: (http://\S+)/v1", complained.read_text())

            try:
                wait_until(url, process)
            except AssertionError as error:
                raise AssertionError(complained.read_text()) from error
            yield Served(url()[0], process, said)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
