"""Big codebooks, for ``scripts/bench scale``: opened from disk, searched, written to and undone in."""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from bench_results import Result, keep
from bench_tools import print_ratio
from PIL import Image

from reasonedit.boxes import WHOLE
from reasonedit.codebook import Draft, EditMemory, Entry, Fact, Store
from reasonedit.codebook.events import Event
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.embedding import QUERY_REGIONS
from reasonedit.pipeline import EditingPipeline
from reasonedit.retrieval import EXACT_UP_TO, ExactIndex, FactRetriever, RetrievalConfig
from reasonedit.types import Edit
from reasonedit.vlm import load_vlm

_PER_EDIT = 1000


def embed_halves() -> tuple[torch.Tensor, ...]:
    """Vision halves and sentence halves of the embedded world; those of other scenes and of questions as queries."""
    pipeline = EditingPipeline(load_vlm("embedded", place=True))
    regions, texts, query_regions, questions = [], set(), [], []
    for i, edit in enumerate(islice(EmbeddedWorld("stress", seed=100).candidates(), 260)):
        halves = pipeline.embedder.embed_regions(pipeline.see([edit.image]), [[*QUERY_REGIONS, WHOLE]])[0]
        (regions if i < 220 else query_regions).append(halves)
        texts.update([*edit.reasoning, edit.question] if i < 220 else [])
        questions += [edit.question] if i >= 220 else []
    return (
        torch.cat(regions),
        pipeline.embedder.embed_texts(sorted(texts)),
        torch.stack(query_regions),
        pipeline.embedder.embed_texts(questions),
    )


def own_memory() -> float:
    """GiB of memory that is this process's own, files that are mapped not counted."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1]) / 2**20


def write_codebook(folder: Path, count: int, regions: torch.Tensor, texts: torch.Tensor) -> None:
    """A codebook of so many keys: every one a region of a scene beside a sentence."""
    pairs = torch.randperm(len(regions) * len(texts), generator=torch.Generator().manual_seed(0))[:count]
    store, picture, first = Store.create(folder, {}, {}, {}), Image.new("RGB", (8, 8)), 0
    with store.writing():
        for number, part in enumerate(pairs.split(_PER_EDIT)):
            keys = torch.cat([regions[part // len(texts)], texts[part % len(texts)]], dim=1)
            edit = Draft.of(Edit(picture, "What?", f"thing {number}", ["It is."], id=f"e{number}"), []).edit
            facts = [(f"fact {number} {i}", "patch") for i in range(len(part))]
            arrays = (keys, np.full(len(part), 0.05, np.float32), {edit.image: picture})
            store.append([Event.of_edit(edit, facts, first)], [arrays])
            first += len(part)
        store.settle(np.arange(count), merge=True, join=True)


def time_call(call: Callable[[], object], repeats: int) -> float:
    """Median milliseconds."""
    milliseconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        milliseconds.append(1e3 * (time.perf_counter() - started))
    return statistics.median(milliseconds)


def run(args: argparse.Namespace) -> None:
    """Print one block of figures for each size."""
    torch.set_num_threads(args.threads)
    import faiss

    faiss.omp_set_num_threads(args.threads)
    regions, texts, query_regions, questions = embed_halves()
    repeated = questions[:, None].expand(-1, query_regions.shape[1], -1)
    queries = torch.cat([query_regions, repeated], dim=2)  # (40, 10, D)
    flat = queries.flatten(0, 1)
    rows = flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(1))][:256]
    print(f"{args.threads} threads, keys of {flat.shape[1]} numbers; exact up to {EXACT_UP_TO:,} keys")
    for size in args.sizes:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            folder = Path(name) / "book"
            write_codebook(folder, size, regions, texts)
            measure(folder, size, queries, rows, args.repeats)
    print(
        f"largest resident size, mapped files included: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    )


def measure(folder: Path, size: int, queries: torch.Tensor, rows: torch.Tensor, repeats: int) -> None:
    before, started = own_memory(), time.perf_counter()
    memory = EditMemory.open(Store.open(folder))
    open_seconds, open_memory = time.perf_counter() - started, own_memory() - before
    retriever = FactRetriever(memory, RetrievalConfig(k=5, k_counts="facts", gate_per_fact=True))
    before, started = own_memory(), time.perf_counter()
    retriever.retrieve(queries[:1])
    index_seconds, index_memory = time.perf_counter() - started, own_memory() - before
    group = retriever._groups[0]
    exact = ExactIndex()
    exact.add(memory.keys)
    best = torch.cat([exact.search(part, 5)[0] for part in rows.split(64)])
    nearest = torch.cat([group.index.search(part, 5)[0] for part in rows.split(64)])
    recall = float((nearest <= best[:, -1:] * (1 + 1e-5)).float().mean())
    print(f"\n{size:,} keys ({type(group.index).__name__}, {size * rows.shape[1] * 4 / 2**30:.2f} GiB on disk)")
    print(
        f"  open {open_seconds:.2f} s, {open_memory:.2f} GiB; index and gate {index_seconds:.2f} s, {index_memory:.2f} GiB"
    )
    print(f"  recall@5 against exact: {recall:.4f}   (aim >= 0.95)")
    keep(Result("scale", f"{size:,} keys", ("recall@5", "of the exact search"), (recall, 1.0), ">= 0.95", ""))
    for batch in (1, 64):
        ours, theirs = (time_call(lambda i=i, b=batch: i.search(rows[:b], 5), repeats) for i in (group.index, exact))
        print_ratio(f"{size:,} keys, batch {batch}: exact / ours", theirs / 1e3, ours / 1e3, "")
    print(
        f"  one question with ten regions, gate and facts: {time_call(lambda: retriever.retrieve(queries[:1]), repeats):.2f} ms"
    )
    add_times = []
    for number in range(4):
        edit = Edit(Image.new("RGB", (8, 8)), "What?", "new", ["It is."], id=f"new{number}")
        near = rows[5 * number : 5 * number + 5] + 0.01
        entries = [Entry(key, 0.05, Fact(f"new {i}", "patch", edit.id)) for i, key in enumerate(near)]
        started = time.perf_counter()
        memory.write(edit, entries)
        retriever.retrieve(queries[:1])
        add_times.append(1e3 * (time.perf_counter() - started))
    print(
        f"  add an edit of 5 keys, durable, then ask: first {add_times[0]:.0f} ms, then {statistics.median(add_times[1:]):.0f} ms"
    )
    started = time.perf_counter()
    memory.undo("new1")
    undo_seconds = time.perf_counter() - started
    started = time.perf_counter()
    retriever.retrieve(queries[:1])
    print(f"  undo it: {1e3 * undo_seconds:.0f} ms; the next question {1e3 * (time.perf_counter() - started):.0f} ms")
