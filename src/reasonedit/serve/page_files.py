"""The page on which an expert corrects the model: static files, the same for everybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from reasonedit.data.sample_pictures import SAMPLES, list_samples

FOLDER = Path(__file__).parent / "page"
_SAMPLES_URL = "/app/samples"

_HEADERS = {
    # Nothing but this server's own files runs, styles or is spoken to, whatever somebody wrote into a question.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked for anew after an update; unchanged files are not sent again
}


class _Page(StaticFiles):
    """Static files with the headers of the page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


def mount_page(app: FastAPI) -> None:
    """Serve the page at ``/`` and its files below ``/app/``; no key is needed for either."""
    files = _Page(directory=FOLDER)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def show_page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    app.mount(_SAMPLES_URL, _Page(directory=SAMPLES), name="samples")
    app.mount("/app", files, name="page")


def page_samples(model: str) -> list[dict[str, Any]]:
    """The pictures that the page offers to begin with: for each its name, address, a question and what is true.

    Args:
        model: The model that is served. Only the embedded VLM has samples: they are drawings as it knows them.
    """
    if model != "embedded":
        return []
    return [{**sample, "url": f"{_SAMPLES_URL}/{sample['name']}"} for sample in list_samples()]
