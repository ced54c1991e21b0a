"""Hard locality by the rule of the paper's authors: of a pool of samples the questions that share the most words."""

from __future__ import annotations

import random
from collections.abc import Set

from reasonedit.data.locality import WordIndex

from .facts import FactTable
from .kinds import ICONS
from .questions import WorldSample, ask_in_new_scene
from .relations import RELATIONS, SECOND_STEP

WORD_LOC_PER_EDIT = 3
"""How many questions are chosen for each edit, before it is known which of them the VLM gets right."""
_POOL = 400
_FORMS = ("direct", "direct", "direct", "two_step", "reversed")


class WordPool:
    """Samples as a data set would have them: of all kinds, of facts that changed or did not, in all forms.

    Args:
        facts: The new table.
        seed: Seed of the pool.
        edited: Questions of edits, which are left out.
    """

    def __init__(self, facts: FactTable, seed: int, edited: Set[str]) -> None:
        rng = random.Random(f"words-{seed}")
        self._samples: list[WorldSample] = []
        while len(self._samples) < _POOL:
            name, form = rng.choice(list(RELATIONS)), rng.choice(_FORMS)
            form = "direct" if form == "two_step" and name not in SECOND_STEP else form
            sample = ask_in_new_scene(rng, rng.choice(list(ICONS)), RELATIONS[name], form, facts)
            if sample is not None and sample.question not in edited:
                self._samples.append(sample)
        self._questions = WordIndex({str(i): sample.question for i, sample in enumerate(self._samples)})

    def nearest(self, question: str) -> dict[str, WorldSample]:
        """The samples whose questions share the most words with one, by name; none asks an edit's own question."""
        return {name: self._samples[int(name)] for name in self._questions.find(question, WORD_LOC_PER_EDIT)}
