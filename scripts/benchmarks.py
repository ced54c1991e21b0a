"""Benchmarks of the method; called by scripts/bench.

Each subcommand runs both sides in one go on the same inputs, asserts that they agree, and prints medians, their ratio,
the ratio that is aimed at, and what it ran on. The two sides take turns, so that a busy machine slows both. ``all``,
which is also what runs without a subcommand, runs one after the other, each in a process of its own, and prints all
ratios in one table.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

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
    "serve": "serve_bench",
    "page": "page_bench",
}
"""The file of each benchmark, whose ``run`` runs it."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command")
    every = commands.add_parser("all", help="every benchmark with its defaults, and one table")
    every.add_argument("--repeats", type=int, default=5)
    every.add_argument("--only", nargs="+", choices=list(MODULES), default=list(MODULES), help="some of them")
    for name in MODULES:
        _add_options(commands.add_parser(name), name)
    return parser.parse_args(sys.argv[1:] or ["all"])


def _add_options(command: argparse.ArgumentParser, name: str) -> None:
    """The options of one benchmark."""
    command.add_argument("--repeats", type=int, default=5)
    if name == "scale":
        command.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
        command.add_argument("--threads", type=int, default=torch.get_num_threads())
        command.add_argument("--folder", default=None, help="where the codebooks are made and removed again")
    if name in ("ranks", "threads", "serve"):
        command.add_argument("--edits", type=int, default=16)
    if name in ("threads", "serve"):
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


def run_all(names: list[str], repeats: int) -> int:
    """Run benchmarks one after the other and print one table; 1 if one failed or a target is not met, else 0."""
    import bench_results
    from bench_tools import describe_everything

    machine, not_run = describe_everything(), dict[str, str]()
    print(machine, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.jsonl"
        for name in names:
            if name == "shapes" and not torch.cuda.is_available():
                not_run[name] = "not run: without a GPU it takes hours; 'scripts/bench shapes --depth 2' runs anywhere"
                continue
            print(f"\n== {name}", flush=True)
            environment = {**os.environ, bench_results.FILE: str(path), "REASONEDIT_BENCH_NAME": name}
            command = [sys.executable, __file__, name, "--repeats", str(repeats)]
            code = subprocess.run(command, env=environment, check=False).returncode
            if code:
                not_run[name] = f"FAILED with exit code {code}; what it compared before stands in the table"
        results = bench_results.read(path)
    print(f"\n{machine}")
    bench_results.show_table(results, not_run)
    failed = any(reason.startswith("FAILED") for reason in not_run.values())
    return int(failed or any(result.is_met is False for result in results))


if __name__ == "__main__":
    arguments = parse_arguments()
    if arguments.command == "all":
        sys.exit(run_all(arguments.only, arguments.repeats))
    importlib.import_module(MODULES[arguments.command]).run(arguments)
