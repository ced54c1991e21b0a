"""Exact search against FAISS and torch, for ``scripts/bench retrieval``."""

from __future__ import annotations

import argparse

import faiss
import torch
from bench_tools import describe_machine, print_ratio, time_sides

from reasonedit.retrieval import ExactIndex

_WORK = 1_000_000
"""Pairs of query and key in what is timed, at least."""


def run(args: argparse.Namespace) -> None:
    """Compare neighbours and times, for codebooks of three sizes and batches of two."""
    print(describe_machine())
    generator = torch.Generator().manual_seed(0)
    for count in (1_000, 10_000, 100_000):
        keys = torch.randn(count, args.width, generator=generator)
        ours, flat = ExactIndex(), faiss.IndexFlatL2(args.width)
        ours.add(keys)
        flat.add(keys.numpy())
        for batch in (1, 64):
            queries = torch.randn(batch, args.width, generator=generator)

            def search_faiss(blas_from: int, q: torch.Tensor = queries, index: faiss.Index = flat) -> object:
                faiss.cvar.distance_compute_blas_threshold = blas_from
                return index.search(q.numpy(), 5)[1]

            def search_torch(q: torch.Tensor = queries, k: torch.Tensor = keys) -> object:
                return torch.cdist(q, k).topk(5, largest=False).indices

            sides = {
                "ours": lambda q=queries, o=ours: o.search(q, 5)[1],
                "faiss by loops": lambda s=search_faiss: s(10**9),
                "faiss by BLAS": lambda s=search_faiss: s(1),
                "torch": search_torch,
            }
            assert (sides["ours"]().numpy() == sides["faiss by loops"]()).all()
            # One search of few keys is too short to be timed by itself.
            rounds = max(1, _WORK // (count * batch))
            many = {name: lambda s=side, n=rounds: [s() for _ in range(n)] for name, side in sides.items()}
            times = {name: seconds / rounds for name, seconds in time_sides(many, args.repeats).items()}
            best = min((name for name in times if name != "ours"), key=times.__getitem__)
            what = f"{count:,} keys of {args.width}, batch {batch}: ours / {best}"
            print_ratio(what, times["ours"], times[best], "<= 1.5")
