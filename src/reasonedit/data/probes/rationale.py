"""R-Gen: new questions that need the same reasoning."""

from __future__ import annotations

from typing import Any

from reasonedit.types import Edit

from .builder import Builder, ProbeDraft
from .checks import Rejected, check_question, check_shared, parse_json_object, words

_PROMPT = (
    "These facts explain why the answer to the question '{question}' about a picture is '{answer}':\n{facts}\n\n"
    "Write another question about a picture that is answered by the same facts, with a short answer, and describe in "
    "one sentence a picture that it could be asked of. Reply with JSON alone: "
    '{{"question": "…", "answer": "…", "scene": "…"}}'
)
_LONGEST_ANSWER = 8


class RationaleProbes(Builder):
    """New questions by a language model. Their pictures are painted where there is a painter, else the edit's own."""

    group = "r_gen"
    needs_writer = True
    may_paint = True

    def make(self, edit: Edit, number: int, seed: int, made_by: dict[str, Any]) -> ProbeDraft:
        """See :meth:`Builder.make`."""
        facts = "\n".join(f"- {sentence}" for sentence in edit.reasoning)
        prompt = _PROMPT.format(question=edit.question, answer=edit.answer, facts=facts)
        parts = parse_json_object(self.write(prompt, seed, made_by, 160), "question", "answer", "scene")
        question = check_question(parts["question"], edit.question)
        check_shared(f"{question} {parts['answer']}", " ".join(edit.reasoning), "reasoning")
        if len(words(parts["answer"])) > _LONGEST_ANSWER:
            raise Rejected(f"the answer is longer than {_LONGEST_ANSWER} words")
        image = None if self._painter is None else self.paint(parts["scene"], seed, made_by)
        return ProbeDraft(question, parts["answer"], None, image)
