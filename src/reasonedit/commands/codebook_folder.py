"""``reasonedit codebook compact``, ``push`` and ``pull``: a codebook's folder, put in order, and on the Hub."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from reasonedit.codebook import EditMemory, Store
from reasonedit.codebook.disk.lock import LOCK_FILES
from reasonedit.codebook.hub import fetch_from_hub, push_to_hub
from reasonedit.codebook.rescue.copies import clear_parts

from .screen import Screen, count_edits

_PATIENCE = 10.0
"""Seconds to wait for others who are reading."""
_console = Screen(highlight=False, soft_wrap=True)


def compact_codebook(arguments: argparse.Namespace) -> int:
    """Join its files of keys, and remove what nothing refers to."""
    folder = arguments.codebook
    store = Store.open(folder)
    memory = EditMemory.open(store)
    files_before, size_before = folder_size(folder)
    memory.settle(join=True)
    with store.writing():
        clear_parts(store.folder.resolve())  # a repair makes them beside what a link leads to
        remaining = store.tidy(patience=_PATIENCE)
    files, size = folder_size(folder)
    _console.say(
        f"{folder}: {files_before} files of {size_before / 2**20:.1f} MiB before, {files} of {size / 2**20:.1f} MiB now"
    )
    if remaining:
        _console.say(f"{len(remaining)} files stay, which somebody may be reading: compact it again later")
    return 0


def push_codebook(arguments: argparse.Namespace) -> int:
    """Upload it."""
    memory = EditMemory.open(Store.open(arguments.codebook))
    private, licence = not arguments.public, arguments.licence
    _console.say(push_to_hub(memory, arguments.repo, private=private, message="Codebook", licence=licence))
    return 0


def pull_codebook(arguments: argparse.Namespace) -> int:
    """Fetch it into a new folder."""
    store = Store.open(fetch_from_hub(arguments.repo, arguments.revision), read_only=True)
    memory, manifest = EditMemory.open(store), store.manifest
    memory.copy_to(
        Store.create(arguments.codebook, manifest.fingerprint, manifest.config, store.statistics(), manifest.merge)
    )
    _console.say(f"{arguments.codebook} holds {count_edits(len(memory.edits))}")
    return 0


def folder_size(folder: Path) -> tuple[int, int]:
    """How many files there are, hidden ones too, and their bytes."""
    sizes = []
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in LOCK_FILES:
            with contextlib.suppress(FileNotFoundError):  # somebody may write meanwhile: hidden files come and go
                sizes.append(path.stat().st_size)
    return len(sizes), sum(sizes)
