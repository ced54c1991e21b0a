"""What a run leaves behind: its folder, what made it, and its table of results."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError

COLUMNS: dict[str, str] = {
    "rel": "Rel",
    "t_gen": "T-Gen",
    "i_gen": "I-Gen",
    "r_gen": "R-Gen",
    "coe_gen": "CoE-Gen",
    "loc": "Loc",
    "hard_loc": "hard Loc",
}
_PACKAGES = [
    "reasonedit",
    "torch",
    "lightning",
    "transformers",
    "sentence-transformers",
    "torchmetrics",
    "faiss-cpu",
    "faiss-gpu-cuvs",
    "pillow",
    "numpy",
]


def new_folder(wanted: Path) -> Path:
    """Make a folder for a run: ``wanted``, or ``wanted-2``, ``wanted-3``, … where it exists; nothing is overwritten.

    Raises:
        ReasonEditError: It cannot be made.
    """
    wanted = wanted.resolve()
    if not wanted.name:
        raise ReasonEditError(f"The results folder cannot be '{wanted}': name another one with --out.")
    folder, number = wanted, 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")
        except OSError as error:
            raise ReasonEditError(
                f"The results folder '{folder}' cannot be made ({error.strerror}): name another one with --out."
            ) from error
        else:
            return folder


def versions() -> dict[str, str]:
    """Versions of Python, of the machine and of the packages that matter."""
    found = {"python": platform.python_version(), "machine": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def row(
    shares: Mapping[str, tuple[float, int]], *, seconds_per_edit: float | None, ms_per_query: float | None
) -> dict[str, Any]:
    """One row of the table of results.

    Returns:
        Each metric under its name with its number of samples beside it (``rel`` and ``rel_samples``); a metric without
        a sample is ``None`` with 0 samples.
    """
    made: dict[str, Any] = {}
    for group in COLUMNS:
        share, samples = shares.get(group, (None, 0))
        made[group] = None if share is None else round(share, 4)
        made[f"{group}_samples"] = samples
    made["seconds_per_edit"] = None if seconds_per_edit is None else round(seconds_per_edit, 4)
    made["ms_per_query"] = None if ms_per_query is None else round(ms_per_query, 2)
    return made


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file.

    Raises:
        ReasonEditError: It cannot be written.
    """
    try:
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise ReasonEditError(f"'{path}' cannot be written ({error.strerror}): free some space.") from error
