"""``/v1/questions`` and ``/v1/stats``: what was asked, for a person to look through."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from reasonedit.codebook import summarise_use
from reasonedit.traces import KeptQuestions
from reasonedit.validation import LONGEST_NAME

from .edits import PRIVATE, png_of
from .gateway import Gateway, gateway_of
from .problems import ApiError

router = APIRouter(tags=["review"])


class Mark(BaseModel):
    """What a person thinks of an answer."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"mark": "right"}})

    mark: Literal["right", "corrected"] | None
    edit_id: str | None = Field(None, max_length=LONGEST_NAME)


@router.get("/v1/questions")
async def list_questions(
    request: Request,
    mark: Annotated[str | None, Query(pattern="^(none|right|corrected)$")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    after: str | None = None,
) -> dict[str, Any]:
    """Questions that were kept, the newest first."""
    gateway = gateway_of(request)

    def read() -> dict[str, Any]:
        rows = list(_kept(gateway).rows().values())[::-1]
        names = [row["id"] for row in rows]
        if after is not None and after not in names:
            raise ApiError(404, "The question that the page begins after is not kept.", "not_found", "after")
        rows = rows[names.index(after) + 1 :] if after is not None else rows  # before marks, which change meanwhile
        rows = [row for row in rows if mark is None or (row["mark"] or "none") == mark]
        return {"object": "list", "data": [_view(row) for row in rows[:limit]], "has_more": len(rows) > limit}

    return await gateway.do(read)


@router.post("/v1/questions/{name}/mark")
async def mark_question(name: str, body: Mark, request: Request) -> dict[str, Any]:
    """Mark a question as answered rightly, or as corrected; null takes the mark off.

    Where somebody else has corrected it by an edit that counts, it is not marked as right.
    """
    gateway = gateway_of(request)
    gateway.check_writable()

    def mark() -> dict[str, Any]:
        gateway.memory.refresh()
        return _view(_kept(gateway).mark(name, body.mark, body.edit_id, gateway.memory.edits))

    return await gateway.do(mark)


@router.get("/v1/questions/{name}/image", response_class=Response, responses={200: {"content": {"image/png": {}}}})
async def show_picture(name: str, request: Request) -> Response:
    """The picture of a question."""
    gateway = gateway_of(request)
    data = await gateway.do(lambda: png_of(_kept(gateway).picture(name)))
    return Response(data, media_type="image/png", headers=PRIVATE)


@router.get("/v1/stats")
async def show_stats(request: Request) -> dict[str, Any]:
    """How questions were answered, and which edits were of use, since the server began or questions are kept.

    Which pictures were out of range (``out_of_range``) is counted since the server began: it is not kept.
    """
    gateway = gateway_of(request)

    def count() -> dict[str, Any]:
        memory, used = gateway.memory, gateway.usage.used()
        memory.refresh()
        with memory.guard:
            active, undone = dict(memory.edits), len(memory.undone)
        use = summarise_use(used, active)
        return {
            "questions": gateway.usage.questions,
            "with_facts": gateway.usage.with_facts,
            "out_of_range": gateway.usage.out_of_range,
            "edits": {"active": len(active), "undone": undone},
            "never_used": use.never,
            "most_used": [{"id": name, "used": count} for name, count in use.most[:20]],
            "contradictions": use.contradictions,
        }

    return await gateway.do(count)


def _kept(gateway: Gateway) -> KeptQuestions:
    if gateway.questions is None:
        raise ApiError(404, "This server keeps no questions: start it with --keep-questions.", "not_kept")
    return gateway.questions


def _view(row: dict[str, Any]) -> dict[str, Any]:
    asked = ("id", "time", "question", "choices", "answer", "finish_reason")
    names = (*asked, "edit_ids", "facts", "mark", "corrected_by")
    return {**{name: row.get(name) for name in names}, "image_url": f"/v1/questions/{quote(row['id'], safe='')}/image"}
