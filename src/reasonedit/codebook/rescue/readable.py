"""What a record says that is not whole, or that is the first: as much as can be read of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..disk.checksums import Checksums
from ..events import Event
from ..records import StoredEdit

_FIELD = re.compile(r'"(op|id|author|time|by|question|answer)": "((?:[^"\\]|\\.)*)"')
_HEAD = ("id", "created", "fingerprint", "config", "merge")
_LIKE = 0.75
"""How much of the beginning of a turn's record must be as it would be written for an edit."""


def parse_head(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the first record says; before format 5 it said nothing of the files of then.

    Raises:
        KeyError: A field is missing.
        TypeError: A field is of another type.
        ValueError: A field cannot be.
    """
    told = {name: values[name] for name in _HEAD}
    fits = all(isinstance(told[n], str) for n in ("id", "created"))
    if not fits or not all(isinstance(told[n], dict) for n in ("fingerprint", "config")):
        raise TypeError("what the codebook was made with is not what it should be")
    sums = values.get("statistics")
    told["statistics"] = Checksums.from_dict(sums) if sums is not None else None
    told["statistics_digest"] = str(values.get("statistics_digest", ""))
    told["keys"] = {s.file: s for s in map(Checksums.from_dict, values.get("keys", ()))}
    return told


def recognise(raw: bytes, known: Iterable[str]) -> tuple[str, list[str], dict[str, str]]:
    """What an unreadable record is, of which edit (several, where that is not sure), and what can be read of it."""
    text = raw.decode("utf-8", "replace")
    told: dict[str, str] = {}
    for name, value in _FIELD.findall(text):
        if value.isprintable() and "\ufffd" not in value:
            told.setdefault(name, _unquoted(value))
    op, name = told.get("op", ""), told.get("id", "")
    if op == "edit" or '"question": "' in text or '"reasoning": [' in text:
        return "edit", [], told
    if op in ("undo", "restore") and name in set(known):
        return op, [name], told
    op, ids = _alike(raw, known)
    return op, ids, told


def _alike(raw: bytes, known: Iterable[str]) -> tuple[str, list[str]]:
    """The turn, and the edits, whose record would look most like it."""
    best, found = _LIKE, list[tuple[str, str]]()
    for op in ("undo", "restore"):
        for name in known:
            line = json.dumps({"op": op, "id": name, "author": ""}, ensure_ascii=False)[:-2].encode()
            same = sum(a == b for a, b in zip(line, raw, strict=False)) / len(line)
            if same >= best:
                found, best = [*(found if same == best else []), (op, name)], same
    ops = {op for op, _ in found}
    return (ops.pop(), [name for _, name in found]) if len(ops) == 1 else ("", [])


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(f'"{value}"'))
    except ValueError:
        return value


def parse_edit(raw: bytes) -> StoredEdit | None:
    """The edit that a record tells of whose sum does not fit, where it can be read."""
    try:
        values = json.loads(raw)
        return Event.from_dict(values).edit if isinstance(values, dict) else None
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
