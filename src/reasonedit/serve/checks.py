"""``/v1/edits/check``, ``/v1/explain`` and ``/v1/reasoning``: what an edit does, and why an answer came about."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from reasonedit.checking import Change, EditCheck
from reasonedit.codebook import StoredEdit
from reasonedit.codebook.stored_edit import picture_name
from reasonedit.errors import ReasonEditError
from reasonedit.explain import USED, Explanation
from reasonedit.types import Edit, Query

from .chat_request import EXAMPLE_PICTURE
from .edits import EXAMPLE, EditBody, edit_of, find_edit
from .facts_view import boxes_of, finite, is_given, view_facts
from .gateway import Gateway, add_to_log, gateway_of
from .problems import ApiError

router = APIRouter(tags=["edits"])
_MOST_QUESTIONS = 64
_ASKED = 24
"""Of so many questions that were kept last the nearest are asked by a check."""


class AskedBody(BaseModel):
    """A question about a picture."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"image": EXAMPLE_PICTURE, "question": "What is it?"}}
    )

    image: str = Field("", description="A data URI, or the path of a picture on this server.")
    image_url: str = Field("", description="The same.")
    question: str
    choices: list[str] | None = None

    def query(self, gateway: Gateway) -> Query:
        """The question with its picture."""
        if not (self.image or self.image_url):
            raise ApiError(400, "The question has no picture.", "no_image", "image")
        return Query(gateway.pictures.read(self.image or self.image_url), self.question, self.choices)


class ReasoningBody(AskedBody):
    """A question of which the model's own reasoning is wanted."""

    answer: str | None = Field(None, description="The answer that it is to give reasons for; its own when left out.")


class CheckBody(EditBody):
    """A correction, and questions that it might change."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {**EXAMPLE, "recent": 8}})

    questions: list[AskedBody] = Field(default_factory=list, max_length=_MOST_QUESTIONS)
    recent: int = Field(0, ge=0, le=_MOST_QUESTIONS, description="How many of the questions kept last are asked, too.")


@router.post("/v1/edits/check")
async def check(body: CheckBody, request: Request) -> dict[str, Any]:
    """Say what an edit would write, contradict and change. Nothing is written."""
    gateway = gateway_of(request)
    author = gateway.author_of(request, body.author)

    def find_out() -> dict[str, Any]:
        edit = edit_of(body, gateway, author)
        queries = [asked.query(gateway) for asked in body.questions]
        urls = [asked.image_url or None for asked in body.questions]
        kept, kept_urls = _recent(gateway, max(body.recent, _ASKED), edit)
        recent, recent_urls = kept[: body.recent], kept_urls[: body.recent]
        found = gateway.editor.check_edit(edit, [*queries, *recent], body.replaces or "", kept)
        return _view_check(found, [*urls, *recent_urls], len(queries))

    found = await gateway.ask(find_out)
    add_to_log(request, changes=sum(change["changed"] for change in found["changes"]))
    return found


@router.post("/v1/edits/{edit_id:any}/check")
async def check_written(edit_id: str, request: Request) -> dict[str, Any]:
    """Say whether an edit that is written holds, what it harms, or why it does not take. Nothing is changed."""
    gateway = gateway_of(request)

    def find_out() -> dict[str, Any]:
        edit = find_edit(gateway, edit_id)
        asked, _ = _recent(gateway, _ASKED, edit)
        return _view_check(gateway.editor.check_edit(edit.id, asked=asked), [], 0)

    found = await gateway.ask(find_out)
    add_to_log(request, edit=edit_id[:200], verdict=found["verdict"]["name"])
    return found


def _recent(gateway: Gateway, count: int, edit: Edit | StoredEdit) -> tuple[list[Query], list[str]]:
    """The questions that were kept last, each once, and where their pictures are; not the edit's own."""
    kept, queries, urls = gateway.questions, list[Query](), list[str]()
    if kept is None or not count:
        return queries, urls
    picture = edit.image if isinstance(edit, StoredEdit) else picture_name(edit.image)
    seen = {(picture, edit.question, tuple(edit.choices or ()))}
    for row in list(kept.rows().values())[::-1]:
        try:
            asked = (row["picture"], row["question"], tuple(row.get("choices") or ()))
            if asked in seen:
                continue
            seen.add(asked)
            queries.append(Query(kept.picture(row["id"]), row["question"], row.get("choices")))
            urls.append(f"/v1/questions/{row['id']}/image")
        except (ReasonEditError, KeyError):  # it went meanwhile
            continue
        if len(queries) == count:
            break
    return queries, urls


