"""The codebook: keys with the facts they stand for (section 3 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reasonedit.edits import Edit
from reasonedit.errors import ReasonEditError

from .near import Neighbourhood
from .radius import REACH, merges

FORMAT = 3
_KEYS, _CONTENT, _STATISTICS = "keys.safetensors", "codebook.json", "statistics."


@dataclass(frozen=True)
class Fact:
    """One value under a key.

    Attributes:
        text: The sentence.
        entry: What the key is made of: the image and the question (``"answer"``), the whole image and a text
            (``"image"``), a region that the VLM affirmed and a text (``"patch"``), a region that a person gave or the
            VLM only guessed and a text (``"given"``), or a text alone (``"text"``).
        edit_id: The edit it comes from.
    """

    text: str
    entry: str
    edit_id: str


@dataclass(frozen=True)
class Entry:
    """What an edit writes: a key (D,), its radius, and the fact it stands for."""

    key: Tensor
    radius: float
    fact: Fact


@dataclass(frozen=True)
class StoredEdit:
    """The text of an edit, kept for a person to read."""

    id: str
    question: str
    answer: str
    reasoning: list[str]
    choices: list[str] | None = None


class EditMemory:
    """Keys, radii, facts and edits, in the order in which they came.

    Args:
        merge: Whether a new key merges into an old one that it nearly coincides with.

    Attributes:
        entries: For each key, its facts.
        edits: The edits, by id.
    """

    def __init__(self, merge: bool = True) -> None:
        self.merge = merge
        self.entries: list[list[Fact]] = []
        self.edits: dict[str, StoredEdit] = {}
        self._buffer = torch.empty(0, 0)
        self._radii = torch.empty(0)
        self._near = Neighbourhood()
        self._rows: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def keys(self) -> Tensor:
        """All keys: (N, D) float32 on the CPU, a view that must not be changed."""
        return self._buffer[: len(self.entries)]

    @property
    def radii(self) -> Tensor:
        """The radius of each key: (N,) float32, a view that must not be changed."""
        return self._radii[: len(self.entries)]

    def write(self, edit: Edit, entries: Sequence[Entry]) -> int:
        """Add an edit.

        Args:
            edit: The edit.
            entries: What it writes.

        Returns:
            How many keys are new.

        Raises:
            ReasonEditError: An edit of this id is there already, or the keys are of another width.
        """
        if edit.id in self.edits:
            raise ReasonEditError(f"There is an edit '{edit.id}' in the codebook already: give the new one another id.")
        widths = {self._buffer.shape[1]} if len(self) else set()
        widths |= {len(e.key) for e in entries}
        if len(widths) > 1:
            raise ReasonEditError(
                f"Keys of {' and '.join(map(str, sorted(widths)))} numbers cannot stand in one codebook: it was made "
                "with another layer or sentence encoder. Use the same ones, or start a new codebook."
            )
        before = len(self)
        # Lightning calls in inference mode; what is kept must be an ordinary tensor.
        with torch.inference_mode(False):
            for e in entries:
                self._add(e.key.detach().to("cpu", torch.float32).clone(), e.radius, e.fact)
        self.edits[edit.id] = StoredEdit(edit.id, edit.question, edit.answer, list(edit.reasoning), edit.choices)
        return len(self) - before

    def _add(self, key: Tensor, radius: float, fact: Fact) -> None:
        name = _digest(key, fact.entry)
        row, distance = self._rows.get(name), 0.0
        if row is None and self.merge and radius > 0 and len(self):
            row, distance = self._mergeable(key, radius, fact.entry)
        if row is not None:
            self._radii[row] = max(float(self._radii[row]), distance + radius)
            if fact.text not in [f.text for f in self.entries[row]]:
                self.entries[row].append(fact)
            return
        row = len(self.entries)
        if row >= len(self._buffer):
            self._grow(max(64, 2 * row), len(key))
        self._buffer[row], self._radii[row] = key, radius
        self._rows[name] = row
        self.entries.append([fact])
        self._near.update(self.keys)

    def _mergeable(self, key: Tensor, radius: float, entry: str) -> tuple[int | None, float]:
        """The nearest key of the same sort that a new one merges into, and its distance."""
        rows = self._near.within(key, REACH * radius)
        distances = (self.keys[rows] - key).norm(dim=1)
        for i in distances.argsort(stable=True).tolist():
            row, distance = int(rows[i]), float(distances[i])
            if self.entries[row][0].entry == entry and merges(radius, float(self._radii[row]), distance):
                return row, distance
        return None, 0.0

    def _grow(self, rows: int, width: int) -> None:
        keys, radii, count = self._buffer, self._radii, len(self.entries)
        self._buffer, self._radii = torch.empty(rows, width), torch.empty(rows)
        if count:
            self._buffer[:count], self._radii[:count] = keys[:count], radii[:count]

    def save(
        self,
        folder: str | os.PathLike[str],
        fingerprint: Mapping[str, Any],
        config: Mapping[str, Any],
        statistics: Mapping[str, Tensor],
    ) -> None:
        """Write the memory into a folder; what is there already is replaced only once the new files are complete.

        Args:
            folder: Made when it does not exist.
            fingerprint: What made the keys: VLM, layer, sentence encoder, w.
            config: Anything needed to go on with the same settings.
            statistics: Tensors that the embedding needs.

        Raises:
            ReasonEditError: The folder cannot be written (no space, no permission).
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        content = {
            "format": FORMAT,
            "fingerprint": dict(fingerprint),
            "config": dict(config),
            "edits": [asdict(e) for e in self.edits.values()],
            "entries": [[asdict(f) for f in facts] for facts in self.entries],
        }
        target = Path(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target, prefix=".saving-") as name:
                part = Path(name)
                tensors = {"keys": self.keys.clone(), "radii": self.radii.clone()}
                tensors |= {f"{_STATISTICS}{k}": v.contiguous() for k, v in statistics.items()}
                save_file(tensors, part / _KEYS)
                (part / _CONTENT).write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
                # Both are complete: only now is anything that was there replaced.
                (part / _KEYS).replace(target / _KEYS)
                (part / _CONTENT).replace(target / _CONTENT)
        except (OSError, SafetensorError) as error:
            raise ReasonEditError(
                f"The codebook cannot be written to '{target}' ({getattr(error, 'strerror', None) or error}): "
                "free some space or name another folder. What was stored there before is unchanged."
            ) from error

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str]
    ) -> tuple[EditMemory, dict[str, Any], dict[str, Any], dict[str, Tensor]]:
        """Read a memory with its fingerprint, config and statistics.

        Raises:
            ReasonEditError: The folder is not there or is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        source = Path(folder)
        if not (source / _CONTENT).is_file():
            raise ReasonEditError(f"There is no codebook in '{source}': it would hold a file {_CONTENT}.")
        try:
            content = json.loads((source / _CONTENT).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ReasonEditError(
                    f"The codebook in '{source}' is of format {content['format']}, this version reads {FORMAT}: "
                    "write its edits into a new one."
                )
            tensors = load_file(source / _KEYS)
            keys, radii = tensors["keys"], tensors["radii"]
            statistics = {k.removeprefix(_STATISTICS): v for k, v in tensors.items() if k.startswith(_STATISTICS)}
            memory = cls()
            memory.entries = [[Fact(**f) for f in facts] for facts in content["entries"]]
            memory.edits = {e["id"]: StoredEdit(**e) for e in content["edits"]}
            fingerprint, config = content["fingerprint"], content["config"]
        except (OSError, SafetensorError, json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise ReasonEditError(f"The codebook in '{source}' is damaged: {error}") from error
        if not len(keys) == len(radii) == len(memory.entries):
            raise ReasonEditError(
                f"The codebook in '{source}' is damaged: {len(keys)} keys but {len(memory.entries)} entries."
            )
        memory._buffer, memory._radii = keys, radii
        memory._rows = {
            _digest(key, facts[0].entry): i for i, (key, facts) in enumerate(zip(keys, memory.entries, strict=True))
        }
        memory._near.update(memory.keys)
        return memory, fingerprint, config, statistics


def _digest(key: Tensor, entry: str) -> bytes:
    return hashlib.blake2b(key.numpy().tobytes(), digest_size=16, key=entry.encode()).digest()


def check_fingerprint(stored: Mapping[str, Any], current: Mapping[str, Any], folder: str | os.PathLike[str]) -> None:
    """Refuse a codebook whose keys were made otherwise.

    Raises:
        ReasonEditError: Names what differs.
    """
    differing: Sequence[str] = [k for k in {**stored, **current} if stored.get(k) != current.get(k)]
    if differing:
        details = ", ".join(f"{k}: stored {stored.get(k)!r}, now {current.get(k)!r}" for k in sorted(differing))
        raise ReasonEditError(f"The codebook in '{folder}' was made with another model or setting ({details}).")
