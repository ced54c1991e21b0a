"""The codebook: keys with the facts they stand for (section 3 of the method; arXiv 2602.02408)."""

from __future__ import annotations

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

FORMAT = 1
_KEYS, _CONTENT = "keys.safetensors", "codebook.json"


@dataclass(frozen=True)
class Fact:
    """One value under a key: the sentence, the kind of entry (``answer`` or ``image``) and the edit it comes from."""

    text: str
    entry: str
    edit_id: str


@dataclass(frozen=True)
class StoredEdit:
    """The text of an edit, kept for a person to read."""

    id: str
    question: str
    answer: str
    reasoning: list[str]
    choices: list[str] | None = None


def entries_of(edit: Edit) -> list[tuple[str, Fact]]:
    """What an edit writes, as (text of the key, fact): the answer entry, and a whole-image entry per sentence."""
    answer = (edit.question, Fact(edit.answer_fact, "answer", edit.id))
    return [answer, *((s, Fact(s, "image", edit.id)) for s in edit.reasoning)]


class EditMemory:
    """Keys, facts and edits, in the order in which they came.

    Attributes:
        entries: For each key, its facts.
        edits: The edits, by id.
    """

    def __init__(self) -> None:
        self._buffer = torch.empty(0, 0)
        self.entries: list[list[Fact]] = []
        self.edits: dict[str, StoredEdit] = {}
        self._rows: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def keys(self) -> Tensor:
        """All keys: (N, D) float32 on the CPU, a view that must not be changed."""
        return self._buffer[: len(self.entries)]

    def write(self, edit: Edit, keys: Tensor) -> int:
        """Add an edit.

        A key that is exactly there already gets the fact added to its own, unless it has it.

        Args:
            edit: The edit.
            keys: One key per entry of :func:`entries_of`, (entries, D).

        Returns:
            How many keys are new.

        Raises:
            ReasonEditError: An edit of this id is there already, or the keys are of another width.
        """
        entries = entries_of(edit)
        if edit.id in self.edits:
            raise ReasonEditError(f"There is an edit '{edit.id}' in the codebook already: give the new one another id.")
        if len(keys) != len(entries):
            raise ValueError(f"{len(entries)} entries but {len(keys)} keys")
        if len(self) and keys.shape[1] != self._buffer.shape[1]:
            raise ReasonEditError(
                f"The codebook's keys are {self._buffer.shape[1]} wide, the new ones {keys.shape[1]}."
            )
        before = len(self)
        # Lightning calls in inference mode; what is kept must be an ordinary tensor.
        with torch.inference_mode(False):
            for row, (_, fact) in zip(keys.detach().to("cpu", torch.float32).clone(), entries, strict=True):
                self._add(row, fact)
        self.edits[edit.id] = StoredEdit(edit.id, edit.question, edit.answer, list(edit.reasoning), edit.choices)
        return len(self) - before

    def _add(self, key: Tensor, fact: Fact) -> None:
        raw = key.numpy().tobytes()
        row = self._rows.get(raw)
        if row is not None:
            if fact.text not in [f.text for f in self.entries[row]]:
                self.entries[row].append(fact)
            return
        row = len(self.entries)
        if row >= len(self._buffer):
            grown = torch.empty(max(64, 2 * row), len(key))
            if row:
                grown[:row] = self.keys
            self._buffer = grown
        self._buffer[row] = key
        self._rows[raw] = row
        self.entries.append([fact])

    def save(self, folder: str | os.PathLike[str], fingerprint: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Write the memory into a folder; what is there already is replaced only once the new files are complete.

        Args:
            folder: Made when it does not exist.
            fingerprint: What made the keys: VLM, layer, sentence encoder, w.
            config: Anything needed to go on with the same settings.

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
                save_file({"keys": self.keys.clone()}, part / _KEYS)
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
    def load(cls, folder: str | os.PathLike[str]) -> tuple[EditMemory, dict[str, Any], dict[str, Any]]:
        """Read a memory with its fingerprint and config.

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
                    f"The codebook in '{source}' is of format {content['format']}, this version reads {FORMAT}."
                )
            keys = load_file(source / _KEYS)["keys"]
            memory = cls()
            memory.entries = [[Fact(**f) for f in facts] for facts in content["entries"]]
            memory.edits = {e["id"]: StoredEdit(**e) for e in content["edits"]}
            fingerprint, config = content["fingerprint"], content["config"]
        except (OSError, SafetensorError, json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise ReasonEditError(f"The codebook in '{source}' is damaged: {error}") from error
        if len(keys) != len(memory.entries):
            raise ReasonEditError(
                f"The codebook in '{source}' is damaged: {len(keys)} keys but {len(memory.entries)} entries."
            )
        memory._buffer = keys
        memory._rows = {key.numpy().tobytes(): row for row, key in enumerate(keys)}
        return memory, fingerprint, config


def check_fingerprint(stored: Mapping[str, Any], current: Mapping[str, Any], folder: str | os.PathLike[str]) -> None:
    """Refuse a codebook whose keys were made otherwise.

    Raises:
        ReasonEditError: Names what differs.
    """
    differing: Sequence[str] = [k for k in {**stored, **current} if stored.get(k) != current.get(k)]
    if differing:
        details = ", ".join(f"{k}: stored {stored.get(k)!r}, now {current.get(k)!r}" for k in sorted(differing))
        raise ReasonEditError(f"The codebook in '{folder}' was made with another model or setting ({details}).")
