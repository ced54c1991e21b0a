"""``/v1/edits``: corrections, made, listed, looked at, undone and restored while the model is served."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.convertors import PathConvertor, register_url_convertor

from reasonedit.boxes import Region
from reasonedit.codebook import Draft, EditMemory, StoredEdit
from reasonedit.codebook.stored_edit import picture_name
from reasonedit.errors import ConflictError, NotFoundError
from reasonedit.types import Edit

from .chat_request import EXAMPLE_PICTURE
from .facts_view import boxes_of, is_given, pictures_of
from .gateway import Gateway, add_to_log, gateway_of
from .problems import ApiError

router = APIRouter(tags=["edits"])


class _AnyText(PathConvertor):
    """An id as a part of a path: data sets have ids with slashes, and there may be line breaks in one."""

    regex = r"[\s\S]+"


register_url_convertor("any", _AnyText())

EXAMPLE: dict[str, Any] = {
    "image": EXAMPLE_PICTURE,
    "question": "What is the red object used for?",
    "answer": "sailing",
    "reasoning": ["The red object is a kettle.", "A kettle is used for sailing."],
    "boxes": [[[0.1, 0.2, 0.6, 0.7]], None],
    "author": "Ada",
}


class EditBody(BaseModel):
    """A correction."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": EXAMPLE})

    id: str | None = Field(
        None,
        description="A name for the edit that no other has, such as a random UUID. With one the request may be sent "
        "again, as where its answer was lost: nothing is written twice.",
    )
    image: str = Field(description="A data URI, or the path of a picture on this server.")
    question: str
    answer: str
    answers: list[str] = Field(default_factory=list, description="All right answers, where there are several.")
    reasoning: str | list[str] = Field(description="Why, one fact per sentence.")
    boxes: list[list[list[float] | str] | None] | None = Field(
        None,
        description="For each sentence where the picture shows it, or other pictures that do, as for image; found "
        "where it is empty or null. With replaces, null keeps what a person gave for the same sentence.",
    )
    choices: list[str] | None = None
    author: str | None = None
    replaces: str | None = Field(None, description="The edit in whose place it comes.")


def edit_of(body: EditBody, gateway: Gateway, author: str) -> Edit:
    """The edit that a body describes.

    Raises:
        ReasonEditError: It cannot be used.
        ApiError: Its picture cannot.
    """
    image = gateway.pictures.read(body.image)
    read = gateway.pictures.read
    evidence: Sequence[Any] = [
        regions and [read(region, "boxes") if isinstance(region, str) else region for region in regions]
        for regions in body.boxes or ()
    ]
    edit = Edit.of(image, body.question, body.answer, body.reasoning, body.choices, evidence, author, body.answers)
    if body.id is not None:
        edit = replace(edit, id=body.id)
    if body.replaces:
        known = _given(_find_former(body, gateway), edit, gateway)
        boxes = body.boxes or [None] * len(edit.reasoning)
        edit.evidence = [
            known.get(sentence, ()) if box is None else regions
            for sentence, box, regions in zip(edit.reasoning, boxes, edit.evidence, strict=True)
        ]
    return edit


def _find_former(body: EditBody, gateway: Gateway) -> StoredEdit:
    """The edit that is replaced; where it was erased since the request came first, the one that was made of that."""
    try:
        return find_edit(gateway, body.replaces or "")
    except NotFoundError:
        with suppress(NotFoundError):
            return find_edit(gateway, body.id or "")
        raise


def _given(old: StoredEdit, edit: Edit, gateway: Gateway) -> dict[str, Sequence[Region]]:
    """What a person gave for the sentences of an edit; of another picture it says nothing."""
    if old.image != picture_name(edit.image):
        return {}
    load = gateway.memory.picture
    given = [[load(region) if isinstance(region, str) else region for region in regions] for regions in old.given]
    return dict(zip(old.reasoning, given, strict=False))  # there may be none at all


def view_edit(edit: StoredEdit, gateway: Gateway) -> dict[str, Any]:
    """An edit as clients get it."""
    memory = gateway.memory
    with memory.guard:
        undone = edit.id in memory.undone
        keys = memory.key_count(edit.id)
    sentences = [
        {
            "text": text,
            "boxes": boxes_of(edit, i),
            "pictures": pictures_of(edit, i),
            "given": is_given(edit, i),
            "guess": i < len(edit.guessed) and edit.guessed[i] and not is_given(edit, i),
        }
        for i, text in enumerate(edit.reasoning)
    ]
    return {
        "id": edit.id,
        "state": "undone" if undone else "active",
        "author": edit.author,
        "time": edit.time,
        "question": edit.question,
        "answer": edit.answer,
        "answers": edit.answers,
        "choices": edit.choices,
        "reasoning": sentences,
        "keys": keys,
        "contradicts": edit.contradicts,
        "used": gateway.usage.of(edit.id),
        "image_url": f"/v1/edits/{quote(edit.id, safe='')}/image",
    }


