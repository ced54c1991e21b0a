"""The one way in which a command runs code that comes with a model."""

from __future__ import annotations

import argparse


def add_trust(parser: argparse.ArgumentParser, *, config: bool = False) -> None:
    """Add ``--trust-remote-code`` to a parser.

    Args:
        parser: The parser.
        config: Whether a config says which model it is, and must ask for its code, too.
    """
    asked = ", where the config sets trust_remote_code" if config else ""
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help=f"run the code that comes with the model{asked}: it can do whatever you can, so read it first",
    )
