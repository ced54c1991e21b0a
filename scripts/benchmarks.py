"""Benchmarks of the method; called by scripts/bench.

Each subcommand runs both sides in one go on the same inputs, asserts that they agree, and prints medians, their ratio,
the ratio that is aimed at, and what it ran on. The two sides take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import importlib
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch

MODULES = {
    "evidence": "evidence_bench",
    "query": "query_bench",
    "growth": "growth_bench",
    "select": "selection_bench",
    "retrieval": "index_bench",
    "shapes": "shape_bench",
    "scale": "scale_bench",
    "ranks": "rank_bench",
    "threads": "thread_bench",
}
"""The file of each benchmark, whose ``run`` runs it."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in MODULES:
        command = commands.add_parser(name)
        command.add_argument("--repeats", type=int, default=5)
        if name == "scale":
            command.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
            command.add_argument("--threads", type=int, default=torch.get_num_threads())
            command.add_argument("--folder", default=None, help="where the codebooks are made and removed again")
        if name in ("ranks", "threads"):
            command.add_argument("--edits", type=int, default=16)
        if name == "threads":
            command.add_argument("--questions", type=int, default=64)
        if name not in ("retrieval", "shapes", "scale", "ranks"):
            command.add_argument("--model", default="embedded")
        if name in ("evidence", "query"):
            command.add_argument("--edits", type=int, default=10)
        if name == "evidence":
            command.add_argument("--clip", default=None, help="open_clip model of the shortlist, ARCHITECTURE:WEIGHTS")
            command.add_argument("--shortlist", type=int, default=8)
        if name == "shapes":
            command.add_argument("--shapes", nargs="+", default=None, help="which of those in scripts/shapes.py")
            command.add_argument("--depth", type=int, default=None, help="so many layers of each part instead of all")
            command.add_argument("--sentences", type=int, default=2)
        if name in ("growth", "retrieval"):
            command.add_argument("--width", type=int, default=448, help="numbers per key (default: 448)")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    importlib.import_module(MODULES[arguments.command]).run(arguments)
