"""The facts of one query, each once, though several edits may say it and several keys stand for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from reasonedit.codebook import Fact
from reasonedit.kinds import KeyKind
from reasonedit.types import Hit


@dataclass
class GatheredFacts:
    """The facts of the keys near one query.

    What two edits say alike is one fact. It has the distance of its nearest key; it is shown by the picture if any of
    its keys is, and it is a fact of all edits that say it. So no edit takes away from a fact what another gives it.

    Attributes:
        hits: The facts by their text, nearest first.
        said_by: By their text the ids of the edits that say them.
        by_text: Those that were found by a key of their text alone, too.
        elsewhere: Facts near the query whose keys' pictures do not match its own, by their text, nearest first.
    """

    hits: dict[str, Hit] = field(default_factory=dict)
    said_by: dict[str, set[str]] = field(default_factory=dict)
    by_text: set[str] = field(default_factory=set)
    elsewhere: dict[str, Hit] = field(default_factory=dict)

    def take(self, fact: Fact, distance: float, match: float | None, same_picture: bool, *, new: bool = True) -> None:
        """Take in a fact of the next key.

        Args:
            fact: The fact.
            distance: The distance of its key, not below those of earlier ones.
            match: The visual match of its key, where that counts.
            same_picture: Whether the key is of the query's own picture.
            new: Whether a fact that is not here counts.
        """
        hit = self.hits.get(fact.text)
        if hit is None and not new:
            return
        if hit is None:
            hit = Hit(fact.text, distance, fact.kind, fact.edit_id, match, same_picture)
        elif hit.kind is KeyKind.TEXT and fact.kind.shows_fact:
            hit = replace(hit, kind=fact.kind, edit_id=fact.edit_id, visual_match=match)
        elif hit.visual_match is not None and match is not None and match > hit.visual_match:
            hit = replace(hit, visual_match=match)
        # What one edit said of this very picture counts, whichever key is nearer.
        self.hits[fact.text] = replace(hit, same_picture=hit.same_picture or same_picture)
        self.said_by.setdefault(fact.text, set()).add(fact.edit_id)
        if fact.kind is KeyKind.TEXT:
            self.by_text.add(fact.text)

    def note(self, fact: Fact, distance: float) -> None:
        """Note a fact of the next key, whose picture is another than the query's."""
        self.elsewhere.setdefault(fact.text, Hit(fact.text, distance, fact.kind, fact.edit_id))

    def keep(self, count: int | None) -> None:
        """Keep so many of the nearest facts; all when not given."""
        self.hits = dict(list(self.hits.items())[:count])

    def join(self, others: GatheredFacts) -> None:
        """Take in the facts of other keys; of a fact that both have the nearer one counts."""
        nearer = sorted([*self.hits.values(), *others.hits.values()], key=lambda hit: hit.distance)
        self.hits = {}
        for hit in nearer:
            self.hits.setdefault(hit.fact, hit)
        for text, ids in others.said_by.items():
            self.said_by.setdefault(text, set()).update(ids)
        self.by_text |= others.by_text
        for text, hit in others.elsewhere.items():
            self.elsewhere.setdefault(text, hit)
