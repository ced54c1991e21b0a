"""What a codebook's folder holds, in one small file that is replaced as a whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reasonedit.errors import InputError, NotFoundError
from reasonedit.util.regular import open_file
from reasonedit.util.strictjson import strict_json

from .checksums import Checksums, parse_count
from .errors import DamagedError
from .files import is_there, read_content, write_atomically
from .journal import Mark
from .layout import JOURNAL, parse_name

FORMAT = 5
READABLE_FORMATS = (4, FORMAT)
"""Codebooks of these formats are read as they are, and written in the last one."""
MANIFEST = "codebook.json"
LACKS_STATISTICS = "it names no statistics of pictures, though the keys were made by some"
_MOST = 16 << 20
"""Bytes: room for the sums of 100 million keys."""
_SUM = re.compile(r"(?:[0-9a-f]{16})?")


@dataclass(frozen=True)
class KeyRange:
    """A file with keys and their radii.

    Attributes:
        first: The number of the first key.
        count: How many keys.
        sums: The file.
    """

    first: int
    count: int
    sums: Checksums


@dataclass(frozen=True)
class SavedMerges:
    """A file that says which keys had merged.

    Attributes:
        records: After how many events.
        merge: Whether keys merged then.
        sums: The file.
    """

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
        journal: How far the journal counts.
        numbers: How many keys were ever written.
        sealed: The files with the first of them; each edit behind these has a file of its own.
        statistics: The tensors that the embedding needs.
        settled: Which keys merged.
        generation: How often everything was written anew; each generation has files of its own.
        journal_file: The journal's name.
        statistics_digest: A digest of what is in the statistics; there was none before format 5.
        across_kinds: Whether keys of different kinds merge; codebooks that do not say it keep kinds apart.
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
    across_kinds: bool = False

    def write(self, folder: Path) -> None:
        """Write it in the place of the manifest that is there.

        Raises:
            OSError: It cannot be written.
        """
        values = {"format": FORMAT, **asdict(self)}
        with write_atomically(folder / MANIFEST) as file:
            text = json.dumps({**values, "sum": sum_of_values(values)}, ensure_ascii=False, indent=1)
            file.write(f"{text}\n".encode())

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read a folder's manifest.

        Raises:
            NotFoundError: There is none.
            InputError: It is of another format.
            DamagedError: It is not what was written.
            UnreadableError: It must not be read.
        """
        path = folder / MANIFEST
        if not is_there(path):
            raise NotFoundError(f"There is no codebook in '{folder}': it would hold a file {MANIFEST}.")
        raw = read_content(path, _MOST)
        try:
            values = strict_json(raw.decode())
            json.dumps(values, ensure_ascii=False).encode()  # half a character could never be written again
        except (ValueError, RecursionError) as error:
            raise DamagedError(path, _error_offset(error), f"it is not JSON ({error})") from error
        if not isinstance(values, dict) or "format" not in values:
            raise DamagedError(path, 0, "it is not what a codebook has there")
        if values["format"] not in READABLE_FORMATS:
            raise _format_error(folder, values["format"])
        if values.pop("sum", "") != sum_of_values(values):
            raise DamagedError(path, 0, "its content is not what was written")
        try:
            return cls.from_dict(values)
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(path, 0, f"a field is not what it should be ({error})") from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        """From JSON.

        Raises:
            KeyError: A field is missing.
            TypeError: A field is of another type.
            ValueError: A field has an impossible value, or fields do not go together.
        """
        settled, journal = values["settled"], values.get("journal_file", JOURNAL)
        generation = parse_count(values.get("generation", 0), "the generation")
        name = parse_name(journal)
        if name is None or (name.kind, name.generation) != ("journal", generation):
            raise ValueError(f"'{journal[:80]}' is not the journal of the generation {generation}")
        manifest = cls(
            _get(values, "id", str),
            _get(values, "created", str),
            _get(values, "fingerprint", dict),
            _get(values, "config", dict),
            _get(values, "merge", bool),
            _parse_mark(values["journal"]),
            parse_count(values["numbers"], "the number of keys"),
            tuple(_parse_key_range(part) for part in values["sealed"]),
            None if values["statistics"] is None else Checksums.from_dict(values["statistics"]),
            None if settled is None else _parse_merges(settled),
            generation,
            journal,
            _get({"statistics_digest": "", **values}, "statistics_digest", str),
            _get({"across_kinds": False, **values}, "across_kinds", bool),
        )
        manifest._check()
        return manifest

    def _check(self) -> None:
        """Check that its numbers go together."""
        end = 0
        for part in self.sealed:
            if part.first != end or not part.count:
                raise ValueError(f"the file '{part.sums.file}' does not begin where the one before it ends")
            end += part.count
        if end > self.numbers or (self.settled is not None and self.settled.records >= self.journal.records):
            raise ValueError("there are more keys in files, or events settled, than there were")

    @property
    def model(self) -> str:
        """The VLM's name.

        Raises:
            InputError: The manifest does not say it.
        """
        return str(self._setting("model", str))

    @property
    def design(self) -> dict[str, Any]:
        """The design's settings.

        Raises:
            InputError: The manifest does not say them.
        """
        return dict(self._setting("design", dict))

    @property
    def lacks_statistics(self) -> bool:
        """Whether there are keys, but not the statistics by which they were made: a repair once left it so."""
        design = self.config.get("design")
        embedding = design.get("embedding") if isinstance(design, dict) else None
        layer = embedding.get("layer", "none") if isinstance(embedding, dict) else "none"
        return self.statistics is None and self.numbers > 0 and layer != "none"

    def _setting(self, name: str, kind: type) -> Any:
        value = self.config.get(name)
        if not isinstance(value, kind):
            raise InputError(
                f"The codebook {self.id[:32]} does not say which {name} it was made with: "
                "its manifest was written by something else."
            )
        return value


