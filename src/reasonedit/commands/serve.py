"""``reasonedit serve``: a VLM with a codebook, behind OpenAI's protocol."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .generation import SERVED_TOKENS, add_generation
from .trust import add_trust


def main(argv: Sequence[str]) -> int:
    """Serve until it is asked to end."""
    arguments = parser().parse_args(argv)
    from .serving import run

    return run(arguments)


def parser(codebook: Path | None = None, kept: int = 0) -> argparse.ArgumentParser:
    """The arguments.

    Args:
        codebook: The codebook where none is named; it must be where this is not given.
        kept: How many questions are kept where nothing is said.
    """
    made = argparse.ArgumentParser(prog="reasonedit serve", description="Serve a VLM with a codebook.")
    add = made.add_argument
    needs_codebook = codebook is None
    says = "folder of the codebook, made when it is not there" + ("" if needs_codebook else " (default: %(default)s)")
    add("--codebook", type=Path, required=needs_codebook, default=codebook, help=says)
    add("--model", default=None, help="a hub id, a folder, embedded (the default of a new codebook), or openai:MODEL")
    add("--base-url", default=None, help="with openai:MODEL, where it is served (default: OPENAI_BASE_URL)")
    add("--name", default=None, help="name under which the model is served (default: its own)")
    add("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    add("--port", type=int, default=8000, help="port; a free one with 0 (default: %(default)s)")
    add("--api-key", default=None, help="key that clients need (default: REASONEDIT_API_KEY, or none)")
    add("--devices", nargs="+", default=None, help="a copy of the model on each, such as cuda:0 cuda:1")
    add("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
    add("--design", default=None, help="design of a new codebook: a JSON file, as reasonedit select writes")
    add("--calibration", default=None, metavar="FOLDER", help="calibration of a new codebook")
    add("--read-only", action="store_true", help="refuse edits, and leave the codebook's folder as it is")
    add("--allow-image-urls", action="store_true", help="fetch pictures from public http and https addresses")
    add("--body-mb", type=int, default=32, help="largest body of a request (default: %(default)s)")
    add("--pixels", type=int, default=64_000_000, help="most pixels of a picture (default: %(default)s)")
    add("--at-once", type=int, default=256, help="most questions under way (default: %(default)s)")
    add("--upstream-timeout", type=float, help="seconds to wait for openai:MODEL (default: 120)")
    add("--log-texts", action="store_true", help="write questions and answers into the log, too")
    add(
        "--keep-questions",
        type=int,
        nargs="?",
        const=10_000,
        default=kept,
        metavar="MOST",
        help="keep the newest MOST questions with their pictures beside the codebook, for a review; 0 keeps none"
        f" (default: {kept}; 10000 where the option has no number)",
    )
    add_generation(made, SERVED_TOKENS)
    add_trust(made)
    return made
