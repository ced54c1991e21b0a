"""``reasonedit experiment``: compare editors, or settings of one, on several seeds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .configs import EXPERIMENT_CONFIG, add_config, parse_with_overrides

NAMES = {
    "main": "ReasonEdit beside every other editor",
    "design": "what each part of the method does",
    "embedding": "does the dual embedding beat either half?",
    "w": "how much does the weight of the sentence half matter?",
    "layer": "which layer is read, and is the choice of select right?",
    "tune": "which settings serve each editor best, of equally many?",
    "threshold": "is the gate's percentile p robust?",
    "k": "how many facts are enough?",
    "keys": "which entries and keys are worth their place?",
    "noise": "what does bad reasoning do?",
    "check": "how often is a check of an edit right?",
    "own": "can the VLM's own reasons make an edit?",
    "portability": "questions of two steps, where facts lead to each other",
    "stress": "does it drift over a thousand edits?",
    "probes": "how much does the seed of the probes matter?",
}
"""The experiments, each in a few words; what they compare is in :mod:`reasonedit.experiments`, which takes torch."""


def main(argv: Sequence[str]) -> int:
    """Run what of an experiment is not there yet, and print its table."""
    arguments, overrides = parse_with_overrides(_parser(), argv)
    from .comparing import list_rows, run_experiment

    return list_rows(arguments) if arguments.list else run_experiment(arguments, overrides)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reasonedit experiment",
        description="Compare editors on several seeds. Results that are there are kept: the same command goes on with "
        "an interrupted experiment.",
        epilog="\n".join(f"  {name:<12} {text}" for name, text in NAMES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=list(NAMES), metavar="NAME", help="one of those below")
    add_config(parser, f"YAML file with the model and its stream, as for reasonedit run (default: {EXPERIMENT_CONFIG})")
    parser.add_argument(
        "--source",
        metavar="NAME[:FOLDER]",
        help="a data set in place of the config's: a name that a package offers, and the folder that it reads, such as "
        "vlkeb:FOLDER; its other arguments with --data.init_args.source.init_args.NAME VALUE",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="seeds of the stream")
    parser.add_argument("--edits", type=count, default=None, help="number of edits for each seed")
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="ROW",
        help="only these rows; of 'tune' also an editor's name, for all of its tries; --list shows them",
    )
    parser.add_argument(
        "--editor",
        action="append",
        default=[],
        metavar="CLASS",
        help="one more row: an editor of your own, as MODULE.CLASS; modules in the working directory are found",
    )
    parser.add_argument(
        "--jobs",
        type=count,
        default=1,
        help="cells that run at once, each with a model of its own, on all GPUs in turn: times are no measure then",
    )
    parser.add_argument(
        "--token-accuracy",
        action="store_true",
        help="also the share of the right answers' tokens under teacher forcing, as older tables have it",
    )
    parser.add_argument(
        "--judge",
        metavar="openai:MODEL",
        help="also have a language model judge the answers, behind the endpoint of OPENAI_BASE_URL and OPENAI_API_KEY; "
        "its verdicts, with the prompt, are written beside the cells",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a first look: one seed, 10 edits, and of main seven editors"
    )
    parser.add_argument("--list", action="store_true", help="say what the experiment compares, and stop")
    parser.add_argument("--out", type=Path, default=Path("results"), help="results folder (default: %(default)s)")
    _add_shown(parser)
    return parser


def _add_shown(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--intervals", action="store_true", help="show the 95 %% intervals of all shares, too")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--quiet", action="store_true", help="print the tables alone, without what is under way")
    shown.add_argument("--json", action="store_true", help="print the rows as JSON, for a program, and nothing else")


def count(text: str) -> int:
    """A number of 1 or more, of a command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)
