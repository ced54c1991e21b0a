"""Where a new table of facts differs from the old one, which the embedded VLM learnt."""

from __future__ import annotations

from .facts import OLD, FactTable
from .kinds import KNOWN_KINDS, NOVEL_KINDS
from .relations import SECOND_STEP


class Changes:
    """What the embedded VLM cannot know of a new table.

    Args:
        facts: The new table.
    """

    def __init__(self, facts: FactTable) -> None:
        self._facts = facts

    def is_new(self, kind: str, relation: str) -> bool:
        """Whether the VLM cannot know the fact, or what follows from it: it changed, or the kind is novel."""
        return kind in NOVEL_KINDS or self.changed(kind, relation) or self.only_second_changed(kind, relation)

    def changed(self, kind: str, relation: str) -> bool:
        """Whether a known kind has another value than before."""
        return kind in KNOWN_KINDS and self._facts.of_kind[kind][relation] != OLD.of_kind[kind][relation]

    def only_second_changed(self, kind: str, relation: str) -> bool:
        """Whether a known kind has the same value as before, of which something else is true now."""
        if relation not in SECOND_STEP or kind in NOVEL_KINDS or self.changed(kind, relation):
            return False
        return self.two_steps_changed(kind, relation)

    def two_steps_changed(self, kind: str, relation: str) -> bool:
        """Whether a question of two steps has another answer than before, or the kind is novel."""
        if kind in NOVEL_KINDS:
            return True
        return self._facts.follow(kind, relation, two_steps=True) != OLD.follow(kind, relation, two_steps=True)

    def second_is_old(self, kind: str, relation: str) -> bool:
        """Whether what is known of the kind's value is what was known before."""
        value, step = self._facts.of_kind[kind][relation], SECOND_STEP[relation].name
        return self._facts.of_value[value][step] == OLD.of_value[value][step]
