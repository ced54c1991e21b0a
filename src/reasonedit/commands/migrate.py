"""``reasonedit codebook migrate`` and ``backup``: a codebook in another folder, embedded anew or as it is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.progress import Progress

from reasonedit.codebook import EditMemory, Store
from reasonedit.codebook.backup import backup
from reasonedit.codebook.format3 import add_pictures, is_format3, read_format3
from reasonedit.data.pictures import pictures_by_id
from reasonedit.errors import ReasonEditError

from .screen import Screen

_console = Screen(highlight=False, soft_wrap=True)


def backup_codebook(given: argparse.Namespace) -> int:
    """Copy a codebook as it is now."""
    made = backup(given.codebook, given.out)
    count = f"{made.edits} {'edit' if made.edits == 1 else 'edits'}"
    undone = f", and {made.undone} undone" if made.undone else ""
    _console.print(
        f"{given.out} holds {count}{undone}: {made.bytes / 2**20:.1f} MiB, read again and whole", markup=False
    )
    return 0


def migrate_codebook(given: argparse.Namespace) -> int:
    """Embed edits anew, for another VLM; those of an earlier format for any."""
    from reasonedit.design import Design
    from reasonedit.migrate import migrate_codebook as migrate
    from reasonedit.vlm import load_vlm

    memory, told = _read(given.codebook, given.pictures)
    design = Design.from_dict(told) if given.design is None else Design.load(given.design, Design.default(given.to))
    with _console.status("loading the VLM"):
        vlm = load_vlm(given.to, dtype=given.dtype, place=True, trust_remote_code=given.trust_remote_code)
    with Progress(console=Screen(stderr=True)) as bar:
        task = bar.add_task("embedding edits", total=None)
        new = migrate(memory, vlm, given.out, design, lambda done, of: bar.update(task, completed=done, total=of))
    _console.print(
        f"{given.out} holds {len(new.edits)} edits for {given.to}; {given.codebook} is as it was", markup=False
    )
    return 0


def _read(folder: Path, pictures: Path | None) -> tuple[EditMemory, dict[str, Any]]:
    """The edits of a codebook with their pictures, and its design.

    Raises:
        ReasonEditError: Their pictures are not in the codebook and not given, or they are in it and are given, too.
    """
    if is_format3(folder):
        former = read_format3(folder)
        if pictures is None:
            raise ReasonEditError(
                f"The codebook in '{folder}' is of format 3, which kept no pictures: name by --pictures a file with "
                f"the columns id and image for its {len(former.edits)} edits, such as the data set that they came from."
            )
        return add_pictures(former, pictures_by_id(pictures, {edit.id for edit in former.edits})), former.design
    memory = EditMemory.open(Store.open(folder))
    if pictures is not None:
        raise ReasonEditError(f"The codebook in '{folder}' has its pictures: leave --pictures out.")
    assert memory.store is not None
    return memory, memory.store.manifest.design
