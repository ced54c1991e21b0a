"""``reasonedit codebook check``: whether an edit that is written holds, and what it harms."""

from __future__ import annotations

import argparse

from reasonedit.codebook import EditMemory, Store
from reasonedit.editor import ReasonEditor

from .edit_ids import find_edit
from .screen import waiting
from .show_check import show_check


def check_edit(arguments: argparse.Namespace) -> int:
    """Ask it, and print what came out."""
    edit_id = find_edit(EditMemory.open(Store.open(arguments.codebook)), arguments.id).id  # before the model is loaded
    with waiting("loading the VLM"):
        editor = ReasonEditor.load(
            arguments.codebook, dtype=arguments.dtype, trust_remote_code=arguments.trust_remote_code
        )
    show_check(editor.check_edit(edit_id))
    return 0
