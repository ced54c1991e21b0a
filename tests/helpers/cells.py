"""Cells of an experiment that were never run: what they say of themselves, and their answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ABOUT: dict[str, Any] = {
    "title": "An editor",
    "varies": "seed",
    "x": None,
    "settings": {"line": ""},
    "noise": None,
    "beside": [],
    "stream": {},
    "files": {"corrections.jsonl": "f0"},
    "model": {"name": "tiny", "identity": "m0", "device": "cpu", "generation": {"max_new_tokens": 16}},
    "encoders": {"embedded": "e0"},
    "libraries": {"torch": "2.0", "transformers": "5.0"},
    "code": {"reasonedit.vlm.base": "c0", "reasonedit.pipeline": "c0"},
    "keys": 10,
    "seconds_per_edit": 1.0,
    "ms_per_query": 10.0,
    "ms_per_query_unedited": 10.0,
    "versions": {"torch": "2.0"},
}


def cell(
    row: str,
    seed: int,
    *,
    right: float = 0.5,
    edits: int = 10,
    wanted: int = 40,
    made: str = "2026-01-01",
    groups: tuple[str, ...] = ("rel", "r_gen", "coe_gen", "loc"),
    **changes: Any,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One cell.

    ``right`` is the share of its answers that are right: those of the first edits, the same ones for all rows.
    ``wanted`` is the number of edits that it says it was asked for. ``changes`` are put in place of what it says of
    itself; dicts are put into those that are there.
    """
    source = {"class_path": "toys.Source", "init_args": {"seed": seed, "edits": wanted}}
    data = {"class_path": "reasonedit.EditStream", "init_args": {"source": source, "batch_size": 4}}
    about = {**json.loads(json.dumps(ABOUT)), "row": row, "seed": seed, "made": made, "data": data, "edits": edits}
    about |= {"editor": {"class": row}, "asked": f"asked {seed} of {edits}"}
    for name, value in changes.items():
        about[name] = {**about[name], **value} if isinstance(value, Mapping) and name in about else value
    rows = [
        {
            "phase": phase,
            "group": group,
            "edits": edits,
            "edit": f"{seed}-{i}",
            "right": i < right * edits,
        }
        for phase, name in [("check", ("",)), ("probe", groups)]
        for group in name
        for i in range(edits)
    ]
    return about, rows


def save(folder: Path, one: tuple[Mapping[str, Any], list[dict[str, Any]]], name: str | None = None) -> Path:
    """Put a cell into an experiment's folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    about, rows = one
    path = folder / "cells" / f"{name or '{row}-{seed}'.format(**about)}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.replace_schema_metadata({b"reasonedit": json.dumps(about).encode()}), path)
    return path
