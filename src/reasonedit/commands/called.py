"""How a command is called again from the shell that the user has."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path


def command_line(program: str, *words: str) -> str:
    """A command as it can be pasted into the user's shell.

    Args:
        program: A program that was installed beside this one, such as ``reasonedit``: named by its path where the shell
            would not find it, or would find another one.
        *words: Its arguments.
    """
    return _join([*_program(program), *words])


def _program(name: str) -> list[str]:
    beside = Path(sys.executable).parent
    found = shutil.which(name)
    if found is not None and Path(found).parent.resolve() == beside.resolve():
        return [name]
    there = shutil.which(name, path=str(beside))
    if there is None:  # imported from a folder of sources
        return [from_here(Path(sys.executable)), "-m", name]
    return [from_here(Path(there))]


def from_here(path: Path) -> str:
    """A path, from the working directory where it lies in there."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _join(words: list[str]) -> str:
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
