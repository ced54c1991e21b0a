"""CoE-Gen: the facts that led to the error, in new pictures."""

from __future__ import annotations

from typing import Any

from reasonedit.prompts import verification_question
from reasonedit.types import Edit
from reasonedit.vlm import VLM

from .build import Budget, Builder, Draft
from .checks import Rejected, check_shared, one_line
from .painter import Painter
from .writer import Writer

_PLACES = ("outdoors", "indoors", "seen from close by", "seen from far away", "among other things", "on a table")
_PROMPT = (
    "Describe in one sentence a picture, {place}, in which one can see that this is so: {fact} "
    "Reply with the sentence alone."
)
_HELD = 0.5


class CoEProbes(Builder):
    """The error-inducing facts are those of the edit that the unedited model does not hold of the edit's image.

    It is asked the evidence question of each (section 6 of the method; arXiv 2602.02408); a language model describes a
    new scene that shows one, a text-to-image pipeline paints it, and the edit's question is asked of that.

    Args:
        vlm: The unedited model.
        writer: What describes scenes.
        painter: What paints them.
        budget: How often they may.
    """

    group = "coe_gen"
    calls = 2

    def __init__(self, vlm: VLM, writer: Writer | None, painter: Painter | None, budget: Budget) -> None:
        super().__init__(writer, painter, budget)
        self._vlm = vlm

    def make(self, edit: Edit, number: int, seed: int, made_by: dict[str, Any]) -> Draft:
        """See :meth:`Builder.make`."""
        held = self._vlm.p_yes(self._vlm.see([edit.image]), [[verification_question(s) for s in edit.reasoning]])[
            0
        ].tolist()
        made_by |= {"vlm": self._vlm.name, "held": [round(p, 4) for p in held]}
        facts = [s for s, p in zip(edit.reasoning, held, strict=True) if p <= _HELD]
        if not facts:
            raise Rejected("the model holds every fact of the reasoning")
        fact = facts[number % len(facts)]
        made_by["fact"] = fact
        prompt = _PROMPT.format(place=_PLACES[seed % len(_PLACES)], fact=fact)
        scene = check_shared(one_line(self.write(prompt, seed, made_by, 80)), fact, "fact")
        return Draft(edit.question, edit.answer, edit.choices, self.paint(scene, seed, made_by))
