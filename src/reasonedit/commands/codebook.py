"""``reasonedit codebook``: a codebook's folder, checked, repaired, put in order, copied, moved to a VLM or the Hub."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reasonedit.codebook import EditMemory, Store
from reasonedit.codebook.disk.lock import LOCK_FILES
from reasonedit.codebook.hub import fetch_from_hub, push_to_hub
from reasonedit.codebook.rescue.copies import clear_parts

from .migrate import backup_codebook, migrate_codebook
from .repair import add_repair, repair_codebook, verify_codebook
from .screen import Screen
from .trust import add_trust

_PATIENCE = 10.0
"""Seconds for which whoever reads is waited for."""
_console = Screen(highlight=False, soft_wrap=True)


def main(argv: Sequence[str]) -> int:
    """Run one of them.

    Returns:
        0, or 1 where something is damaged.
    """
    parser = argparse.ArgumentParser(prog="reasonedit codebook", description="The folder of a codebook.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("verify", "read everything and say what is damaged; nothing is changed"),
        ("repair", "make it whole again from what can be read; a copy of the damaged folder is kept beside it"),
        ("compact", "join the files of keys into one, and remove what nothing refers to"),
        ("backup", "copy it as it is now into a new folder, whoever writes it meanwhile"),
        ("migrate", "embed the edits anew, for another VLM, into a new folder"),
        ("push", "upload to the Hugging Face Hub, the edits' pictures included"),
        ("pull", "fetch from the Hugging Face Hub into a new folder"),
    ):
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        action.add_argument("codebook", type=Path, help="folder of the codebook")
        if name == "migrate":
            action.add_argument("--to", required=True, metavar="MODEL", help="the VLM: hub id, folder, or embedded")
            action.add_argument("--out", type=Path, required=True, help="the new folder; goes on there if cut short")
            action.add_argument(
                "--design", default=None, help="design of the new codebook, a JSON file (default: as now)"
            )
            action.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
            action.add_argument(
                "--pictures",
                type=Path,
                default=None,
                metavar="FILE",
                help="of a codebook of format 3, which kept none: a file with the columns id and image",
            )
            add_trust(action)
        if name == "backup":
            action.add_argument("out", type=Path, help="the new folder")
        if name == "repair":
            add_repair(action)
        if name in ("push", "pull"):
            action.add_argument("repo", help="repository on the Hub: OWNER/NAME")
        if name == "push":
            action.add_argument("--public", action="store_true", help="make a new repository public")
        if name == "pull":
            action.add_argument("--revision", default=None, help="branch, tag or commit")
    given = parser.parse_args(argv)
    if given.action == "backup":
        return backup_codebook(given)
    if given.action == "migrate":
        return migrate_codebook(given)
    if given.action == "verify":
        return verify_codebook(given.codebook)
    if given.action == "repair":
        return repair_codebook(given)
    if given.action == "pull":
        store = Store.open(fetch_from_hub(given.repo, given.revision), read_only=True)
        memory, manifest = EditMemory.open(store), store.manifest
        memory.copy_to(
            Store.create(given.codebook, manifest.fingerprint, manifest.config, store.statistics(), manifest.merge)
        )
        _console.print(f"{given.codebook} holds {len(memory.edits)} edits", markup=False)
        return 0
    store = Store.open(given.codebook)
    if given.action == "push":
        _console.print(push_to_hub(store, given.repo, private=not given.public, message="Codebook"), markup=False)
        return 0
    memory = EditMemory.open(store)
    before = _size(given.codebook)
    memory.settle(join=True)
    with store.writing():
        clear_parts(store.folder)
        kept = store.tidy(patience=_PATIENCE)
    files, size = _size(given.codebook)
    was = f"{before[0]} files of {before[1] / 2**20:.1f} MiB"
    _console.print(f"{given.codebook}: {was} before, {files} of {size / 2**20:.1f} MiB now", markup=False)
    if kept:
        _console.print(f"{len(kept)} files stay, which somebody may be reading: compact it again later", markup=False)
    return 0


def _size(folder: Path) -> tuple[int, int]:
    """How many files there are, hidden ones too, and their bytes."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in LOCK_FILES]
    return len(files), sum(p.stat().st_size for p in files)
