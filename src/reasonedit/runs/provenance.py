"""What a cell is made of, in values that can be written down and compared."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import lightning as L

import reasonedit.callbacks as cb
from reasonedit.data.base_pass import BasePass
from reasonedit.design import Design
from reasonedit.types import Edit, Query
from reasonedit.util.cache import cache_folder

_NO_MATTER = ("title", "seconds", "held")  # what an editor is called, what it has measured, what it works with


def describe_callback(callback: L.Callback, default: Design) -> dict[str, Any]:
    """What a callback was made with, a codebook's design as it holds.

    Args:
        callback: One that has not run yet.
        default: The design that a codebook gets where none was named.
    """
    values = {name: to_plain(value) for name, value in vars(callback).items() if name not in _NO_MATTER}
    if isinstance(callback, cb.Codebook):
        held = callback.held
        design = held.design if held.design is not None else default
        design = Design.load(design, default) if isinstance(design, str) else design
        values |= {"design": design.to_dict(), "model": held.model, "finder": to_plain(held.finder)}
    return {"class": _name_of(type(callback)), **values}


def to_plain(value: Any) -> Any:
    """A value as JSON can hold it; what has no plain value is named by its class."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):  # what is kept in the cache is named by what it depends on
        return value.name if value.is_relative_to(cache_folder()) else str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    return _name_of(value if isinstance(value, type) else type(value))


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def classes_in(config: Any) -> Iterator[tuple[type, dict[str, Any]]]:
    """The classes that a resolved config names, however deep, each with its arguments."""
    if isinstance(config, Mapping):
        path = config.get("class_path")
        if isinstance(path, str):
            module, _, name = path.rpartition(".")
            yield getattr(importlib.import_module(module), name), dict(config.get("init_args") or {})
        for value in config.values():
            yield from classes_in(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from classes_in(value)


def encoders_in(*values: Any) -> set[str]:
    """Names of the sentence encoders among arguments: those that are called ``encoder``."""
    names: set[str] = set()
    for value in values:
        if isinstance(value, Mapping):
            name = value.get("encoder")
            names |= {name} if isinstance(name, str) else set()
            names |= encoders_in(*value.values())
    return names


def questions_checksum(base: BasePass) -> str:
    """A checksum of all that a stream asks: its edits' questions and all probes, with the pictures.

    What the edits say by way of reasoning does not count: experiments spoil it on purpose.
    """
    digest = hashlib.sha256()

    def add(item: Edit | Query, *more: Any) -> None:
        answers = getattr(item, "answers", None)
        more = (*more, "text only") if getattr(item, "text_only", False) else more
        content = [item.id, item.question, item.choices, answers, item.image.mode, item.image.size, more]
        digest.update(repr(content).encode())
        digest.update(item.image.tobytes())

    for edit in base.edits:
        add(edit, edit.answer)
    for probe in base.probes:
        add(probe.query, probe.group, probe.answer, getattr(probe, "answers", None), probe.edit_id)
    return digest.hexdigest()[:16]
