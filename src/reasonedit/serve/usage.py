"""How questions were answered, and which edits were of use, since the server began."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from reasonedit.types import Answer


class Usage:
    """Counts questions and the edits whose facts stood before them.

    Args:
        earlier: For each question that was kept before, the ids of its edits.
    """

    def __init__(self, earlier: Iterable[Iterable[str]] = ()) -> None:
        self._lock = threading.Lock()
        self.questions = self.with_facts = self.out_of_range = 0
        self._used: Counter[str] = Counter()
        for ids in earlier:
            self._add(set(ids))

    def note(self, answer: Answer) -> None:
        """Count a question that was answered with the codebook."""
        with self._lock:
            self._add({hit.edit_id for hit in answer.hits})
            self.out_of_range += answer.in_range is False

    def _add(self, ids: set[str]) -> None:
        self.questions += 1
        self.with_facts += bool(ids)
        self._used.update(ids)

    def of(self, edit_id: str) -> int:
        """How many questions facts of an edit stood before."""
        return self._used[edit_id]

    def used(self) -> dict[str, int]:
        """The same of all edits that were used."""
        with self._lock:
            return dict(self._used)
