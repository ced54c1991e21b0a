"""What a codebook's folder holds, in one small file that is replaced as a whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError
from reasonedit.strictjson import strict_json

from .checksums import Checksums, parse_count
from .errors import DamagedError
from .files import is_there, read_content, write_atomically
from .journal import Mark
from .layout import JOURNAL, parse_name

FORMAT = 5
READABLE_FORMATS = (4, FORMAT)
"""The formats that are read as they are; they are written as the last of them."""
MANIFEST = "codebook.json"
_MOST = 16 << 20
"""Bytes: room for the sums of 100 million keys."""
_SUM = re.compile(r"(?:[0-9a-f]{16})?")


@dataclass(frozen=True)
class KeyRange:
    """A file with the keys and radii of a range of numbers."""

    first: int
    count: int
    sums: Checksums


@dataclass(frozen=True)
class SavedMerges:
    """Where what merged when the journal had so many records."""

    records: int
    merge: bool
    sums: Checksums


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
        statistics_digest: A checksum of what is in these tensors; before format 5 there was none.
    """

    id: str
    created: str
    fingerprint: dict[str, Any]
    config: dict[str, Any]
    merge: bool
    journal: Mark = field(default_factory=Mark)
    numbers: int = 0
    sealed: tuple[KeyRange, ...] = ()
    statistics: Checksums | None = None
    settled: SavedMerges | None = None
    generation: int = 0
    journal_file: str = JOURNAL
    statistics_digest: str = ""

    def write(self, folder: Path) -> None:
        """Put it in the place of the one before.

        Raises:
            OSError: It cannot be written.
        """
        values = {"format": FORMAT, **asdict(self)}
        with write_atomically(folder / MANIFEST) as file:
            text = json.dumps({**values, "sum": sum_of_values(values)}, ensure_ascii=False, indent=1)
            file.write(f"{text}\n".encode())

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """That of a folder.

        Raises:
            ReasonEditError: There is none, or it is of another format.
            DamagedError: It is not what was written.
        """
        path = folder / MANIFEST
        if not is_there(path):
            raise ReasonEditError(f"There is no codebook in '{folder}': it would hold a file {MANIFEST}.")
        raw = read_content(path, _MOST)
        try:
            values = strict_json(raw.decode())
            json.dumps(values, ensure_ascii=False).encode()  # half a character could never be written again
        except (ValueError, RecursionError) as error:
            raise DamagedError(path, _place(error), f"it is no JSON ({error})") from error
        if not isinstance(values, dict) or "format" not in values:
            raise DamagedError(path, 0, "it is not what a codebook has there")
        if values["format"] not in READABLE_FORMATS:
            raise ReasonEditError(_foreign(folder, values["format"]))
        if values.pop("sum", "") != sum_of_values(values):
            raise DamagedError(path, 0, "its content is not what was written")
        try:
            return cls.from_dict(values)
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(path, 0, f"a field is not what it should be ({error})") from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        settled, journal = values["settled"], values.get("journal_file", JOURNAL)
        generation = parse_count(values.get("generation", 0), "the generation")
        told = parse_name(journal)
        if told is None or (told.kind, told.generation) != ("journal", generation):
            raise ValueError(f"'{journal[:80]}' is not the journal of the generation {generation}")
        made = cls(
            _of_type(str, values, "id"),
            _of_type(str, values, "created"),
            _of_type(dict, values, "fingerprint"),
            _of_type(dict, values, "config"),
            _of_type(bool, values, "merge"),
            _mark(values["journal"]),
            parse_count(values["numbers"], "the number of keys"),
            tuple(_sealed(part) for part in values["sealed"]),
            None if values["statistics"] is None else Checksums.from_dict(values["statistics"]),
            None if settled is None else _settled(settled),
            generation,
            journal,
            _of_type(str, {"statistics_digest": "", **values}, "statistics_digest"),
        )
        made._check()
        return made

    def _check(self) -> None:
        """See that its numbers go together."""
        behind = 0
        for part in self.sealed:
            if part.first != behind or not part.count:
                raise ValueError(f"the file '{part.sums.file}' does not begin where the one before it ends")
            behind += part.count
        if behind > self.numbers or (self.settled is not None and self.settled.records >= self.journal.records):
            raise ValueError("there are more keys in files, or events settled, than there were")

    @property
    def model(self) -> str:
        """The VLM's name.

        Raises:
            ReasonEditError: It is not said.
        """
        return str(self._setting("model", str))

    @property
    def design(self) -> dict[str, Any]:
        """The design's settings.

        Raises:
            ReasonEditError: They are not said.
        """
        return dict(self._setting("design", dict))

    def _setting(self, name: str, kind: type) -> Any:
        value = self.config.get(name)
        if not isinstance(value, kind):
            raise ReasonEditError(
                f"The codebook {self.id[:32]} does not say which {name} it was made with: "
                "its manifest was written by something else."
            )
        return value


def _of_type(kind: type, values: Mapping[str, Any], name: str) -> Any:
    if not isinstance(values[name], kind):
        raise TypeError(f"'{name}' is none")
    return values[name]


def _mark(values: Any) -> Mark:
    mark = Mark(**values)
    if not isinstance(mark.sum, str) or not _SUM.fullmatch(mark.sum):
        raise ValueError("the journal's sum is none")
    parse_count(mark.bytes, "the journal's size")
    parse_count(mark.records, "the number of the journal's records")
    return mark


def _sealed(values: Any) -> KeyRange:
    first, count = (parse_count(values[name], "a number of keys") for name in ("first", "count"))
    return KeyRange(first, count, Checksums.from_dict(values["sums"]))


def _settled(values: Any) -> SavedMerges:
    records = parse_count(values["records"], "the number of events")
    return SavedMerges(records, _of_type(bool, values, "merge"), Checksums.from_dict(values["sums"]))


def _place(error: BaseException) -> int:
    """The byte at which text or JSON goes wrong, where that is known."""
    return int(getattr(error.__cause__ or error, "pos", getattr(error, "start", 0)))


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


def sum_of_values(values: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=8).hexdigest()
