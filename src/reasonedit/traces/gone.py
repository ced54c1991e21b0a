"""What is to be found and taken out where edits are erased."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

ERASED = "(erased)"
"""Stands where a text stood that was erased."""

_REPLIES = ("answer", "thought", "thoughts")
_TELLING = 8
"""Characters: a shorter text is in too many files to say anything."""


@dataclass(frozen=True)
class Gone:
    """Edits that are erased.

    Attributes:
        ids: Their names.
        texts: What they wrote, as far as no other edit has the same.
        answers: Their right answers.
        questions: Their questions.
        pictures: Names of their pictures, as far as no other edit has the same.
        sentences: What was said of them by way of reasoning.
    """

    ids: frozenset[str]
    texts: frozenset[str]
    answers: frozenset[str]
    questions: frozenset[str]
    pictures: frozenset[str]
    sentences: frozenset[str]

    def cleaned(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """A row about one question without what is erased; none where the question itself belongs to such an edit.

        Args:
            row: The row of a log or of predictions: ``edit`` names the edit that the question belongs to.
        """
        if row.get("edit") in self.ids or row.get("id") in self.ids:
            return None
        used = self._used(row)
        longest = sorted(self.texts, key=len, reverse=True)
        clean: dict[str, Any] = {name: self._clean(value, longest) for name, value in row.items()}
        for name in _REPLIES if used else ():
            said = clean.get(name)
            if isinstance(said, str) and any(answer.casefold() in said.casefold() for answer in self.answers):
                clean[name] = ERASED  # what was answered is what the facts said
        return clean

    def _used(self, row: Mapping[str, Any]) -> bool:
        """Whether facts of the edits stood before a question."""
        found = row.get("found")
        hits = found.get("hits") or [] if isinstance(found, Mapping) else []
        named = {*(row.get("fact_edits") or ()), *(hit.get("edit_id") for hit in hits)}
        return bool(named & self.ids)

    def _clean(self, value: Any, longest: list[str]) -> Any:
        if isinstance(value, str):
            if value in self.ids:
                return ERASED
            for text in longest:
                value = value.replace(text, ERASED)
            return value
        if isinstance(value, Mapping):
            return {name: self._clean(inner, longest) for name, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._clean(inner, longest) for inner in value]
        return value

    @cached_property
    def needles(self) -> list[bytes]:
        """Bytes by which a file is known that holds any of it, as text or in JSON."""
        texts = {*self.texts, *self.questions, *self.ids, *self.pictures}
        telling = [text for text in texts if len(text) >= _TELLING]
        forms = {form for text in telling for form in (text, _escaped(text), _escaped(text, ascii_only=False))}
        return sorted(form.encode("utf-8", "surrogatepass") for form in forms)

    def is_in(self, data: bytes) -> bool:
        """Whether bytes hold any of it."""
        return any(needle in data for needle in self.needles)


def _escaped(text: str, *, ascii_only: bool = True) -> str:
    """A text as it stands in JSON."""
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]
