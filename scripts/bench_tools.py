"""What the benchmarks share: timing, printing, and edits of the embedded world."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from itertools import islice
from pathlib import Path

import torch
from bench_results import Result, keep

from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.types import Edit
from reasonedit.vlm import VLM

_VERSIONS = ("torch", "transformers", "sentence-transformers", "faiss-cpu", "numpy", "reasonedit")


def describe_everything() -> str:
    """Processor, GPU, threads, load and versions: what a table of benchmarks is printed over."""
    cpu = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", cpu.read_text(), re.MULTILINE) if cpu.exists() else []
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    installed = {d.metadata["Name"].lower(): d.version for d in metadata.distributions()}
    versions = ", ".join(f"{name} {installed[name]}" for name in _VERSIONS if name in installed)
    return (
        f"{names[0] if names else platform.processor()} ({os.cpu_count()} cores, {torch.get_num_threads()} threads), "
        f"{gpu}; load {load} when it began\n{platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}, {versions}"
    )


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
    """Print two times in seconds, and their ratio beside the one that is aimed at; both go into the table.

    Args:
        what: ``"on what: one side / the other"``; what it is measured on may be missing where a line before it says it.
        slow: Seconds of the first side.
        fast: Seconds of the other.
        aim: ``"<= X"`` or ``">= X"``, or nothing.
    """
    context, _, sides = what.strip().rpartition(": ")
    one, _, other = sides.partition(" / ")
    keep(Result(os.environ.get("REASONEDIT_BENCH_NAME", ""), context, (one, other), (slow, fast), aim))
    digits = 1 if min(slow, fast) >= 0.01 else 3
    times = " / ".join(f"{seconds * 1e3:9.{digits}f} ms" for seconds in (slow, fast))
    print(f"{what:52s} {times} = {slow / fast:6.2f}   (aim {aim or 'none'})")


def world_edits(count: int, sentences: int, seed: int = 100) -> list[Edit]:
    """Edits of the embedded world with reasonings of so many sentences."""
    fill = "The image shows a picture. It was drawn by a program. Things have colors. Objects have names."
    return [
        Edit.of(edit.image, edit.question, edit.answer, [*edit.reasoning, *fill.split(". ")][:sentences])
        for edit in islice(EmbeddedWorld("demo", seed=seed).candidates(), count)
    ]
