"""``reasonedit build-probes``: make the probes of a data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from reasonedit.config import module_and_stream, parts_of
from reasonedit.data.pool import Pool
from reasonedit.data.probes import (
    Budget,
    Builder,
    CoEProbes,
    ImageProbes,
    Painter,
    RationaleProbes,
    Report,
    TextProbes,
    Writer,
    build,
    writer_of,
)
from reasonedit.data.probes.build import TRIES
from reasonedit.errors import ReasonEditError
from reasonedit.groups import GENERALITIES
from reasonedit.vlm import VLM

from .screen import Screen
from .trust import add_trust

_console = Screen()
_WRITES, _PAINTS = ("t_gen", "r_gen", "coe_gen"), ("i_gen", "coe_gen")


def main(argv: Sequence[str]) -> int:
    """Build probe sets, or go on with them.

    Returns:
        0, or 1 where a set is not complete.
    """
    arguments = _arguments(argv)
    if arguments.dry_run:
        return _dry_run(arguments)
    _pool(parts_of(arguments.config, "data", trusted=arguments.trust_remote_code)["data"])
    for group in arguments.groups:
        if group in _WRITES and arguments.writer is None:
            raise ReasonEditError(
                f"{group} needs a language model: name one with --writer, or leave it out of --groups."
            )
        if group in _PAINTS and arguments.painter is None:
            raise ReasonEditError(
                f"{group} needs a text-to-image pipeline: name one with --painter, or leave it out of --groups."
            )
    with _console.status("loading the models"):
        module, stream = module_and_stream(arguments.config, trusted=arguments.trust_remote_code)
        vlm = module.vlm
        writer = writer_of(arguments.writer) if set(arguments.groups) & set(_WRITES) else None
        painter = Painter.from_pretrained(arguments.painter) if arguments.painter else None
    edits = stream.find_edits(vlm, module.generation, progress=True)
    budget = Budget(arguments.limit)
    reports = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Screen(stderr=True)) as bar:
            for group in arguments.groups:
                for seed in arguments.seed:
                    task = bar.add_task(f"{group}, seed {seed}", total=len(edits) * arguments.per_edit)
                    builder = _builder(group, vlm, writer, painter, budget)

                    def step(task: Any = task) -> None:
                        bar.advance(task)

                    reports.append(build(builder, edits, arguments.out, seed, arguments.per_edit, step))
    except ReasonEditError as error:
        raise ReasonEditError(f"{error} What was built is kept in '{arguments.out}': run again to go on.") from error
    for report in reports:
        _console.print(_said(report), soft_wrap=True, highlight=False, markup=False)
    _console.print(
        f"{budget.calls} calls of writer and painter. Probe sets are in {arguments.out}.", soft_wrap=True, markup=False
    )
    return 0 if all(r.complete for r in reports) else 1


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="reasonedit build-probes",
        description="Make the probes of a data set for the samples that its VLM gets wrong. What is there already is "
        "kept; running again goes on where it stopped. A data set reads them by its argument 'probes'.",
        epilog="Example: reasonedit build-probes --config configs/llava-1.5-7b-aokvqa.yaml --out probes "
        "--writer openai:gpt-4o-mini --painter stabilityai/sdxl-turbo --limit 1000",
    )
    parser.add_argument("--config", required=True, help="YAML file of a run: its model and data are used")
    parser.add_argument("--out", type=Path, required=True, help="folder of the probe sets")
    parser.add_argument(
        "--groups", nargs="+", choices=GENERALITIES, default=list(GENERALITIES), help="which (default: all)"
    )
    parser.add_argument(
        "--writer",
        help="language model: openai:MODEL (OPENAI_BASE_URL, OPENAI_API_KEY say where), hub id, folder, .gguf file",
    )
    parser.add_argument("--painter", help="text-to-image pipeline of diffusers: hub id or folder")
    parser.add_argument("--seed", nargs="+", type=int, default=[0], help="one probe set for each (default: 0)")
    parser.add_argument("--per-edit", type=int, default=1, help="probes per edit and group (default: 1)")
    parser.add_argument("--limit", type=int, help="most calls of writer and painter")
    parser.add_argument("--dry-run", action="store_true", help="only print the number of calls; no model is loaded")
    add_trust(parser, config=True)
    arguments = parser.parse_args(list(argv))
    for name in ("per_edit", "limit"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more, not {value}")
    return arguments


def _builder(group: str, vlm: VLM, writer: Writer | None, painter: Painter | None, budget: Budget) -> Builder:
    if group == "t_gen":
        return TextProbes(writer, None, budget)
    if group == "i_gen":
        return ImageProbes(vlm, painter, budget)
    if group == "r_gen":
        return RationaleProbes(writer, painter, budget)
    return CoEProbes(vlm, writer, painter, budget)


def _dry_run(arguments: argparse.Namespace) -> int:
    edits = _pool(parts_of(arguments.config, "data", trusted=arguments.trust_remote_code)["data"]).edits
    probes = edits * arguments.per_edit * len(arguments.seed)
    total = 0
    for group in arguments.groups:
        calls = probes * (
            (group in _WRITES) + (group in _PAINTS or (group == "r_gen" and arguments.painter is not None))
        )
        total += calls
        _console.print(
            f"{group}: {probes} probes, {calls} calls if none is rejected, {TRIES * calls} at most", highlight=False
        )
    limit = "" if arguments.limit is None else f"; no more than {arguments.limit} will be made in one go"
    _console.print(
        f"together: {total} to {TRIES * total} calls for {edits} edits at most, not counting what is there{limit}.",
        soft_wrap=True,
        highlight=False,
    )
    return 0


def _said(report: Report) -> str:
    text = (
        f"{report.group}, seed {report.seed}: {report.made} made, {report.there} were there, {report.rejected} given up"
    )
    if report.reasons:
        listed = sorted(report.reasons.items(), key=lambda kv: -kv[1])
        text += f" (rejected on the way: {', '.join(f'{why} {n} x' for why, n in listed)})"
    return text + ("." if report.complete else "; the limit was reached: run again to go on.")


def _pool(data: Any) -> Pool:
    source = getattr(data, "source", None)
    if not isinstance(source, Pool):
        raise ReasonEditError(
            f"build-probes makes probes for data sets of corrected samples; {type(source).__name__} draws its own."
        )
    return source
