"""Messages of the protocol: questions about a picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from ..interface import Turn


def data_uri(image: Image.Image, form: str) -> str:
    """A picture as a data URI.

    Args:
        image: The RGB picture.
        form: ``"png"`` or ``"jpeg"``.
    """
    buffer = io.BytesIO()
    image.save(buffer, form.upper(), **({"quality": 95} if form == "jpeg" else {}))
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def text_of(content: Any) -> str:
    """The text of a message, which some vendors send in parts; parts of other kinds, such as thoughts, are none of it.

    >>> text_of([{"type": "thinking", "thinking": []}, {"type": "text", "text": "A ball."}]), text_of(None)
    ('A ball.', '')
    """
    if not isinstance(content, list):
        return str(content or "")
    texts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(str(part.get("text") or "") for part in texts)


def messages_of(picture: str | None, question: str, earlier: Sequence[Turn] = ()) -> list[dict[str, Any]]:
    """A question about a picture, which stands at the head of the first thing that the user says.

    Args:
        picture: Its data URI; ``None`` for a question without a picture.
        question: The question.
        earlier: The turns before it.
    """
    messages: list[dict[str, Any]] = [{"role": role, "content": said} for role, said in (*earlier, ("user", question))]
    if picture is None:
        return messages
    first = next(message for message in messages if message["role"] == "user")
    shown = {"type": "image_url", "image_url": {"url": picture}}
    first["content"] = [shown, {"type": "text", "text": first["content"]}]
    return messages
