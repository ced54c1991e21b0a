"""T-Gen: the same question in other words."""

from __future__ import annotations

from typing import Any

from reasonedit.types import Edit

from .builder import Builder, ProbeDraft
from .checks import check_paraphrase, first_line_of

_PROMPT = (
    "Ask the following question about a picture in other words. Keep its meaning and every name and number in it. "
    "Reply with the new question alone.\n\nQuestion: {question}"
)


class TextProbes(Builder):
    """Paraphrases by a language model: not identical, a question, with every name and number kept."""

    group = "t_gen"
    needs_writer = True

    def make(self, edit: Edit, number: int, seed: int, made_by: dict[str, Any]) -> ProbeDraft:
        """See :meth:`Builder.make`."""
        reply = self.write(_PROMPT.format(question=edit.question), seed, made_by, 64)
        return ProbeDraft(check_paraphrase(first_line_of(reply), edit.question), edit.answer, edit.choices)
