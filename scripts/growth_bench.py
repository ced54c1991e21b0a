"""What an edit takes as the codebook grows, for ``scripts/bench growth``."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from bench_tools import describe_machine, now, print_ratio
from PIL import Image

from reasonedit.codebook import EditMemory, Entry, Fact
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.pipeline import EditingPipeline
from reasonedit.retrieval import FactRetriever, RetrievalConfig
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
    print_ratio("whole edit: at 300 / at 10", medians[-1], medians[0], "<= 1.1")
    merged, apart = len(pipeline.memory) / _MARKS[-1], len(unmerged) / _MARKS[-1]
    print(f"  keys per edit: {merged:.2f} merged, {apart:.2f} kept apart")


def _time_codebook(width: int, hubness: bool) -> None:
    memory = EditMemory()
    config = RetrievalConfig(k=5, k_counts="facts", gate_per_fact=True, percentile=50, hubness=hubness)
    retriever = FactRetriever(memory, config)
    generator = torch.Generator().manual_seed(0)

    def make(count: int) -> tuple[Edit, torch.Tensor]:
        edit = Edit.of(Image.new("RGB", (8, 8)), "What?", "this", ["It is."])
        return edit, torch.randn(count, width, generator=generator)

    def write(edit: Edit, keys: torch.Tensor) -> None:
        memory.write(edit, [Entry(key, 1.0, Fact(str(i), "image", edit.id)) for i, key in enumerate(keys)])

    query, edits, questions = torch.randn(1, 10, width, generator=generator), dict[int, float](), dict[int, float]()
    for size in (s for s in _SIZES if not hubness or s <= _WITH_HUBNESS_UP_TO):
        while len(memory) < size - 8 * _KEYS_PER_EDIT:
            write(*make(min(500, size - 8 * _KEYS_PER_EDIT - len(memory))))
        retriever.retrieve(query)
        searching = _Stopwatch(retriever)
        after_edits, by_itself = [], []
        for _ in range(8):
            edit, keys = make(_KEYS_PER_EDIT)
            after_edits.append(searching.time_rest(lambda e=edit, k=keys: (write(e, k), retriever.retrieve(query))))
            by_itself.append(searching.time_replayed(lambda: retriever.retrieve(query)))
        searching.stop()
        edits[size], questions[size] = statistics.median(after_edits), statistics.median(by_itself)
    label = " with hubness" if hubness else ""
    for what, medians in (
        (f"an edit of {_KEYS_PER_EDIT} keys and a question after it", edits),
        ("a question", questions),
    ):
        shown = ", ".join(f"{size:,}: {t * 1e3:.2f} ms" for size, t in medians.items())
        print(f"codebook's own cost{label}, without the search, of {what}: {shown}")
        print_ratio(
            f"own cost{label} of {what}: at {max(medians):,} keys / at {min(medians):,}",
            medians[max(medians)],
            medians[min(medians)],
            "<= 3",
        )


class _Stopwatch:
    """Times what a retriever does beside the search in its indices.

    Args:
        retriever: The retriever; its indices are wrapped until :meth:`stop`.
    """

    def __init__(self, retriever: FactRetriever) -> None:
        self._search = 0.0
        self._found: list[object] = []
        self._replay: Iterator[object] | None = None
        self._groups = retriever._groups
        for group in self._groups:
            group.index.search = self._timed(group.index.search)  # type: ignore[method-assign]

    def _timed(self, search: Callable[..., object]) -> Callable[..., object]:
        def run(*args: object) -> object:
            if self._replay is not None:
                return next(self._replay)
            started = time.perf_counter()
            found = search(*args)
            self._search += time.perf_counter() - started
            self._found.append(found)
            return found

        return run

    def time_rest(self, call: Callable[[], object]) -> float:
        """Seconds of a call without the search."""
        self._search, started = 0.0, time.perf_counter()
        call()
        return time.perf_counter() - started - self._search

    def time_replayed(self, call: Callable[[], object]) -> float:
        """Seconds of a call that finds at once what it found before: a search leaves nothing else in the cache."""
        self._found.clear()
        call()
        self._replay = iter(list(self._found))
        started = time.perf_counter()
        call()
        seconds = time.perf_counter() - started
        self._replay = None
        return seconds

    def stop(self) -> None:
        """Leave the indices as they were."""
        for group in self._groups:
            del group.index.search  # type: ignore[attr-defined]
