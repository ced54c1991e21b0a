"""Which edits are of use: whose facts answers used, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .stored_edit import StoredEdit


@dataclass(frozen=True)
class Use:
    """Which edits are of use, of those that count.

    Attributes:
        never: Those of which no fact was used, in the order in which they came.
        most: Those of which facts were used, with how often, the most used first; of equally used ones the earlier.
        contradictions: Pairs of edits that answer the same question about the same picture differently, the later one
            first.
        gone: How often facts were used of edits that are undone, erased or unknown.
    """

    never: list[str]
    most: list[tuple[str, int]]
    contradictions: list[tuple[str, str]]
    gone: int


def summarise_use(used: Mapping[str, int], edits: Mapping[str, StoredEdit]) -> Use:
    """Summarise which edits are of use.

    Args:
        used: How often facts of each edit were used, by its id: a ``Counter`` of the ``edit_id`` of all hits.
        edits: The edits that count; :attr:`~reasonedit.codebook.EditMemory.edits`.
    """
    most = sorted(((name, used[name]) for name in edits if used.get(name)), key=lambda pair: -pair[1])
    pairs = [(edit.id, other) for edit in edits.values() for other in edit.contradicts if other in edits]
    gone = sum(count for name, count in used.items() if name not in edits)
    return Use([name for name in edits if not used.get(name)], most, pairs, gone)
