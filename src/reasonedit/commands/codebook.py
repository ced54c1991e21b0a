"""``reasonedit codebook``: a codebook's folder, checked, repaired, put in order, copied, moved to a VLM or the Hub."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from reasonedit.codebook import EditMemory, Store
from reasonedit.codebook.disk.lock import LOCK_FILES
from reasonedit.codebook.hub import fetch_from_hub, push_to_hub
from reasonedit.codebook.rescue.copies import clear_parts

from .migrate import add_migrate, backup_codebook, migrate_codebook
from .repair import add_repair, repair_codebook, verify_codebook
from .screen import Screen, count_edits

_PATIENCE = 10.0
"""Seconds to wait for others who are reading."""
_console = Screen(highlight=False, soft_wrap=True)


def main(argv: Sequence[str]) -> int:
    """Do one of these things to a codebook's folder.

    Returns:
        0, or 1 where something is damaged.
    """
    arguments = _parser().parse_args(argv)
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "verify": verify_codebook,
        "repair": repair_codebook,
        "compact": _compact,
        "backup": backup_codebook,
        "migrate": migrate_codebook,
        "push": _push,
        "pull": _pull,
    }
    return actions[arguments.action](arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reasonedit codebook", description="Check, repair, copy and share a codebook."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, help: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        action.add_argument("codebook", type=Path, help="folder of the codebook")
        return action

    add("verify", "read everything and say what is damaged; nothing is changed")
    add_repair(
        add("repair", "make it whole again from what can be read; a copy of the damaged folder is kept beside it")
    )
    add("compact", "join the files of keys into one, and remove what nothing refers to")
    backup = add("backup", "copy it as it is now into a new folder, whoever writes it meanwhile")
    backup.add_argument("out", type=Path, help="the new folder")
    add_migrate(add("migrate", "embed the edits again, for another VLM, into a new folder"))
    push = add("push", "upload to the Hugging Face Hub, the edits' pictures included")
    push.add_argument("repo", help="repository on the Hub: OWNER/NAME")
    push.add_argument("--public", action="store_true", help="make a new repository public")
    push.add_argument("--licence", default="", help="licence that its card states, as the Hub calls it: cc-by-4.0")
    pull = add("pull", "fetch from the Hugging Face Hub into a new folder")
    pull.add_argument("repo", help="repository on the Hub: OWNER/NAME")
    pull.add_argument("--revision", default=None, help="branch, tag or commit")
    return parser


def _compact(arguments: argparse.Namespace) -> int:
    folder = arguments.codebook
    store = Store.open(folder)
    memory = EditMemory.open(store)
    files_before, size_before = _size(folder)
    memory.settle(join=True)
    with store.writing():
        clear_parts(store.folder)
        remaining = store.tidy(patience=_PATIENCE)
    files, size = _size(folder)
    _console.say(
        f"{folder}: {files_before} files of {size_before / 2**20:.1f} MiB before, {files} of {size / 2**20:.1f} MiB now"
    )
    if remaining:
        _console.say(f"{len(remaining)} files stay, which somebody may be reading: compact it again later")
    return 0


def _push(arguments: argparse.Namespace) -> int:
    memory = EditMemory.open(Store.open(arguments.codebook))
    private, licence = not arguments.public, arguments.licence
    _console.say(push_to_hub(memory, arguments.repo, private=private, message="Codebook", licence=licence))
    return 0


def _pull(arguments: argparse.Namespace) -> int:
    store = Store.open(fetch_from_hub(arguments.repo, arguments.revision), read_only=True)
    memory, manifest = EditMemory.open(store), store.manifest
    memory.copy_to(
        Store.create(arguments.codebook, manifest.fingerprint, manifest.config, store.statistics(), manifest.merge)
    )
    _console.say(f"{arguments.codebook} holds {count_edits(len(memory.edits))}")
    return 0


def _size(folder: Path) -> tuple[int, int]:
    """How many files there are, hidden ones too, and their bytes."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in LOCK_FILES]
    return len(files), sum(path.stat().st_size for path in files)
