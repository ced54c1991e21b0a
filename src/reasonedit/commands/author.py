"""The one way in which a command is told who changes a codebook."""

from __future__ import annotations

import argparse
import getpass
from contextlib import suppress


def add_author(parser: argparse.ArgumentParser, help: str = "who does it") -> None:
    """Add ``--author`` to a parser; ``help`` says whose name it is."""
    name = ""
    with suppress(KeyError, OSError, ImportError):
        name = getpass.getuser()
    parser.add_argument("--author", default=name, help=f"{help} (default: %(default)s)")
