"""What the files of a codebook are called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

KEYS, PICTURES, JOURNAL = "keys", "pictures", "journal.jsonl"

_GENERATION = r"(?:(?P<generation>\d{1,9})-)?"
_NAMES = {
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
        kind: ``"journal"``, ``"statistics"``, ``"settled"``, ``"joined"`` or ``"keys"`` (those of a single edit).
        generation: Which rewriting of the codebook made it; 0 where there was none before.
        first: The number of the first of the keys in it.
    """

    kind: str
    generation: int
    first: int = 0


def parse_name(name: str) -> FileName | None:
    """What a name, from the codebook's folder on, says; none where it is not one that is given here."""
    for kind, pattern in _NAMES.items():
        found = pattern.fullmatch(name)
        if found is not None:
            told = found.groupdict()
            return FileName(kind, int(told["generation"] or 0), int(told.get("first") or 0))
    return None


def journals(folder: Path) -> list[tuple[Path, int]]:
    """The journals in a codebook's folder, and their generations, the latest last."""
    told = [(path, parse_name(path.name)) for path in folder.glob("journal*.jsonl")]
    return sorted(((path, mine.generation) for path, mine in told if mine is not None), key=lambda found: found[1])


def journal_name(generation: int) -> str:
    """The journal."""
    return f"journal-{generation}.jsonl" if generation else JOURNAL


def statistics_name(generation: int) -> str:
    """What the embedding needs."""
    return f"statistics-{generation}.safetensors" if generation else "statistics.safetensors"


def settled_name(generation: int, records: int) -> str:
    """What merged where when so much had happened."""
    return f"settled-{_prefix(generation)}{records}.safetensors"


def keys_name(generation: int, first: int, count: int, *, joined: bool = False) -> str:
    """Keys from a number on, of one edit or joined."""
    return f"{KEYS}/{_prefix(generation)}{first:012d}-{count}{'-joined' if joined else ''}.safetensors"


def _prefix(generation: int) -> str:
    return f"{generation}-" if generation else ""
