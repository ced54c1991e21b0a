"""TensorBoard's folder of an experiment: it holds runs that agree with each other, as the tables do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from .agreement import Facts, contradiction, facts_of

_RECORD = "cell.json"
LEFT_OUT = "tensorboard-left-out"
"""Beside TensorBoard's folder: where the runs are that do not agree with those of now."""


def begin_run(run: Path, record: Mapping[str, Any]) -> None:
    """Begin the folder of a run, which says which cell it is of; one of a cell that was killed or is made anew goes."""
    with _lock(run.parent):
        if run.exists():
            shutil.rmtree(run)
        run.mkdir(parents=True)
        (run / _RECORD).write_text(json.dumps(record), encoding="utf-8")


def set_others_aside(folder: Path, record: Mapping[str, Any]) -> None:
    """Move runs out of TensorBoard's folder that do not agree with a cell, and back what agrees.

    Args:
        folder: TensorBoard's folder.
        record: What the cell says of itself.
    """
    aside, facts = folder.with_name(LEFT_OUT), facts_of(record)
    with _lock(folder):
        for run in _runs(folder):
            if not _agrees(run, facts):
                aside.mkdir(exist_ok=True)
                if (aside / run.name).exists():  # of a still earlier one
                    shutil.rmtree(aside / run.name)
                run.rename(aside / run.name)
        for run in _runs(aside):
            if _agrees(run, facts) and not (folder / run.name).exists():
                folder.mkdir(exist_ok=True)  # somebody may have deleted it
                run.rename(folder / run.name)


def _lock(folder: Path) -> FileLock:
    """Cells that run at once look at each other's runs only when these say what they are of."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def _runs(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def _agrees(run: Path, facts: Facts) -> bool:
    try:
        facts_of_run = facts_of(json.loads((run / _RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # of an earlier version, which said nothing
        return False
    return contradiction(facts_of_run, facts) is None
