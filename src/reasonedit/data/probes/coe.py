"""CoE-Gen: the facts that led to the error, in new pictures."""

from __future__ import annotations

from typing import Any

from reasonedit.prompts import verification_question
from reasonedit.types import Edit

from .builder import Builder, ProbeDraft
from .checks import Rejected, check_shared, first_line_of

_PLACES = ("outdoors", "indoors", "seen from close by", "seen from far away", "among other things", "on a table")
_PROMPT = (
    "Describe in one sentence a picture, {place}, in which one can see that this is so: {fact} "
    "Reply with the sentence alone."
)
_BELIEVED = 0.5  # probability of "yes" above which the model believes a fact


class CoEProbes(Builder):
    """The facts that led to the error are those that the unedited model does not believe of the edit's image.

    The model is asked the evidence question of each (section 6 of the method; arXiv 2602.02408). A language model
    describes a new scene that shows one of them, a text-to-image pipeline paints it, and the edit's question is asked
    about that picture.
    """

    group = "coe_gen"
    needs_writer = True
    needs_painter = True
    about_errors = True

    def make(self, edit: Edit, number: int, seed: int, made_by: dict[str, Any]) -> ProbeDraft:
        """See :meth:`Builder.make`."""
        questions = [[verification_question(sentence) for sentence in edit.reasoning]]
        p_yes = self.vlm.p_yes(self.vlm.see([edit.image]), questions)[0].tolist()
        made_by |= {"vlm": self.vlm.name, "held": [round(p, 4) for p in p_yes]}
        facts = [sentence for sentence, p in zip(edit.reasoning, p_yes, strict=True) if p <= _BELIEVED]
        if not facts:
            raise Rejected("the model believes every fact of the reasoning")
        fact = facts[number % len(facts)]
        made_by["fact"] = fact
        prompt = _PROMPT.format(place=_PLACES[seed % len(_PLACES)], fact=fact)
        scene = check_shared(first_line_of(self.write(prompt, seed, made_by, 80)), fact, "fact")
        return ProbeDraft(edit.question, edit.answer, edit.choices, self.paint(scene, seed, made_by))
