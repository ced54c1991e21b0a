"""What a run leaves behind: its folder, what made it, and its table of results."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from reasonedit.codebook.disk.lock import login_name
from reasonedit.data.probe_counts import ProbeCount
from reasonedit.errors import InputError, LockedError, UnavailableError
from reasonedit.groups import generality, labels_of
from reasonedit.matching import COMPARISON

_RUNNING = (".running.lock", ".running.json")
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
        UnavailableError: It cannot be made.
    """
    wanted = wanted.resolve()
    if not wanted.name:
        raise InputError(f"The results folder cannot be '{wanted}': name another one with --out.")
    folder, number = wanted, 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")
        except OSError as error:
            raise UnavailableError(
                f"The results folder '{folder}' cannot be made ({error.strerror}): name another one with --out."
            ) from error
        else:
            return folder


def abandon(folder: Path) -> None:
    """Remove the folder of a run that never began; a folder with anything else in it stays as it is."""
    with contextlib.suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {*_RUNNING}:
            for name in _RUNNING:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


@contextmanager
def lock_folder(folder: Path, what: str = "run") -> Iterator[None]:
    """Keep a second process from using a results folder; the system releases it however this process ends.

    Args:
        folder: The folder.
        what: What runs there, for the message.

    Raises:
        LockedError: Another process runs there, and the message says whose.
        UnavailableError: The folder cannot be locked.
    """
    lock, note = FileLock(folder / _RUNNING[0]), folder / _RUNNING[1]
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise LockedError(
            f"The {what} in '{folder}' is going on already, by {_runner(note)}: wait until it ends, or name another "
            "folder."
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"The results folder '{folder}' cannot be locked ({error.strerror or error})."
        ) from error
    try:
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with contextlib.suppress(UnavailableError):  # a full disk: the lock holds without a name
            write_json(note, {"who": f"{login_name()}@{socket.gethostname()}", "pid": os.getpid(), "since": since})
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def _runner(note: Path) -> str:
    try:
        runner = json.loads(note.read_text(encoding="utf-8"))
        return f"{runner['who']} (process {runner['pid']}, since {runner['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def versions() -> dict[str, str]:
    """Versions of Python, of the machine and of the packages that matter."""
    numbers = {"python": platform.python_version(), "machine": platform.platform()}
    for name in _PACKAGES:
        try:
            numbers[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return numbers


def row(
    shares: Mapping[str, tuple[float, int]],
    exact: Mapping[str, float],
    *,
    seconds_per_edit: float | None,
    ms_per_query: float | None,
    counts: Mapping[str, ProbeCount] | None = None,
) -> dict[str, Any]:
    """One row of the table of results.

    Args:
        shares: For each group the share of right answers, and the number of samples.
        exact: For each group the share of exact matches.
        seconds_per_edit: Mean time of an edit.
        ms_per_query: Mean time of a query.
        counts: For each group how many probes there should be; where that is known.

    Returns:
        Each metric under its name with its number of samples and its share of exact matches beside it (``rel``,
        ``rel_samples`` and ``rel_exact_match``); a metric without a sample is ``None`` with 0 samples. ``comparison``
        names what the first is; ``gen`` is the harmonic mean of the generalities. ``rel_not_made`` is how many probes
        could not be made, ``loc_wrong_before`` how many do not count, as the unedited model gets them wrong.
    """
    values: dict[str, Any] = {"comparison": COMPARISON}
    for group in labels_of({*shares, *(counts or ())}):
        share, samples = shares.get(group, (None, 0))
        values[group] = share
        values[f"{group}_samples"] = samples
        values[f"{group}_exact_match"] = exact.get(group)
        if counts is not None:
            count = counts.get(group, ProbeCount())
            values |= {f"{group}_not_made": count.not_made, f"{group}_wrong_before": count.wrong_before}
    values["gen"] = generality({group: share for group, (share, _) in shares.items()})
    return values | {"seconds_per_edit": seconds_per_edit, "ms_per_query": ms_per_query}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file.

    Raises:
        UnavailableError: It cannot be written.
    """
    try:
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UnavailableError(f"'{path}' cannot be written ({error.strerror}): free some space.") from error
