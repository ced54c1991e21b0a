"""``reasonedit codebook``: a codebook's edits, and its folder: repaired, copied, moved to a VLM or the Hub."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

from .edit_actions import EDIT_ACTIONS, add_edit_actions
from .trust import add_trust

_ACTIONS = {
    **EDIT_ACTIONS,
    "info": "codebook_info.show_codebook",
    "verify": "repair.verify_codebook",
    "repair": "repair.repair_codebook",
    "compact": "codebook_folder.compact_codebook",
    "backup": "migrate.backup_codebook",
    "migrate": "migrate.migrate_codebook",
    "push": "codebook_folder.push_codebook",
    "pull": "codebook_folder.pull_codebook",
}
"""What does each action; imported only when it is called."""


def main(argv: Sequence[str]) -> int:
    """Do one of these things to a codebook.

    Returns:
        0, or 1 where something is damaged.
    """
    arguments = _parser().parse_args(argv)
    module, _, name = _ACTIONS[arguments.action].partition(".")
    return int(getattr(importlib.import_module(f"{__package__}.{module}"), name)(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reasonedit codebook",
        description="The edits of a codebook, and the folder that holds them. An ID may be cut short, to four "
        "characters or more, where it still tells one edit from the others.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, help: str, more: str = "") -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.{more}")
        action.add_argument("codebook", type=Path, help="folder of the codebook")
        return action

    add_edit_actions(add)
    info = add("info", "show what the codebook holds, for which VLM it is, and how large it is")
    info.add_argument("--json", action="store_true", help="print it as JSON, for a program")
    add("verify", "read everything and say what is damaged; nothing is changed")
    _add_repair(
        add("repair", "repair a damaged codebook from what can be read; a copy of the damaged folder is kept beside it")
    )
    add("compact", "join the files of keys into one, and remove what nothing refers to")
    backup = add("backup", "copy the codebook as it is now into a new folder, though others may write to it meanwhile")
    backup.add_argument("out", type=Path, help="the new folder")
    _add_migrate(add("migrate", "embed the edits again, for another VLM, into a new folder"))
    push = add("push", "upload to the Hugging Face Hub, the edits' pictures included")
    push.add_argument("repo", help="repository on the Hub: OWNER/NAME")
    push.add_argument("--public", action="store_true", help="make a new repository public")
    push.add_argument("--licence", default="", help="licence that its card states, as the Hub calls it: cc-by-4.0")
    pull = add("pull", "fetch from the Hugging Face Hub into a new folder")
    pull.add_argument("repo", help="repository on the Hub: OWNER/NAME")
    pull.add_argument("--revision", default=None, help="branch, tag or commit")
    return parser


def _add_repair(action: argparse.ArgumentParser) -> None:
    """Add the options of ``repair`` to its parser."""
    action.add_argument("--yes", action="store_true", help="write what is left, where that is less than was there")
    action.add_argument(
        "--model",
        default=None,
        help="where the codebook's VLM lies, to embed edits again that lost their keys (default: as the codebook says)",
    )
    action.add_argument("--no-embed", action="store_true", help="leave edits without keys for later")
    action.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
    add_trust(action)


def _add_migrate(action: argparse.ArgumentParser) -> None:
    """Add the options of ``migrate`` to its parser."""
    action.add_argument(
        "--model", "--to", required=True, metavar="MODEL", help="the VLM: a hub id, a folder, or embedded"
    )
    action.add_argument("--out", type=Path, required=True, help="the new folder; goes on there if cut short")
    action.add_argument("--design", default=None, help="design of the new codebook, a JSON file (default: as now)")
    action.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
    action.add_argument(
        "--pictures",
        type=Path,
        default=None,
        metavar="FILE",
        help="of a codebook of format 3, which kept none: a file with the columns id and image",
    )
    add_trust(action)
