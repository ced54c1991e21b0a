"""The names of a codebook's files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

KEYS, PICTURES, JOURNAL = "keys", "pictures", "journal.jsonl"
"""The folders of keys and of pictures, and the first journal."""

_GENERATION = r"(?:(?P<generation>\d{1,9})-)?"
_PATTERNS = {
    "journal": re.compile(r"journal(?:-(?P<generation>\d{1,9}))?\.jsonl"),
    "statistics": re.compile(r"statistics(?:-(?P<generation>\d{1,9}))?\.safetensors"),
    "settled": re.compile(rf"settled-{_GENERATION}\d+\.safetensors"),
    "joined": re.compile(rf"{KEYS}/{_GENERATION}(?P<first>\d{{12}})-\d+-joined\.safetensors"),
    "keys": re.compile(rf"{KEYS}/{_GENERATION}(?P<first>\d{{12}})-\d+\.safetensors"),
}


@dataclass(frozen=True)
class FileName:
    """What the name of a file says.

    Attributes:
        kind: ``"journal"``, ``"statistics"``, ``"settled"``, ``"joined"`` or ``"keys"`` (of a single edit).
        generation: Which rewriting of the codebook made the file; 0 before the first.
        first: The number of the first key in it.
    """

    kind: str
    generation: int
    first: int = 0


def parse_name(name: str) -> FileName | None:
    """Read a file's name; none where a codebook gives no such name.

    Args:
        name: The name, from the codebook's folder on.
    """
    for kind, pattern in _PATTERNS.items():
        match = pattern.fullmatch(name)
        if match is not None:
            groups = match.groupdict()
            return FileName(kind, int(groups["generation"] or 0), int(groups.get("first") or 0))
    return None


def journals(folder: Path) -> list[tuple[Path, int]]:
    """The journals in a codebook's folder and their generations, the latest last."""
    names = [(path, parse_name(path.name)) for path in folder.glob("journal*.jsonl")]
    generations = [(path, name.generation) for path, name in names if name is not None]
    return sorted(generations, key=lambda pair: pair[1])


def journal_name(generation: int) -> str:
    """The name of the journal."""
    return f"journal-{generation}.jsonl" if generation else JOURNAL


def statistics_name(generation: int) -> str:
    """The name of the file with what the embedding needs."""
    return f"statistics-{generation}.safetensors" if generation else "statistics.safetensors"


def settled_name(generation: int, events: int) -> str:
    """The name of the file that says which keys had merged after so many events."""
    return f"settled-{_prefix(generation)}{events}.safetensors"


def keys_name(generation: int, first: int, count: int, *, joined: bool = False) -> str:
    """The name of a file of ``count`` keys from the number ``first`` on, of one edit or joined from several."""
    return f"{KEYS}/{_prefix(generation)}{first:012d}-{count}{'-joined' if joined else ''}.safetensors"


def _prefix(generation: int) -> str:
    return f"{generation}-" if generation else ""