def stamp_of(folder: Path) -> tuple[int, int, int] | None:
    """What tells one manifest from the next: inode, time in ns, and size; ``None`` where there is none to be read.

    The file is opened for it: NFS asks its server then, where ``stat`` may give what the machine knew up to a minute
    ago, so that a writer took what another machine had written meanwhile for the rest of a write that was cut short.
    """
    with contextlib.suppress(OSError, InputError), open_file(folder / MANIFEST, MANIFEST) as file:
        status = os.fstat(file.fileno())
        return status.st_ino, status.st_mtime_ns, status.st_size
    return None


def _get(values: Mapping[str, Any], name: str, kind: type) -> Any:
    if not isinstance(values[name], kind):
        raise TypeError(f"'{name}' is none")
    return values[name]


def _parse_mark(values: Any) -> Mark:
    mark = Mark(**values)
    if not isinstance(mark.sum, str) or not _SUM.fullmatch(mark.sum):
        raise ValueError("the journal's sum is none")
    parse_count(mark.bytes, "the journal's size")
    parse_count(mark.records, "the number of the journal's records")
    return mark


def _parse_key_range(values: Any) -> KeyRange:
    first, count = (parse_count(values[name], "a number of keys") for name in ("first", "count"))
    return KeyRange(first, count, Checksums.from_dict(values["sums"]))


def _parse_merges(values: Any) -> SavedMerges:
    events = parse_count(values["records"], "the number of events")
    return SavedMerges(events, _get(values, "merge", bool), Checksums.from_dict(values["sums"]))


def _error_offset(error: BaseException) -> int:
    """The byte at which text or JSON goes wrong, where the error says it."""
    return int(getattr(error.__cause__ or error, "pos", getattr(error, "start", 0)))


def _format_error(folder: Path, written: object) -> InputError:
    """The error to raise for a codebook of a format that is not read."""
    if written == 3:
        return InputError(
            f"The codebook in '{folder}' is of format 3: 'reasonedit codebook migrate' embeds its edits again, into "
            "another folder."
        )
    is_newer = isinstance(written, int) and written > FORMAT
    advice = "use a newer version of ReasonEdit." if is_newer else "its manifest was written by something else."
    return InputError(
        f"The codebook in '{folder}' is of format {str(written)[:20]}, this version reads up to {FORMAT}: {advice}"
    )


def sum_of_values(values: Mapping[str, Any]) -> str:
    """The sum that a manifest of these values states: 16 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=8).hexdigest()
