"""I-Gen: the same question about another picture of the scene."""

from __future__ import annotations

from typing import Any

from reasonedit.types import Edit
from reasonedit.vlm import Generation

from .builder import Builder, ProbeDraft
from .checks import first_line_of

_CAPTION = "Describe this image in one sentence."


class ImageProbes(Builder):
    """The VLM describes the scene, and a text-to-image pipeline paints it again."""

    group = "i_gen"
    needs_painter = True

    def make(self, edit: Edit, number: int, seed: int, made_by: dict[str, Any]) -> ProbeDraft:
        """See :meth:`Builder.make`."""
        (reply,) = self.vlm.reply(self.vlm.see([edit.image]), [_CAPTION], None, Generation(64))
        made_by |= {
            "vlm": self.vlm.name,
            "prompt": _CAPTION,
            "reply": reply.text,
            "finish_reason": reply.finish_reason,
        }
        return ProbeDraft(
            edit.question, edit.answer, edit.choices, self.paint(first_line_of(reply.text), seed, made_by)
        )