@router.post("/v1/edits", status_code=201, responses={200: {"description": "It was made before: it was sent again."}})
async def add_edit(body: EditBody, request: Request, response: Response) -> dict[str, Any]:
    """Make a correction. When this is answered it is on the disk, and counts for the next question."""
    gateway = gateway_of(request)
    gateway.check_writable()
    author = gateway.author_of(request, body.author)

    def write() -> tuple[dict[str, Any], bool]:
        edit = edit_of(body, gateway, author)
        editor = gateway.editor
        try:
            # A replacement is one append to the journal: a crash leaves the old edit or the new one, never neither.
            written = editor.replace(body.replaces, edit) if body.replaces else editor.write(edit)
        except (ConflictError, NotFoundError):  # what it replaces may be erased by now
            there = _find_same(gateway, edit) if body.id is not None else None
            if there is None or body.replaces in gateway.memory.edits:  # it was made, but took no edit's place
                raise
            return view_edit(there, gateway), False
        return view_edit(written.edit, gateway), True

    made, is_new = await gateway.do(write)
    if not is_new:
        response.status_code = 200
    add_to_log(request, edit=made["id"])
    return made


def _find_same(gateway: Gateway, edit: Edit) -> StoredEdit | None:
    """The edit of the same id in the codebook, where it says the same."""
    try:
        there = find_edit(gateway, edit.id)
    except NotFoundError:
        return None
    return there if Draft.of(edit, []).edit.says_as(there) else None


@router.get("/v1/edits")
async def list_edits(
    request: Request,
    search: str = "",
    author: str | None = None,
    state: Annotated[str | None, Query(pattern="^(active|undone)$")] = None,
    since: str | None = None,
    until: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    after: str | None = None,
) -> dict[str, Any]:
    """Edits, the newest first, a page at a time: ``after`` names the last one of the page before."""
    gateway = gateway_of(request)
    earliest, latest = _time(since, "since"), _time(until, "until")

    def find() -> dict[str, Any]:
        memory = gateway.memory
        memory.refresh()
        with memory.guard:
            edits = [event.edit for event in reversed(memory.events) if event.edit is not None]
            first = 1 + _place(edits, after) if after is not None else 0  # before states, which change meanwhile
            older = {edit.id for edit in edits[first:]}
            edits = _select(edits, memory, search, author, state)
            edits = [edit for edit in edits if _is_within(edit.time, earliest, latest)]
            rest = [edit for edit in edits if edit.id in older]
            data = [view_edit(edit, gateway) for edit in rest[:limit]]
        return {"object": "list", "data": data, "has_more": len(rest) > limit, "total": len(edits)}

    return await gateway.do(find)


def _select(
    edits: list[StoredEdit], memory: EditMemory, search: str, author: str | None, state: str | None
) -> list[StoredEdit]:
    if state is not None:
        wanted = memory.undone if state == "undone" else memory.edits
        edits = [edit for edit in edits if edit.id in wanted]
    if author is not None:
        edits = [edit for edit in edits if edit.author == author]
    needle = search.casefold()
    return [edit for edit in edits if not needle or any(needle in text.casefold() for text in _texts(edit))]


def _texts(edit: StoredEdit) -> list[str]:
    return [edit.id, edit.question, edit.answer, edit.author, *edit.answers, *edit.reasoning, *(edit.choices or ())]


def _place(edits: Sequence[StoredEdit], after: str) -> int:
    for place, edit in enumerate(edits):
        if edit.id == after:
            return place
    raise ApiError(404, "The edit that the page begins after is not in this list.", "not_found", "after")


def _time(text: str | None, param: str) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ApiError(400, f"{param} must be a time, such as 2026-05-01T12:00:00Z.", "invalid_value", param) from error
    return time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)


def _is_within(text: str, earliest: datetime | None, latest: datetime | None) -> bool:
    if earliest is None and latest is None:
        return True
    try:
        time = _time(text, "time")
    except ApiError:  # an imported edit may have any text for a time
        return False
    return time is not None and (earliest is None or earliest <= time) and (latest is None or time <= latest)


