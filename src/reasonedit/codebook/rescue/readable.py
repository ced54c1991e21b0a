"""Reads the first record of a journal, and as much as can be read of records that are not whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..disk.checksums import Checksums
from ..events import Event
from ..stored_edit import StoredEdit

_FIELD = re.compile(r'"(op|id|author|time|by|question|answer)": "((?:[^"\\]|\\.)*)"')
_HEAD = ("id", "created", "fingerprint", "config", "merge")
_ALIKE = 0.75
"""The share of bytes at the beginning of a turn's record that must be as they would be written for an edit."""


def parse_head(values: Mapping[str, Any]) -> dict[str, Any]:
    """Read what the first record says the codebook was made with; before format 5 it names no files.

    Raises:
        KeyError: A field is missing.
        TypeError: A field is of another type.
        ValueError: A field has an impossible value.
    """
    head = {name: values[name] for name in _HEAD}
    fits = all(isinstance(head[n], str) for n in ("id", "created"))
    if not fits or not all(isinstance(head[n], dict) for n in ("fingerprint", "config")):
        raise TypeError("what the codebook was made with is not what it should be")
    head["across_kinds"] = bool(values.get("across_kinds", False))
    sums = values.get("statistics")
    head["statistics"] = Checksums.from_dict(sums) if sums is not None else None
    head["statistics_digest"] = str(values.get("statistics_digest", ""))
    head["keys"] = {s.file: s for s in map(Checksums.from_dict, values.get("keys", ()))}
    return head


def recognise(raw: bytes, known: Iterable[str]) -> tuple[str, list[str], dict[str, str]]:
    """Recognise what an unreadable record is.

    Args:
        raw: The record.
        known: Ids of the edits before it.

    Returns:
        Its ``op``, or nothing; the edit that it turns, or several where that is not sure; and the fields of it that can
        be read.
    """
    text = raw.decode("utf-8", "replace")
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(text):
        if value.isprintable() and "\ufffd" not in value:
            fields.setdefault(name, _unescape(value))
    op, edit_id = fields.get("op", ""), fields.get("id", "")
    if op == "edit" or '"question": "' in text or '"reasoning": [' in text:
        return "edit", [], fields
    if op in ("undo", "restore") and edit_id in set(known):
        return op, [edit_id], fields
    op, ids = _find_most_alike(raw, known)
    return op, ids, fields


def _find_most_alike(raw: bytes, known: Iterable[str]) -> tuple[str, list[str]]:
    """The turn, and the edits, whose record would look most like this one."""
    best, turns = _ALIKE, list[tuple[str, str]]()
    for op in ("undo", "restore"):
        for name in known:
            line = json.dumps({"op": op, "id": name, "author": ""}, ensure_ascii=False)[:-2].encode()
            share = sum(a == b for a, b in zip(line, raw, strict=False)) / len(line)
            if share >= best:
                turns, best = [*(turns if share == best else []), (op, name)], share
    ops = {op for op, _ in turns}
    return (ops.pop(), [name for _, name in turns]) if len(ops) == 1 else ("", [])


def _unescape(value: str) -> str:
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
