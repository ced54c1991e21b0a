"""What is to be found and taken out where edits are erased."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reasonedit.codebook.disk.files import sync

ERASED = "(erased)"
"""Stands where a text stood that was erased."""

_ASKED = ("question", "prompt")
_REPLIES = ("answer", "thought", "thoughts")
_SHORTEST_NEEDLE = 8
"""Characters: a shorter text is in too many files to say anything."""


@dataclass(frozen=True)
class ErasedEdits:
    """Edits that are erased.

    Attributes:
        ids: Their ids.
        texts: What they wrote, as far as no other edit has the same.
        answers: Their right answers.
        questions: Their questions, as far as no other edit has the same.
        pictures: Names of their pictures, as far as no other edit has the same.
        sentences: Their reasoning.
    """

    ids: frozenset[str]
    texts: frozenset[str]
    answers: frozenset[str]
    questions: frozenset[str]
    pictures: frozenset[str]
    sentences: frozenset[str]

    def clean_row(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """A row about one question without what is erased; ``None`` where the question itself belongs to such an edit.

        Args:
            row: A row of a run's log, which has what was ``found``, or of its predictions, which have ``facts``,
                ``fact_edits`` and ``left_out``. ``edit`` names the edit that the question belongs to.
        """
        if row.get("edit") in self.ids or row.get("id") in self.ids:
            return None
        clean = dict(row)
        for name in ("facts", "left_out"):
            if row.get(name):
                clean[name] = [self._clean_fact(text) for text in row[name]]
        if row.get("fact_edits"):
            clean["fact_edits"] = [ERASED if name in self.ids else name for name in row["fact_edits"]]
        found = row.get("found")
        if isinstance(found, Mapping):
            lists = {name: [self._clean_hit(hit) for hit in found.get(name) or ()] for name in ("hits", "left_out")}
            clean["found"] = {**found, **lists}
        hits = found.get("hits") or () if isinstance(found, Mapping) else ()
        if self._were_used(row, hits):
            clean |= {name: self._clean_text(name, row[name]) for name in (*_ASKED, *_REPLIES) if row.get(name)}
            facts = {*(row.get("facts") or ()), *(hit["fact"] for hit in hits)} & self.texts
            if row.get("prompt") and not all(fact in row["prompt"] for fact in facts):
                clean["prompt"] = ERASED  # a model's special tokens were taken out of a fact: it stands otherwise there
        return clean

    def _were_used(self, row: Mapping[str, Any], hits: Iterable[Mapping[str, Any]]) -> bool:
        """Whether facts of the edits stood before a question."""
        return not self.ids.isdisjoint({*(row.get("fact_edits") or ()), *(hit.get("edit_id") for hit in hits)})

    def _clean_fact(self, text: str) -> str:
        return ERASED if text in self.texts else text

    def _clean_hit(self, hit: Mapping[str, Any]) -> dict[str, Any]:
        clean = {**hit, "via": self._clean_fact(hit["via"])} if hit.get("via") else dict(hit)  # whosever the hit is
        if hit.get("edit_id") not in self.ids:
            return clean
        return {**clean, "fact": self._clean_fact(hit["fact"]), "edit_id": ERASED}

    def _clean_text(self, name: str, text: str) -> str:
        """A prompt with facts of the edits, or what was replied to it, without them.

        Args:
            name: The column.
            text: What it holds.
        """
        for fact in sorted(self.texts, key=len, reverse=True):
            text = text.replace(fact, ERASED)
        # A reply that holds the right answer repeats what the facts say.
        repeats = name in _REPLIES and any(answer.casefold() in text.casefold() for answer in self.answers)
        return ERASED if repeats else text

    @cached_property
    def needles(self) -> list[bytes]:
        """Bytes by which a file is known that holds any of it, as text or in JSON."""
        texts = {*self.texts, *self.questions, *self.ids, *self.pictures}
        long_enough = [text for text in texts if len(text) >= _SHORTEST_NEEDLE]
        forms = {form for text in long_enough for form in (text, _escape(text), _escape(text, ascii_only=False))}
        return sorted(form.encode("utf-8", "surrogatepass") for form in forms)

    def is_in(self, data: bytes) -> bool:
        """Whether bytes hold any of it."""
        return any(needle in data for needle in self.needles)


def remove(path: Path) -> None:
    """Remove a file so that it does not come back when the power goes.

    Raises:
        OSError: It cannot be removed.
    """
    path.unlink(missing_ok=True)
    sync(path.parent)


def _escape(text: str, *, ascii_only: bool = True) -> str:
    """A text as it stands in JSON."""
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]
