"""``reasonedit demo``: the embedded VLM makes mistakes, is corrected, and answers better."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .experiment import count


def main(argv: Sequence[str]) -> int:
    """Run the demo stream, tell one of its edits as a story, and print the table."""
    parser = argparse.ArgumentParser(
        prog="reasonedit demo", description="Watch the embedded VLM be wrong, be corrected, and answer better."
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the world, the edits and the questions (default: 0)"
    )
    parser.add_argument("--edits", type=count, default=20, help="number of edits (default: 20)")
    parser.add_argument(
        "--model",
        default="embedded",
        help="VLM: embedded (the default), a hub id, a folder, or openai:MODEL behind an endpoint",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="results folder (default: runs/demo)")
    parser.add_argument("--quiet", action="store_true", help="print the table alone")
    arguments = parser.parse_args(argv)
    from .demo_story import run_demo

    return run_demo(arguments)
