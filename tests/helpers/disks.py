"""Loops over full disks, and over locks that exclude nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reasonedit import ReasonEditError
from reasonedit.codebook import EditMemory

from .faults import run_with_faults
from .harnesses import Tally, make_empty
from .scenarios import WRITERS, begin, numbered_edit, open_memory


def missing() -> str:
    """Why no small disk can be mounted here; nothing where one can."""
    return "" if sys.platform.startswith("linux") and os.geteuid() == 0 else "a small disk is mounted by root, on Linux"


def hollow_locks(scratch: Path, rounds: int = 3) -> Tally:
    """Two processes write at the same time where locks exclude nobody; no acknowledged edit may be lost."""
    tally, root = Tally("edits of two writers whose locks exclude nobody"), scratch / "root"
    with run_with_faults(scratch) as one, run_with_faults(scratch) as other, ThreadPoolExecutor(2) as threads:
        for _ in range(rounds):
            WRITERS["writer 0"].prepare(make_empty(root))
            jobs = [
                threads.submit(processes.run, name, root, hollow=True)
                for name, processes in zip(WRITERS, (one, other), strict=True)
            ]
            done = [job.result() for job in jobs]
            tally.tried += 64
            for ran in done:
                if ran.raw:
                    tally.fail("raw errors", ran.raw)
            try:
                there = set(open_memory(root / "book").edits)
            except ReasonEditError as error:
                tally.fail("codebooks that do not open", str(error))
                continue
            for edit_id in (i for ran in done for i in ran.acknowledged if i not in there):
                tally.fail("lost edits", edit_id)
    return tally


def full_disks(scratch: Path, rounds: int = 20) -> Tally:
    """Write edits until a small disk is full, each time at another place; then there is room again."""
    tally, disk = Tally("full disks"), scratch / "disk"
    disk.mkdir()
    for round_ in range(rounds):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(disk)], check=True)
        try:
            (disk / "filler").write_bytes(bytes(4096 * (60 + round_ % 8)))
            _fill(tally, disk)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return tally


def _fill(tally: Tally, disk: Path) -> None:
    memory = EditMemory()
    memory.copy_to(begin(disk / "book"))
    for number in range(1000):
        try:
            memory.write(*numbered_edit(number))
        except ReasonEditError:
            break
        except Exception as error:
            tally.fail("raw errors", repr(error))
            break
    tally.tried += 1
    if list(open_memory(disk / "book").edits) != [f"e{n:05d}" for n in range(number)]:
        tally.fail("lost edits", f"of {number}")
    (disk / "filler").unlink()
    memory.write(*numbered_edit(number))
    if list(open_memory(disk / "book").edits) != list(memory.edits):
        tally.fail("lost edits after there was room again", f"of {number + 1}")
