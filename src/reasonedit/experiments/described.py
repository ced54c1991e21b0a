"""What a cell is made of, in values that can be written down and compared."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import lightning as L

import reasonedit.callbacks as cb
from reasonedit.cache import cache_folder
from reasonedit.data.base_pass import BasePass
from reasonedit.design import Design
from reasonedit.types import Edit, Query

_BY_CONTENT = 256 * 1024 * 1024
_NAMES = ("title", "seconds")  # what an editor is called, and what it has measured


def said_of(callback: L.Callback, default: Design) -> dict[str, Any]:
    """What a callback was made with, its design as it holds.

    Args:
        callback: One that has not run yet.
        default: The design that a codebook has where none was named.
    """
    made = {k: plain(v) for k, v in vars(callback).items() if k not in _NAMES}
    if isinstance(callback, cb.Codebook):
        design = callback.design if callback.design is not None else default
        design = Design.load(design, default) if isinstance(design, str) else design
        made["design"] = design.to_dict()
    kind = type(callback)
    return {"class": f"{kind.__module__}.{kind.__qualname__}", **made}


def plain(value: Any) -> Any:
    """A value as JSON can hold it; what has no plain value is named by its class."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):  # what is kept in the cache is named by what it depends on
        return value.name if value.is_relative_to(cache_folder()) else str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return f"{type(value).__module__}.{type(value).__qualname__}"


def classes_of(config: Any) -> Iterator[tuple[type, dict[str, Any]]]:
    """The classes that a resolved config names, however deep, each with its arguments."""
    if isinstance(config, Mapping):
        path = config.get("class_path")
        if isinstance(path, str):
            module, _, name = path.rpartition(".")
            yield getattr(importlib.import_module(module), name), dict(config.get("init_args") or {})
        for value in config.values():
            yield from classes_of(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from classes_of(value)


def encoders_of(*values: Any) -> set[str]:
    """Names of the sentence encoders among arguments: those that are called ``encoder``."""
    found: set[str] = set()
    for value in values:
        if isinstance(value, Mapping):
            name = value.get("encoder")
            found |= {name} if isinstance(name, str) else set()
            found |= encoders_of(*value.values())
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, (str, Path)):
        yield str(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key != "encoder":  # known by its weights
                yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)


class DataFiles:
    """Checksums of files and folders that arguments name.

    Args:
        leaving_out: Folders that do not count wherever they are found: those that are written meanwhile.
    """

    def __init__(self, leaving_out: Iterable[Path] = ()) -> None:
        self._left_out = {folder.resolve() for folder in leaving_out}
        self._known: dict[Path, str] = {}

    def of(self, *arguments: Any) -> dict[str, str]:
        """For each text among arguments that is a file or folder (also behind a colon) a checksum of its content.

        What is larger than 256 MB altogether counts by the names, sizes and times of its files. Of a data set of the
        hub the revision that is in the cache counts.
        """
        found = {}
        for text in {t for value in arguments for t in _texts(value)}:
            for part in {text, text.partition(":")[2]}:
                path = Path(part)
                if 0 < len(part) < 1000 and "\0" not in part and path.exists():
                    path = path.resolve()
                    found[text] = self._known[path] = self._known.get(path) or self._taken(path)
            revision = _revision(text)
            if revision is not None:
                found.setdefault(text, revision)
        return dict(sorted(found.items()))

    def _taken(self, path: Path) -> str:
        if path.is_file():
            files = [path]
        else:
            files = []
            for folder, names, inside in os.walk(path):
                here = Path(folder)
                names[:] = [n for n in names if n[0] != "." and here / n not in self._left_out]
                files += [here / n for n in inside if n[0] != "."]
        sizes = {file: file.stat() for file in sorted(files)}
        whole = sum(stat.st_size for stat in sizes.values()) <= _BY_CONTENT
        digest = hashlib.sha256()
        for file, stat in sizes.items():
            digest.update(f"{file.relative_to(path)}\n{stat.st_size}\n".encode("utf-8", "surrogateescape"))
            digest.update(file.read_bytes() if whole else str(stat.st_mtime_ns).encode())
        return digest.hexdigest()[:16]


def _revision(text: str) -> str | None:
    """The revision of a data set of the hub, as it lies in the cache."""
    from huggingface_hub import constants

    if text.count("/") != 1 or len(text) > 200 or not text.isprintable():
        return None
    path = Path(constants.HF_HUB_CACHE) / f"datasets--{text.replace('/', '--')}" / "refs" / "main"
    return path.read_text().strip() if path.is_file() else None


def asked_in(base: BasePass) -> str:
    """A checksum of everything that is asked in a stream: its edits' questions and all probes, with the pictures.

    What the edits say by way of reasoning does not count: experiments spoil it on purpose.
    """
    digest = hashlib.sha256()

    def add(of: Edit | Query, *more: Any) -> None:
        answers = getattr(of, "answers", None)
        digest.update(repr([of.id, of.question, of.choices, answers, of.image.mode, of.image.size, more]).encode())
        digest.update(of.image.tobytes())

    for edit in base.edits:
        add(edit, edit.answer)
    for probe in base.probes:
        add(probe.query, probe.group, probe.answer, getattr(probe, "answers", None), probe.edit_id)
    return digest.hexdigest()[:16]
