"""I-Gen: the same question about another picture of the scene."""

from __future__ import annotations

from typing import Any

from reasonedit.types import Edit
from reasonedit.vlm import VLM, Generation

from .build import Budget, Builder, Draft
from .checks import one_line
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

    def make(self, edit: Edit, number: int, seed: int, made_by: dict[str, Any]) -> Draft:
        """See :meth:`Builder.make`."""
        (said,) = self._vlm.reply(self._vlm.see([edit.image]), [_CAPTION], None, Generation(64))
        made_by |= {"vlm": self._vlm.name, "prompt": _CAPTION, "reply": said.text, "finish_reason": said.finish_reason}
        return Draft(edit.question, edit.answer, edit.choices, self.paint(one_line(said.text), seed, made_by))
