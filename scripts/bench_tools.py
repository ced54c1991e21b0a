"""What the benchmarks share: timing, printing, and edits of the embedded world."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from itertools import islice

import torch

from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.types import Edit
from reasonedit.vlm import VLM


def describe_machine(vlm: VLM | None = None) -> str:
    """What a benchmark runs on, and with which model."""
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    model = f", {vlm.name} {vlm.model.dtype}" if vlm else ""
    return f"{device}, {platform.machine()}, torch {torch.__version__}{model}"


def now(vlm: VLM | None = None) -> float:
    """Seconds, once the GPU has done what it was given."""
    if vlm is not None and vlm.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def time_sides(sides: dict[str, Callable[[], object]], repeats: int, vlm: VLM | None = None) -> dict[str, float]:
    """Median seconds of each side. The sides take turns; the first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            started = now(vlm)
            side()
            if turn:
                seconds[name].append(now(vlm) - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def print_ratio(what: str, slow: float, fast: float, aim: str) -> None:
    """Print two times in seconds, and their ratio beside the one that is aimed at."""
    print(f"{what:52s} {slow * 1e3:9.1f} ms / {fast * 1e3:9.1f} ms = {slow / fast:6.2f}   (aim {aim})")


def world_edits(count: int, sentences: int, seed: int = 100) -> list[Edit]:
    """Edits of the embedded world with reasonings of so many sentences."""
    fill = "The image shows a picture. It was drawn by a program. Things have colors. Objects have names."
    return [
        Edit.of(edit.image, edit.question, edit.answer, [*edit.reasoning, *fill.split(". ")][:sentences])
        for edit in islice(EmbeddedWorld("demo", seed=seed).candidates(), count)
    ]