def _view_check(found: EditCheck, urls: list[str | None], given: int) -> dict[str, Any]:
    own = len(found.changes) - len(urls)
    changes = [_view_change(change, None) for change in found.changes[:own]]
    for number, (change, url) in enumerate(zip(found.changes[own:], urls, strict=True)):
        changes.append(_view_change(change, url) | ({} if number < given else {"from": "recent"}))
    others = [{"edit_id": e.id, "question": e.question, "answer": e.answer} for e in found.contradicts]
    reasoning = [
        {
            "text": text,
            "boxes": boxes_of(found.edit, i),
            "given": is_given(found.edit, i),
            "guess": i < len(found.edit.guessed) and found.edit.guessed[i],
            "heat": [{"box": list(w.box), "p_yes": w.p_yes} for w in found.evidence[i].windows],
        }
        for i, text in enumerate(found.edit.reasoning)
    ]
    return {
        "verdict": {
            "name": found.verdict.key,
            "text": str(found.verdict),
            "takes": found.verdict.takes,
            "because": found.finding.because,
            "advice": found.finding.advice,
        },
        "doubts": [{"text": doubt.text, "why": doubt.why, "says": doubt.says} for doubt in found.doubts],
        "trials": [_view_change(change, None) | _view_trial(change) for change in found.trials],
        "keys": found.keys,
        "reasoning": reasoning,
        "contradicts": others,
        "changes": changes,
        "warnings": found.warnings,
    }


def _view_trial(change: Change) -> dict[str, Any]:
    right = change.is_right if change.right else None
    return {"note": change.note, "edit_id": change.edit_id or None, "right": right, "harmed": change.is_harmed}


def _view_change(change: Change, url: str | None) -> dict[str, Any]:
    return {
        "from": change.origin,
        "question": change.query.question,
        "image_url": url,
        "before": change.before.text,
        "after": change.after.text,
        "changed": change.changed,
    }


@router.post("/v1/explain")
async def explain(body: AskedBody, request: Request) -> dict[str, Any]:
    """Answer, and say of each near key why its facts were used or not."""
    gateway = gateway_of(request)

    def find_out() -> dict[str, Any]:
        query = body.query(gateway)
        return _view_explanation(gateway.editor.explain(query.image, query.question, query.choices), gateway)

    return await gateway.ask(find_out)


def _view_explanation(found: Explanation, gateway: Gateway) -> dict[str, Any]:
    considered = [
        {
            "text": fact,
            "edit_id": key.edit.id,
            "kind": str(key.kind),
            "distance": finite(key.distance),
            "radius": key.radius,
            "visual_match": key.visual_match,
            "used": key.fate == USED,
            "why": key.fate,
        }
        for key in found.keys
        for fact in key.facts
    ]
    field = view_facts(found.answer, gateway.memory, {})
    return {"answer": found.answer.text, **field, "considered": considered, "thought": found.answer.thought}


@router.post("/v1/reasoning")
async def reason(body: ReasoningBody, request: Request) -> dict[str, Any]:
    """The model's own reasoning for an answer: to be checked by a person before it becomes an edit."""
    gateway = gateway_of(request)

    def find_out() -> dict[str, Any]:
        query = body.query(gateway)
        found = gateway.editor.own_reasoning(query.image, query.question, body.answer, query.choices)
        sentences = [{"text": s.text, "confidence": s.confidence} for s in found.sentences]
        return {"answer": found.answer, "sentences": sentences}

    return await gateway.ask(find_out)