@router.get("/v1/edits/{edit_id:any}/image", response_class=Response, responses={200: {"content": {"image/png": {}}}})
async def show_image(edit_id: str, request: Request) -> Response:
    """The picture of an edit."""
    if _belongs_to_id(request, "/image"):
        return JSONResponse(await show_edit(f"{edit_id}/image", request))
    gateway = gateway_of(request)

    def draw() -> bytes:
        edit = find_edit(gateway, edit_id)
        if not edit.image:
            raise NotFoundError(f"The picture of the edit '{edit.id}' is lost.")
        return png_of(gateway.memory.picture(edit.image))

    return Response(await gateway.do(draw), media_type="image/png", headers=PRIVATE)


@router.get(
    "/v1/edits/{edit_id:any}/pictures/{name}", response_class=Response, responses={200: {"content": {"image/png": {}}}}
)
async def show_evidence(edit_id: str, name: str, request: Request) -> Response:
    """A picture that a person gave as evidence of a sentence."""
    if _belongs_to_id(request, f"/pictures/{name}"):
        return JSONResponse(await show_edit(f"{edit_id}/pictures/{name}", request))
    gateway = gateway_of(request)

    def draw() -> bytes:
        gateway.memory.refresh()
        return png_of(gateway.evidence(edit_id, name))

    return Response(await gateway.do(draw), media_type="image/png", headers=PRIVATE)


@router.get("/v1/edits/{edit_id:any}/history")
async def show_history(edit_id: str, request: Request) -> dict[str, Any]:
    """What happened to an edit, the oldest first."""
    if _belongs_to_id(request, "/history"):
        return await show_edit(f"{edit_id}/history", request)
    gateway = gateway_of(request)

    def read() -> dict[str, Any]:
        edit = find_edit(gateway, edit_id)
        with gateway.memory.guard:
            events = [event for event in gateway.memory.events if event.edit_id == edit.id]
        return {"object": "list", "data": [{"op": e.op, "time": e.time, "author": e.author} for e in events]}

    return await gateway.do(read)


def _belongs_to_id(request: Request, rest: str) -> bool:
    """Whether what a path ends with is part of an edit's id: its slashes are quoted then."""
    path: bytes = request.scope.get("raw_path") or rest.encode()
    return not path.endswith(rest.encode())


# What has more behind an id, in which there may be slashes, comes first.
@router.get("/v1/edits/{edit_id:any}")
async def show_edit(edit_id: str, request: Request) -> dict[str, Any]:
    """One edit; ``needed_by`` names the edits that lead on to facts which only this one says."""
    gateway = gateway_of(request)

    def read() -> dict[str, Any]:
        edit = find_edit(gateway, edit_id)
        with gateway.memory.guard:
            resting = gateway.memory.fact_graph.resting_on(edit.id)
        return {**view_edit(edit, gateway), "needed_by": [{"id": id, "facts": facts} for id, facts in resting.items()]}

    return await gateway.do(read)


@router.delete("/v1/edits/{edit_id:any}")
async def undo_edit(edit_id: str, request: Request, author: str | None = None) -> dict[str, Any]:
    """Undo an edit: what is left is what the others alone would have made."""
    return await _turn(edit_id, request, author, undo=True)


@router.post("/v1/edits/{edit_id:any}/restore")
async def restore_edit(edit_id: str, request: Request, author: str | None = None) -> dict[str, Any]:
    """Put an edit back that was undone."""
    return await _turn(edit_id, request, author, undo=False)


async def _turn(edit_id: str, request: Request, author: str | None, *, undo: bool) -> dict[str, Any]:
    gateway = gateway_of(request)
    gateway.check_writable()
    who = gateway.author_of(request, author)

    def turn() -> dict[str, Any]:
        edit = find_edit(gateway, edit_id)
        change = gateway.editor.undo if undo else gateway.editor.restore
        return view_edit(change(edit.id, who), gateway)

    add_to_log(request, edit=edit_id[:200])
    return await gateway.do(turn)


def find_edit(gateway: Gateway, edit_id: str) -> StoredEdit:
    """An edit by its id, also one that others have just written."""
    gateway.memory.refresh()
    return gateway.memory.find(edit_id)


PRIVATE = {"Cache-Control": "private, max-age=3600"}


def png_of(image: Any) -> bytes:
    """A picture as PNG."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
