"""Big codebooks, for ``scripts/bench scale``: opened from disk, searched, written to and undone in."""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
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


def halves() -> tuple[torch.Tensor, ...]:
    """Vision halves and sentence halves of the embedded world; those of other scenes and of questions as queries."""
    pipeline = EditingPipeline(load_vlm("embedded", place=True))
    seen, texts, asked_of, asked = [], set(), [], []
    for i, edit in enumerate(islice(EmbeddedWorld("stress", seed=100).candidates(), 260)):
        regions = pipeline.embedder.embed_regions(pipeline.see([edit.image]), [[*QUERY_REGIONS, WHOLE]])[0]
        (seen if i < 220 else asked_of).append(regions)
        texts.update([*edit.reasoning, edit.question] if i < 220 else [])
        asked += [edit.question] if i >= 220 else []
    return (
        torch.cat(seen),
        pipeline.embedder.embed_texts(sorted(texts)),
        torch.stack(asked_of),
        pipeline.embedder.embed_texts(asked),
    )


def anonymous() -> float:
    """GiB of memory that is this process's own, files that are mapped not counted."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1]) / 2**20


def fabricate(folder: Path, count: int, seen: torch.Tensor, texts: torch.Tensor) -> None:
    """A codebook of so many keys: every one a region of a scene beside a sentence."""
    pairs = torch.randperm(len(seen) * len(texts), generator=torch.Generator().manual_seed(0))[:count]
    store, picture, first = Store.create(folder, {}, {}, {}), Image.new("RGB", (8, 8)), 0
    with store.writing():
        for number, part in enumerate(pairs.split(_PER_EDIT)):
            keys = torch.cat([seen[part // len(texts)], texts[part % len(texts)]], dim=1)
            edit = Draft.of(Edit(picture, "What?", f"thing {number}", ["It is."], id=f"e{number}"), []).edit
            facts = [(f"fact {number} {i}", "patch") for i in range(len(part))]
            written = (keys, np.full(len(part), 0.05, np.float32), {edit.image: picture})
            store.append([Event.of_edit(edit, facts, first)], [written])
            first += len(part)
        store.settle(np.arange(count), merge=True, join=True)


def timed(call: object, repeats: int) -> float:
    """Median milliseconds."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()  # type: ignore[operator]
        found.append(1e3 * (time.perf_counter() - started))
    return statistics.median(found)


def scale(args: argparse.Namespace) -> None:
    """Print one block per size."""
    torch.set_num_threads(args.threads)
    import faiss

    faiss.omp_set_num_threads(args.threads)
    seen, texts, asked_of, asked = halves()
    queries = torch.cat([asked_of, asked[:, None].expand(-1, asked_of.shape[1], -1)], dim=2)  # (40, 10, D)
    flat = queries.flatten(0, 1)
    rows = flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(1))][:256]
    print(f"{args.threads} threads, keys of {flat.shape[1]} numbers; exact up to {EXACT_UP_TO:,} keys")
    for size in args.sizes:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            folder = Path(name) / "book"
            fabricate(folder, size, seen, texts)
            one_size(folder, size, queries, rows, args.repeats)
    print(
        f"largest resident size, mapped files included: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    )


def one_size(folder: Path, size: int, queries: torch.Tensor, rows: torch.Tensor, repeats: int) -> None:
    before, started = anonymous(), time.perf_counter()
    memory = EditMemory.open(Store.open(folder))
    opened, held = time.perf_counter() - started, anonymous() - before
    retriever = FactRetriever(memory, RetrievalConfig(k=5, k_counts="facts", gate_per_fact=True))
    before, started = anonymous(), time.perf_counter()
    retriever.retrieve(queries[:1])
    built, index_holds = time.perf_counter() - started, anonymous() - before
    group = retriever._groups[0]
    exact = ExactIndex()
    exact.add(memory.keys)
    best = torch.cat([exact.search(part, 5)[0] for part in rows.split(64)])
    found = torch.cat([group.index.search(part, 5)[0] for part in rows.split(64)])
    recall = float((found <= best[:, -1:] * (1 + 1e-5)).float().mean())
    print(f"\n{size:,} keys ({type(group.index).__name__}, {size * rows.shape[1] * 4 / 2**30:.2f} GiB on disk)")
    print(f"  open {opened:.2f} s, {held:.2f} GiB; index and gate {built:.2f} s, {index_holds:.2f} GiB")
    print(f"  recall@5 against exact: {recall:.4f}   (aim >= 0.95)")
    for batch in (1, 64):
        mine, theirs = (timed(lambda i=i, b=batch: i.search(rows[:b], 5), repeats) for i in (group.index, exact))
        print(f"  batch {batch:2d}: {mine:8.2f} ms, exact {theirs:8.2f} ms = {theirs / mine:6.1f} x")
    print(
        f"  one question with ten regions, gate and facts: {timed(lambda: retriever.retrieve(queries[:1]), repeats):.2f} ms"
    )
    written = []
    for number in range(4):
        edit = Edit(Image.new("RGB", (8, 8)), "What?", "new", ["It is."], id=f"new{number}")
        near = rows[5 * number : 5 * number + 5] + 0.01
        entries = [Entry(key, 0.05, Fact(f"new {i}", "patch", edit.id)) for i, key in enumerate(near)]
        started = time.perf_counter()
        memory.write(edit, entries)
        retriever.retrieve(queries[:1])
        written.append(1e3 * (time.perf_counter() - started))
    print(
        f"  add an edit of 5 keys, durable, then ask: first {written[0]:.0f} ms, then {statistics.median(written[1:]):.0f} ms"
    )
    started = time.perf_counter()
    memory.undo("new1")
    undone = time.perf_counter() - started
    started = time.perf_counter()
    retriever.retrieve(queries[:1])
    print(f"  undo it: {1e3 * undone:.0f} ms; the next question {1e3 * (time.perf_counter() - started):.0f} ms")
