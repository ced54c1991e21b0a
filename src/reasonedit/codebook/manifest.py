"""What a codebook's folder holds, in one small file that is replaced as a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError

from .files import DamagedError, Sums, whole
from .journal import Mark
from .layout import JOURNAL, named

FORMAT = 5
READ = (4, FORMAT)
"""The formats that are read as they are; they are written as the last of them."""
MANIFEST = "codebook.json"


@dataclass(frozen=True)
class Sealed:
    """A file with the keys and radii of a range of numbers."""

    first: int
    count: int
    sums: Sums


@dataclass(frozen=True)
class Settled:
    """Where what merged when the journal had so many records."""

    records: int
    merge: bool
    sums: Sums


@dataclass(frozen=True)
class Manifest:
    """What counts: whatever else lies in the folder was never acknowledged, or is left over.

    Attributes:
        id: Tells this codebook from any other.
        created: When it was made.
        fingerprint: What made the keys: VLM, layer, sentence encoder, w.
        config: The VLM's name and the design.
        merge: Whether keys merge.
        journal: How far the journal goes.
        numbers: How many keys were ever written.
        sealed: The files that hold the first of them; each edit behind has a file of its own.
        statistics: The tensors that the embedding needs.
        settled: Where what merged.
        generation: How often everything was written anew; files of one generation are never taken for another's.
        journal_file: The journal's name.
    """

    id: str
    created: str
    fingerprint: dict[str, Any]
    config: dict[str, Any]
    merge: bool
    journal: Mark = field(default_factory=Mark)
    numbers: int = 0
    sealed: tuple[Sealed, ...] = ()
    statistics: Sums | None = None
    settled: Settled | None = None
    generation: int = 0
    journal_file: str = JOURNAL

    def write(self, folder: Path) -> None:
        """Put it in the place of the one before.

        Raises:
            OSError: It cannot be written.
        """
        content = {"format": FORMAT, **asdict(self)}
        with whole(folder / MANIFEST) as part:
            text = json.dumps({**content, "sum": _sum(content)}, ensure_ascii=False, indent=1)
            part.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """That of a folder.

        Raises:
            ReasonEditError: There is none, or it is of another format.
            DamagedError: It is not what was written.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise ReasonEditError(f"There is no codebook in '{folder}': it would hold a file {MANIFEST}.")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DamagedError(path, getattr(error, "pos", getattr(error, "start", 0)), "it is no JSON") from error
        if not isinstance(values, dict) or "format" not in values:
            raise DamagedError(path, 0, "it is not what a codebook has there")
        if values["format"] not in READ:
            raise ReasonEditError(_foreign(folder, values["format"]))
        if values.pop("sum", "") != _sum(values):
            raise DamagedError(path, 0, "its content is not what was written")
        try:
            return cls._of(values)
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(path, 0, f"a field is not what it should be ({error})") from error

    @classmethod
    def _of(cls, values: Mapping[str, Any]) -> Manifest:
        settled = values["settled"]
        generation, journal = values.get("generation", 0), values.get("journal_file", JOURNAL)
        told = named(journal)
        if type(generation) is not int or told is None or (told.kind, told.generation) != ("journal", generation):
            raise ValueError(f"{generation!r} and '{journal}' are no generation and its journal")
        return cls(
            values["id"],
            values["created"],
            values["fingerprint"],
            values["config"],
            bool(values["merge"]),
            Mark(**values["journal"]),
            int(values["numbers"]),
            tuple(Sealed(int(s["first"]), int(s["count"]), Sums.from_dict(s["sums"])) for s in values["sealed"]),
            None if values["statistics"] is None else Sums.from_dict(values["statistics"]),
            None
            if settled is None
            else Settled(int(settled["records"]), bool(settled["merge"]), Sums.from_dict(settled["sums"])),
            generation,
            journal,
        )


def _foreign(folder: Path, told: object) -> str:
    """Why a format is not read, and what to do."""
    if told == 3:
        return (
            f"The codebook in '{folder}' is of format 3: 'reasonedit codebook migrate' embeds its edits anew, into "
            "another folder."
        )
    newer = isinstance(told, int) and told > FORMAT
    return f"The codebook in '{folder}' is of format {str(told)[:20]}, this version reads up to {FORMAT}: " + (
        "use a newer version of ReasonEdit." if newer else "its manifest was written by something else."
    )


def _sum(content: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()
