"""One process against two, for ``scripts/bench ranks``: the same stream of the embedded world, one thread each."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_tools import print_ratio


def run(args: argparse.Namespace) -> None:
    """Run the stream on one and on two processes, in turns, and print the ratio of the times."""
    times: dict[int, list[float]] = {1: [], 2: []}
    command_times: dict[int, list[float]] = {1: [], 2: []}
    results = {}
    for turn in range(args.repeats):
        for count in (1, 2) if turn % 2 == 0 else (2, 1):
            with tempfile.TemporaryDirectory() as name:
                # A cache of its own: the base pass is part of the work. Statistics of the embedding are not: warmed up.
                environment = {**os.environ, "OMP_NUM_THREADS": "1", "REASONEDIT_BENCH_ANSWERS": name}
                started = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-W", "ignore", __file__, str(count), str(args.edits), name],
                    check=True,
                    env=environment,
                    stderr=subprocess.DEVNULL,
                )
                command_times[count].append(time.perf_counter() - started)
                result = json.loads((Path(name) / "result.json").read_text())
                times[count].append(result.pop("seconds"))
                results.setdefault(count, result)
    assert results[1]["metrics"] == results[2]["metrics"], results  # the same answers
    assert results[1]["edits"] == results[2]["edits"]
    for what, seconds in (("predict", times), ("whole command, loading included", command_times)):
        one, two = min(seconds[1]), min(seconds[2])
        print_ratio(f"{what}: 1 process / 2 processes", one, two, ">= 1.8")
    print(f"{args.edits} edits, best of {args.repeats}; metrics the same: {results[1]['metrics']}")


def _run_stream(count: int, edits: int, out: str) -> None:
    import lightning as L
    import torch

    import reasonedit.data.answers as answers
    from reasonedit import EditStream, VLMModule
    from reasonedit.callbacks import Codebook, EditingMetrics, PredictionWriter, Retriever
    from reasonedit.data.world.benchmark import EmbeddedWorld

    torch.set_num_threads(1)
    answers.cache_folder = lambda: Path(os.environ["REASONEDIT_BENCH_ANSWERS"])
    module = VLMModule()
    book, metrics = Codebook(f"{out}/book"), EditingMetrics()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=count,
        strategy="ddp" if count > 1 else "auto",
        callbacks=[book, Retriever(), metrics, PredictionWriter(f"{out}/p.parquet")],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    stream = EditStream(EmbeddedWorld("demo", seed=100, edits=edits), batch_size=8)

    class Clock(L.Callback):
        """From when all ranks are there and set up."""

        def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
            assert book.pipeline is not None
            _ = book.pipeline.embedder.statistics
            trainer.strategy.barrier()
            self.started = time.perf_counter()

    clock = Clock()
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    trainer.predict(module, datamodule=stream, return_predictions=False)
    seconds = time.perf_counter() - clock.started
    if trainer.is_global_zero:
        result = {"seconds": seconds, "metrics": metrics.results, "edits": list(book.memory.edits)}
        (Path(out) / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    _run_stream(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
