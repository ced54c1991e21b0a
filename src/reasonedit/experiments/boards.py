"""TensorBoard's folder of an experiment: it holds runs that agree with each other, as the tables do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .agreement import contradiction, facts_of

_MARK = "cell.json"
LEFT_OUT = "tensorboard-left-out"
"""Beside TensorBoard's folder: where the runs are that do not agree with those of now."""


def mark(run: Path, about: Mapping[str, Any]) -> None:
    """Say in the folder of a run which cell it is of."""
    run.mkdir(parents=True, exist_ok=True)
    (run / _MARK).write_text(json.dumps(about), encoding="utf-8")


def keep_apart(boards: Path, about: Mapping[str, Any]) -> None:
    """Move runs out of TensorBoard's folder that do not agree with a cell, and back what agrees.

    Args:
        boards: TensorBoard's folder.
        about: What the cell says of itself.
    """
    away, facts = boards.with_name(LEFT_OUT), facts_of(about)
    for run in _runs(boards):
        if not _agrees(run, facts):
            away.mkdir(exist_ok=True)
            if (away / run.name).exists():  # of a still earlier one
                shutil.rmtree(away / run.name)
            run.rename(away / run.name)
    for run in _runs(away):
        if _agrees(run, facts) and not (boards / run.name).exists():
            run.rename(boards / run.name)


def _runs(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def _agrees(run: Path, facts: Mapping[tuple[str, str], Any]) -> bool:
    try:
        theirs = facts_of(json.loads((run / _MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # of an earlier version, which said nothing
        return False
    return contradiction(theirs, facts) is None
