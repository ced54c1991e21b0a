"""``reasonedit build-probes``: make the probes of a data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .configs import add_config, parse_with_overrides

GROUPS = ("t_gen", "i_gen", "r_gen", "coe_gen")
"""The groups that can be made; see :func:`reasonedit.data.probes.builders`, which takes torch."""


def main(argv: Sequence[str]) -> int:
    """Build probe sets, or go on with them.

    Returns:
        0, or 1 where a set is not complete.
    """
    arguments, overrides = parse_with_overrides(_parser(), argv)
    arguments.groups, arguments.seed = list(dict.fromkeys(arguments.groups)), list(dict.fromkeys(arguments.seed))
    from .probe_building import build_probes

    return build_probes(arguments, overrides)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reasonedit build-probes",
        description="Make the probes of a data set for the samples that its VLM gets wrong. What is there already is "
        "kept; running again goes on where it stopped. A data set reads them by its argument 'probes'.",
        epilog="Example: reasonedit build-probes --config configs/aokvqa.yaml --out probes "
        "--writer openai:gpt-4o-mini --painter stabilityai/sdxl-turbo --limit 1000",
    )
    add_config(parser, "YAML file of a run: its model and data are used", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the probe sets")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS), help="which (default: all)")
    parser.add_argument(
        "--writer",
        help="language model: openai:MODEL (OPENAI_BASE_URL, OPENAI_API_KEY say where), hub id, folder, .gguf file",
    )
    parser.add_argument("--painter", help="text-to-image pipeline of diffusers: hub id or folder")
    parser.add_argument("--seed", nargs="+", type=int, default=[0], help="one probe set for each (default: 0)")
    parser.add_argument("--per-edit", type=_positive, default=1, help="probes per edit and group (default: 1)")
    parser.add_argument("--limit", type=_positive, help="most calls of writer and painter")
    parser.add_argument("--dry-run", action="store_true", help="only print the number of calls; no model is loaded")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return int(text)
