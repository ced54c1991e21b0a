"""What all paths of a server share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar
from urllib.parse import unquote

import anyio
import anyio.to_thread
from fastapi import Request
from PIL import Image

from reasonedit.codebook import EditMemory
from reasonedit.cold_start import only_ask
from reasonedit.editor import ReasonEditor
from reasonedit.errors import NotFoundError, ReasonEditError
from reasonedit.traces import KeptQuestions
from reasonedit.types import Answer, Query
from reasonedit.validation import check_name
from reasonedit.vlm.base import LocalVLM

from .facts_view import edit_ids_of
from .local import LocalModels
from .observed import Metrics
from .pictures import PictureReader
from .problems import ApiError
from .proxy import Proxy
from .settings import Settings
from .usage import Usage

T = TypeVar("T")


class Gateway:
    """A model with its codebook, and what is known of what it is asked.

    Args:
        editors: An editor for each copy of the model, all opened on the same folder.
        settings: What the server is set to do.
        questions: Where questions are kept, if they are.
    """

    def __init__(
        self, editors: Sequence[ReasonEditor], settings: Settings, questions: KeptQuestions | None = None
    ) -> None:
        self.settings, self.questions, self.editors = settings, questions, list(editors)
        self.metrics, self.began = Metrics(), int(time.time())
        kept = questions.rows().values() if questions is not None else ()
        self.usage = Usage(row["edit_ids"] for row in kept if isinstance(row.get("edit_ids"), list))
        self.pictures = PictureReader(settings, self._own_picture)
        self.models = LocalModels(editors) if all(isinstance(e.vlm, LocalVLM) for e in editors) else None
        self.proxy = Proxy(settings.upstream, self.editor) if settings.upstream is not None else None
        if settings.read_only:
            only_ask([editor.pipeline for editor in editors])
        self._threads = anyio.CapacityLimiter(settings.at_once)
        self._own = anyio.CapacityLimiter(16)

    @property
    def editor(self) -> ReasonEditor:
        """The editor that writes."""
        return self.editors[0]

    @property
    def memory(self) -> EditMemory:
        """The codebook, as the editor that writes sees it."""
        return self.editor.memory

    async def ask(self, call: Callable[[], T]) -> T:
        """Have a thread ask the model.

        Raises:
            ApiError: So much is under way that another question would only wait.
        """
        if self._threads.available_tokens < 1:
            raise ApiError(429, "Too many questions at once: try again soon.", "busy", headers={"Retry-After": "1"})
        return await anyio.to_thread.run_sync(call, limiter=self._threads)

    async def do(self, call: Callable[[], T]) -> T:
        """Have a thread work on the codebook: questions that wait for the model do not keep it from that."""
        return await anyio.to_thread.run_sync(call, limiter=self._own)

    def check_writable(self) -> None:
        """Refuse to change the codebook where it is only read.

        Raises:
            ApiError: It is.
        """
        if self.settings.read_only:
            raise ApiError(403, "This server only reads: edits and marks are refused.", "read_only")

    def note(
        self,
        request: Request,
        query: Query | None,
        answer: Answer | None,
        field: Mapping[str, Any],
        parts: Mapping[str, float],
    ) -> None:
        """Count a question that was answered, log it, and keep it where questions are kept.

        Args:
            request: The request.
            query: The question.
            answer: Its answer; ``None`` where the codebook did not count.
            field: What the codebook did.
            parts: Milliseconds of each part.
        """
        gate = "open" if field["gate"]["open"] else "closed"
        self.metrics.questions.labels("yes" if answer is not None else "no", gate).inc()
        self.metrics.facts.inc(len(field["facts"]))
        for name, ms in parts.items():
            self.metrics.seconds.labels(name).observe(ms / 1e3)
        times = {name: round(ms, 1) for name, ms in parts.items()}
        add_to_log(request, parts_ms=times, facts=len(field["facts"]), edits=field["edit_ids"], gate=gate)
        if answer is None:
            return
        add_to_log(request, **texts_of(self.settings, answer=answer.text))
        self.usage.note(answer)
        if self.questions is not None and query is not None:
            row: dict[str, Any] = {
                "id": request.state.id,
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                "question": query.question,
                "choices": query.choices,
                "answer": answer.text,
                "finish_reason": answer.finish_reason,
                "edit_ids": edit_ids_of(answer.hits),
                "facts": len(answer.hits),
            }
            self.questions.add(row, query.image)
            # Whoever erased an edit meanwhile has looked through the questions, perhaps before this one was kept.
            self.memory.refresh()
            with self.memory.guard:
                edits, undone = self.memory.edits, self.memory.undone
            if any(name not in edits and name not in undone for name in row["edit_ids"]):
                self.questions.remove(request.state.id)

    def author_of(self, request: Request, given: str | None) -> str:
        """Who does something: as the request says, or its header, which may be percent-encoded."""
        return check_name(given or unquote(request.headers.get("x-reasonedit-author", "")), "author")

    def evidence(self, edit_id: str, name: str) -> Image.Image:
        """A picture that a person gave for a sentence of an edit.

        Raises:
            ReasonEditError: There is no such edit or picture.
        """
        edit = self.memory.find(edit_id)
        if name not in edit.pictures:
            raise NotFoundError(f"The edit '{edit.id}' has no picture of this name.")
        return self.memory.picture(name)

    def _own_picture(self, path: str) -> Image.Image | None:
        """The picture at a path of this server."""
        parts = [unquote(part) for part in path.split("?", maxsplit=1)[0].split("/")]
        try:
            if parts[:3] == ["", "v1", "edits"] and parts[4:] == ["image"]:
                return self.memory.picture(self.memory.find(parts[3]).image)
            if parts[:3] == ["", "v1", "edits"] and parts[4:5] == ["pictures"] and len(parts) == 6:
                return self.evidence(parts[3], parts[5])
            if parts[:3] == ["", "v1", "questions"] and parts[4:] == ["image"] and self.questions is not None:
                return self.questions.picture(parts[3])
        except ReasonEditError:
            return None
        return None


def gateway_of(request: Request) -> Gateway:
    """The gateway that a request came to."""
    gateway: Gateway = request.app.state.gateway
    return gateway


def add_to_log(request: Request, **values: Any) -> None:
    """Say more in the line of log of a request."""
    log: dict[str, Any] = request.scope["state"]["log"]
    log.update(values)


def texts_of(settings: Settings, **texts: Any) -> Mapping[str, Any]:
    """Texts for the log, where it may hold any."""
    return texts if settings.log_texts else {}
