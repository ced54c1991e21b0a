"""``reasonedit codebook migrate`` and ``backup``: a codebook in another folder, embedded anew or as it is."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from reasonedit.codebook import EditMemory, Store
from reasonedit.codebook.backup import backup
from reasonedit.codebook.format3 import add_pictures, is_format3, read_format3
from reasonedit.codebook.rescue.statistics import CALIBRATION
from reasonedit.data.pictures import pictures_by_id
from reasonedit.errors import InputError

from .screen import Screen, count_edits, counting, waiting

_console = Screen(highlight=False, soft_wrap=True)


def backup_codebook(arguments: argparse.Namespace) -> int:
    """Copy a codebook as it is now."""
    copy = backup(arguments.codebook, arguments.out)
    undone = f", and {copy.undone} undone" if copy.undone else ""
    size = f"{copy.bytes / 2**20:.1f} MiB"
    _console.say(f"{arguments.out} holds {count_edits(copy.edits)}{undone}: {size}, read again and whole")
    return 0


def migrate_codebook(arguments: argparse.Namespace) -> int:
    """Embed edits anew, for another VLM; those of an earlier format for any."""
    from reasonedit.design import Design
    from reasonedit.migrate import migrate_codebook as migrate
    from reasonedit.vlm import load_vlm

    model, out = arguments.model, arguments.out
    memory, settings = _read(arguments.codebook, arguments.pictures)
    if arguments.design is None:
        design = Design.from_dict(settings)
    else:
        design = Design.load(arguments.design, Design.default(model))
    with waiting("loading the VLM"):
        vlm = load_vlm(model, dtype=arguments.dtype, place=True, trust_remote_code=arguments.trust_remote_code)
    with counting() as bar:
        task = bar.add_task("embedding edits", total=None)
        migrated = migrate(memory, vlm, out, design, lambda done, of: bar.update(task, completed=done, total=of))
    _console.say(f"{out} holds {count_edits(len(migrated.edits))} for {model}; {arguments.codebook} is as it was")
    if _is_calibrated(memory) and not _is_calibrated(migrated):
        _console.say(
            "The calibration does not hold for the new one, which fetches facts cautiously until it is calibrated: "
            f"reasonedit calibrate --codebook {shlex.quote(str(out))} --pictures PICTURES"
        )
    return 0


def _is_calibrated(memory: EditMemory) -> bool:
    return memory.store is not None and CALIBRATION in memory.store.manifest.config


def _read(folder: Path, pictures: Path | None) -> tuple[EditMemory, dict[str, Any]]:
    """The edits of a codebook with their pictures, and its design.

    Raises:
        InputError: The pictures are neither in the codebook nor given, or they are both.
    """
    if is_format3(folder):
        former = read_format3(folder)
        if pictures is None:
            raise InputError(
                f"The codebook in '{folder}' is of format 3, which kept no pictures: name by --pictures a file with "
                f"the columns id and image for its {len(former.edits)} edits, such as the data set that they came from."
            )
        return add_pictures(former, pictures_by_id(pictures, {edit.id for edit in former.edits})), former.design
    memory = EditMemory.open(Store.open(folder))
    if pictures is not None:
        raise InputError(f"The codebook in '{folder}' has its pictures: leave --pictures out.")
    assert memory.store is not None
    return memory, memory.store.manifest.design
