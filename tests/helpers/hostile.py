"""Hostile codebooks: their files say anything, with the right checksums."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reasonedit.codebook.disk.journal import Mark

Place = tuple[Any, ...]
VALUES: list[Any] = [
    None, True, 0, -1, 1, 2**63, 10**30, -(10**200), 0.5, float("nan"), float("inf"), "", "x", "../../x", "\ud800",
    "a\0b", [], [[]], [1], ["a"], {}, {"a": 1}, {"": {"": []}},
]  # fmt: skip
"""Values that are put anywhere."""
GONE = object()


def nested(depth: int) -> Any:
    """Lists within each other, so deep."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Each place in a JSON value."""
    yield at
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*at, key))


def with_value(value: Any, at: Place, new: Any) -> Any:
    """A copy with another value in one place, or with none."""
    if not at:
        return new
    copy = json.loads(json.dumps(value))
    inside = copy
    for key in at[:-1]:
        inside = inside[key]
    if new is GONE:
        del inside[at[-1]]
    else:
        inside[at[-1]] = new
    return copy


def each_change(value: Any) -> Iterator[tuple[str, Any]]:
    """A JSON value with each other value in each place; and what was changed."""
    for at in places(value):
        for new in [*VALUES, nested(60), nested(900)]:
            yield f"{at} is {str(new)[:40]!a}", with_value(value, at, new)
        if at:
            yield f"{at} is gone", with_value(value, at, GONE)


def write_manifest(folder: Path, values: Any) -> None:
    """Write a manifest with the right sum."""
    if isinstance(values, dict):
        values = {name: value for name, value in values.items() if name != "sum"}
        values["sum"] = hashlib.blake2b(json.dumps(values).encode(), digest_size=8).hexdigest()
    (folder / "codebook.json").write_text(json.dumps(values))


def manifest_of(folder: Path) -> dict[str, Any]:
    """The values of a manifest."""
    values = json.loads((folder / "codebook.json").read_text())
    assert isinstance(values, dict)
    return values


def records_of(folder: Path) -> list[dict[str, Any]]:
    """The records of a journal, without their sums."""
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return [{n: v for n, v in json.loads(line).items() if n not in ("after", "sum")} for line in lines]


def write_journal(folder: Path, records: list[Any]) -> None:
    """Write a journal with the right sums, and the manifest that goes with it."""
    (folder / "journal.jsonl").unlink()
    mark = Mark()
    for record in records:
        text = json.dumps({**record, "after": mark.sum})
        record_sum = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        line = f'{text[:-1]}, "sum": "{record_sum}"}}\n'.encode()
        with (folder / "journal.jsonl").open("ab") as file:
            file.write(line)
        mark = Mark(mark.bytes + len(line), mark.records + 1, record_sum)
    write_manifest(folder, {**manifest_of(folder), "journal": asdict(mark)})


def reseal(folder: Path, name: str, data: bytes) -> None:
    """Give a file another content, and put its checksums wherever the old ones are."""
    (folder / name).write_bytes(data)
    blocks = [zlib.crc32(data[at : at + (1 << 20)]) for at in range(0, len(data), 1 << 20)]
    sums = {"file": name, "bytes": len(data), "blocks": blocks}
    write_journal(folder, [_reseal_value(record, sums) for record in records_of(folder)])
    write_manifest(folder, _reseal_value(manifest_of(folder), sums))


def _reseal_value(value: Any, sums: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if value.get("file") == sums["file"]:
            return sums
        return {name: _reseal_value(inner, sums) for name, inner in value.items()}
    return [_reseal_value(inner, sums) for inner in value] if isinstance(value, list) else value
