"""What an edit takes as the codebook grows, for ``scripts/bench growth``."""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import islice

import torch
from bench_tools import describe_machine, now, print_ratio
from PIL import Image

from reasonedit.codebook import EditMemory, Entry, Fact
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.pipeline import EditingPipeline
from reasonedit.retrieval import HubScale, PercentileGate
from reasonedit.types import Edit
from reasonedit.vlm import VLM, load_vlm

_MARKS = (10, 100, 300)
_SIZES = (100, 1_000, 10_000, 100_000)
_WITH_HUBNESS_UP_TO = 10_000
_KEYS_PER_EDIT = 5


def run(args: argparse.Namespace) -> None:
    """Time whole edits, then the codebook's own part with keys of random numbers."""
    vlm = load_vlm(args.model, place=True)
    print(describe_machine(vlm))
    _time_whole_edits(vlm)
    for hubness in (False, True):
        _time_codebook(args.width, hubness)


def _time_whole_edits(vlm: VLM) -> None:
    pipeline, unmerged = EditingPipeline(vlm), EditMemory(merge=False)
    times = []
    for edit in islice(EmbeddedWorld("stress", seed=100).candidates(), _MARKS[-1]):
        started = now(vlm)
        written = pipeline.write(edit)
        times.append(now(vlm) - started)
        unmerged.write(edit, written.entries)
    medians = [statistics.median(times[max(0, mark - 10) : mark]) for mark in _MARKS]
    print("whole edit at 10 / 100 / 300: " + " / ".join(f"{t * 1e3:.0f} ms" for t in medians))
    print_ratio("  at 300 / at 10", medians[-1], medians[0], "<= 1.1")
    merged, apart = len(pipeline.memory) / _MARKS[-1], len(unmerged) / _MARKS[-1]
    print(f"  keys per edit: {merged:.2f} merged, {apart:.2f} kept apart")


def _time_codebook(width: int, hubness: bool) -> None:
    memory, gate, hubs = EditMemory(), PercentileGate(10), HubScale()
    generator = torch.Generator().manual_seed(0)

    def make(count: int) -> tuple[Edit, torch.Tensor]:
        edit = Edit.of(Image.new("RGB", (8, 8)), "What?", "this", ["It is."])
        return edit, torch.randn(count, width, generator=generator)

    def write(edit: Edit, keys: torch.Tensor) -> None:
        memory.write(edit, [Entry(key, 1.0, Fact(str(i), "image", edit.id)) for i, key in enumerate(keys)])

    def update() -> None:
        gate.update(memory.keys)
        if hubness:
            hubs.update(memory.keys)

    medians = {}
    for size in (s for s in _SIZES if not hubness or s <= _WITH_HUBNESS_UP_TO):
        while len(memory) < size - 8 * _KEYS_PER_EDIT:
            write(*make(min(500, size - 8 * _KEYS_PER_EDIT - len(memory))))
        update()
        seconds = []
        for _ in range(8):
            edit, keys = make(_KEYS_PER_EDIT)
            started = time.perf_counter()
            write(edit, keys)
            update()
            gate.threshold(len(memory.edits))
            seconds.append(time.perf_counter() - started)
        medians[size] = statistics.median(seconds)
    label = "with hubness" if hubness else "merge, threshold, index"
    print(
        f"codebook's own cost per edit of {_KEYS_PER_EDIT} keys ({label}): "
        + ", ".join(f"{size:,}: {t * 1e3:.2f} ms" for size, t in medians.items())
    )
    print_ratio("  last / first", medians[max(medians)], medians[min(medians)], "<= 3")
