"""``/v1/edits/export`` and ``/v1/edits/import``: edits out of a codebook and into another, as one file."""

from __future__ import annotations

import io
import lzma
import tempfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from reasonedit.data.exported import compare, export, load_edits, read
from reasonedit.errors import InputError, ReasonEditError, UnavailableError, is_disk_full

from .gateway import Gateway, gateway_of
from .problems import ApiError, as_api_error

router = APIRouter(tags=["edits"])
_NAME = "edits.jsonl"
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
    EOFError,
)
"""What reading a zip raises."""
_MOST_FILES, _MOST_BYTES = 20_000, 2**30
"""Of a file that is unpacked."""


class ExportBody(BaseModel):
    """Which edits are wanted."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"ids": []}})

    ids: list[str] = []


@router.post("/v1/edits/export", response_class=Response, responses={200: {"content": {"application/zip": {}}}})
async def export_edits(body: ExportBody, request: Request) -> Response:
    """Edits with their pictures, in the format of ``reasonedit codebook export``; by default all that count."""
    gateway = gateway_of(request)
    data = await gateway.do(lambda: _pack(gateway, body.ids))
    headers = {"Content-Disposition": 'attachment; filename="edits.zip"', "Cache-Control": "no-store"}
    return Response(data, media_type="application/zip", headers=headers)


def _pack(gateway: Gateway, ids: list[str]) -> bytes:
    gateway.memory.refresh()
    with tempfile.TemporaryDirectory() as folder:
        export(gateway.memory, Path(folder) / _NAME, ids)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:  # pictures are compressed already
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file():
                    packed.write(path, path.relative_to(folder).as_posix())
        return file.getvalue()


@router.post(
    "/v1/edits/import",
    openapi_extra={"requestBody": {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def import_edits(request: Request) -> dict[str, Any]:
    """Write the edits of such a file; those that are there already, or are undone, are passed over."""
    gateway = gateway_of(request)
    gateway.check_writable()
    author = gateway.author_of(request, None)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/zip", "application/x-zip-compressed", "application/octet-stream"):
        raise ApiError(415, "Send the zip itself as application/zip.", "wrong_content_type")
    data = await request.body()
    return await gateway.do(lambda: _unpack(gateway, data, author))


def _unpack(gateway: Gateway, data: bytes, author: str) -> dict[str, Any]:
    written = list[str]()
    with tempfile.TemporaryDirectory() as folder:
        file = _extract(data, Path(folder))
        compared = compare(list(read(file)), gateway.memory)  # all are checked before one is written
        try:
            for edit in load_edits(file, compared.new):
                gateway.editor.write(edit if edit.author else replace(edit, author=author))
                written.append(edit.id)
        except ReasonEditError as error:
            told = as_api_error(error)
            told.message += (
                f" Of the file's {len(compared.new)} new edits {len(written)} had been written before that: import it "
                "again to write the others."
            )
            raise told from error
    return {"written": written, "skipped": compared.there, "undone": compared.undone}


def _extract(data: bytes, folder: Path) -> Path:
    """Unpack a zip; its one JSONL file.

    Raises:
        InputError: It is no zip, too large, or holds no such file, or several.
        UnavailableError: There is no room to unpack it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            entries = [entry for entry in packed.infolist() if not entry.is_dir()]
            if len(entries) > _MOST_FILES or sum(entry.file_size for entry in entries) > _MOST_BYTES:
                raise InputError(f"The zip holds more than {_MOST_FILES} files or {_MOST_BYTES >> 20} MiB.")
            for entry in entries:  # zipfile keeps names within the folder, and reads no more than an entry says
                packed.extract(entry, folder)
    except InputError:
        raise
    except _BROKEN as error:
        if is_disk_full(error):
            raise UnavailableError("The server's disk is full: make room, and import again. Nothing was.") from error
        raise InputError(f"What was sent is not a zip that can be read ({type(error).__name__}).") from error
    found = sorted(folder.glob("*.jsonl"))
    if len(found) != 1:
        raise InputError(f"The zip must hold one file of edits, {_NAME}; it holds {len(found)}.")
    return found[0]
