"""What ``reasonedit build-probes`` does: probes for the samples that a VLM gets wrong."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from reasonedit.config.merging import load_module_and_stream
from reasonedit.data.pool import Pool
from reasonedit.data.probes import (
    Budget,
    Builder,
    BuildReport,
    Painter,
    Writer,
    build,
    builders,
    load_writer,
)
from reasonedit.data.probes.build import TRIES
from reasonedit.errors import InputError, ReasonEditError
from reasonedit.types import Edit
from reasonedit.vlm import VLM

from .configs import read_configs
from .screen import Screen, counting, waiting

_console = Screen()


def build_probes(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Build probe sets, or go on with them.

    Args:
        arguments: As the command line gives them.
        overrides: Values of the config that are set there.

    Returns:
        0, or 1 where a set is not complete.
    """
    config = read_configs(arguments, overrides)
    pool = _pool(config.instantiate("data")["data"])  # other data are refused before a model is loaded
    if arguments.dry_run:
        return _dry_run(arguments, pool.edits)
    _check_makers(arguments)
    with waiting("loading the models"):
        module, stream = load_module_and_stream(config)
        makers = _load_makers(arguments, module.vlm)
    edits = stream.find_edits(module.vlm, module.generation, progress=True)
    try:
        reports = _build(arguments, edits, makers)
    except ReasonEditError as error:
        raise ReasonEditError(f"{error} What was built is kept in '{arguments.out}': run again to go on.") from error
    for report in reports:
        _console.print(_describe(report), soft_wrap=True, highlight=False, markup=False)
    _console.print(
        f"{makers.budget.calls} calls of writer and painter. Probe sets are in {arguments.out}.",
        soft_wrap=True,
        markup=False,
    )
    return 0 if all(report.complete for report in reports) else 1


def _check_makers(arguments: argparse.Namespace) -> None:
    for group in arguments.groups:
        if builders()[group].needs_writer and arguments.writer is None:
            raise InputError(f"{group} needs a language model: name one with --writer, or leave it out of --groups.")
        if builders()[group].needs_painter and arguments.painter is None:
            raise InputError(
                f"{group} needs a text-to-image pipeline: name one with --painter, or leave it out of --groups."
            )


@dataclass(frozen=True)
class _Makers:
    """What makes probes: the VLM, a language model, a text-to-image pipeline, and how often these may be called."""

    vlm: VLM
    writer: Writer | None
    painter: Painter | None
    budget: Budget

    def builder(self, group: str) -> Builder:
        """What makes the probes of a group."""
        return builders()[group](self.vlm, self.writer, self.painter, self.budget)


def _load_makers(arguments: argparse.Namespace, vlm: VLM) -> _Makers:
    writes = any(builders()[group].needs_writer for group in arguments.groups)
    writer = load_writer(arguments.writer) if writes else None
    painter = Painter.from_pretrained(arguments.painter) if arguments.painter else None
    return _Makers(vlm, writer, painter, Budget(arguments.limit))


def _build(arguments: argparse.Namespace, edits: Sequence[Edit], makers: _Makers) -> list[BuildReport]:
    reports = []
    with counting() as bar:
        for group in arguments.groups:
            for seed in arguments.seed:
                task = bar.add_task(f"{group}, seed {seed}", total=len(edits) * arguments.per_edit)
                step = partial(bar.advance, task)
                reports.append(build(makers.builder(group), edits, arguments.out, seed, arguments.per_edit, step))
    return reports


def _dry_run(arguments: argparse.Namespace, edits: int) -> int:
    probes = edits * arguments.per_edit * len(arguments.seed)
    total = 0
    for group in arguments.groups:
        calls = probes * builders()[group].calls(with_painter=arguments.painter is not None)
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


def _describe(report: BuildReport) -> str:
    text = (
        f"{report.group}, seed {report.seed}: {report.built} made, {report.existing} were there, "
        f"{report.given_up} given up"
    )
    if report.reasons:
        listed = sorted(report.reasons.items(), key=lambda reason: -reason[1])
        text += f" (rejected on the way: {', '.join(f'{why} {n} x' for why, n in listed)})"
    return text + ("." if report.complete else "; the limit was reached: run again to go on.")


def _pool(data: Any) -> Pool:
    source = getattr(data, "source", None)
    if not isinstance(source, Pool):
        raise InputError(
            f"build-probes makes probes for data sets of corrected samples; {type(source).__name__} draws its own."
        )
    return source
