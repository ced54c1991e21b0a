"""I-Gen: the same question about another picture of the scene."""

from __future__ import annotations

from typing import Any

from reasonedit.types import Edit
from reasonedit.vlm import VLM, Generation

from .builder import Budget, Builder, ProbeDraft
from .checks import first_line_of
from .painter import Painter

_CAPTION = "Describe this image in one sentence."


class ImageProbes(Builder):
    """The scene is described by the VLM, and painted again by a text-to-image pipeline.

    Args:
        vlm: What describes it.
        painter: What paints it.
        budget: How often it may.
    """

    group = "i_gen"
    calls = 1

    def __init__(self, vlm: VLM, painter: Painter | None, budget: Budget) -> None:
        super().__init__(None, painter, budget)
        self._vlm = vlm

    def make(self, edit: Edit, number: int, seed: int, made_by: dict[str, Any]) -> ProbeDraft:
        """See :meth:`Builder.make`."""
        (reply,) = self._vlm.reply(self._vlm.see([edit.image]), [_CAPTION], None, Generation(64))
        made_by |= {
            "vlm": self._vlm.name,
            "prompt": _CAPTION,
            "reply": reply.text,
            "finish_reason": reply.finish_reason,
        }
        return ProbeDraft(
            edit.question, edit.answer, edit.choices, self.paint(first_line_of(reply.text), seed, made_by)
        )
