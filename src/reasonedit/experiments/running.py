"""Runs a cell, unless its result is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

import reasonedit.callbacks as cb
from reasonedit.data.stream import EditStream
from reasonedit.errors import UnavailableError
from reasonedit.module import VLMModule
from reasonedit.runs.data_files import DataFiles
from reasonedit.runs.folder import versions
from reasonedit.runs.provenance import questions_checksum

from .agreement import is_same
from .cell_file import read_record, write_cell
from .cells import Cell
from .checks import measure_checks
from .evidence_cache import CachedEvidenceFinder
from .gallery import write_gallery
from .grounding import measure_grounding
from .known_answers import KnownAnswers, asking_once
from .lab import Lab
from .own_chains import OwnChains
from .tensorboard_runs import begin_run, set_others_aside
from .train_once import LearnsFirst, check_apart


class _Writer(cb.PredictionWriter):
    """Leaves nothing of a run that does not come to its end: a part of a cell is no cell."""

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Write nothing."""


def run_cell(lab: Lab, cell: Cell, folder: Path) -> bool:
    """Run a cell, unless its result is there.

    Args:
        lab: Where it is run.
        cell: The cell.
        folder: The folder of the experiment.

    Returns:
        Whether it was run.

    Raises:
        NotServedError: Its editor takes what the VLM or the data set does not give.
        ReasonEditError: A part of it cannot be used.
        KeyboardInterrupt: It was interrupted.
    """
    path = folder / "cells" / f"{cell.row}-{cell.seed}.parquet"
    callbacks = [*cell.make(lab), *([cb.TokenShares()] if lab.token_accuracy else [])]
    editor = next(c for c in callbacks if isinstance(c, cb.Editor))
    if isinstance(editor, LearnsFirst):
        check_apart(lab, cell)
    record = lab.record(cell, editor, [c for c in callbacks if c is not editor])
    set_others_aside(folder / "tensorboard", record)
    if path.exists() and is_same(read_record(path), record):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = lab.stream(cell)
    stream.quiet = True  # the table says it
    timer, metrics = cb.QueryTimer(), cb.EditingMetrics()
    part = path.with_name(f".{path.name}.{os.getpid()}.rows")
    writer = _Writer(part)
    charts = cb.TensorBoardCharts(_hyperparameters(record))
    logger = _logger(folder, cell, record)
    try:
        with asking_once(lab.module, editor) as module:
            _predict(module, stream, [timer, *callbacks, metrics, charts, writer], logger)
        _check_complete(lab, cell, stream, writer.rows, record)
        timer.seconds += module.seconds_saved if isinstance(module, KnownAnswers) else 0.0
        measured = _measure(lab, stream, callbacks, metrics, timer, writer.rows)
        if cell.gallery:  # shown beside the cell of this moment only
            write_gallery(path.with_suffix(".gallery.json"), stream, editor, writer.rows, made=measured["made"])
        write_cell(path, part, {**record, **measured})
    except BaseException:
        part.unlink(missing_ok=True)
        logger.finalize("failed")
        shutil.rmtree(logger.log_dir, ignore_errors=True)
        raise
    logger.finalize("success")
    return True


def _predict(module: VLMModule, stream: EditStream, callbacks: list[L.Callback], logger: TensorBoardLogger) -> None:
    """Run the stream.

    Raises:
        KeyboardInterrupt: It was interrupted.
    """
    trainer = L.Trainer(
        accelerator="auto",
        devices=1,
        logger=logger,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=logger.save_dir,
    )
    try:
        trainer.predict(module, datamodule=stream, return_predictions=False)
    except SystemExit as stop:  # Lightning ends the process after Ctrl-C
        raise KeyboardInterrupt("Interrupted: the same command goes on.") from stop


def _measure(
    lab: Lab,
    stream: EditStream,
    callbacks: Sequence[L.Callback],
    metrics: cb.EditingMetrics,
    timer: cb.QueryTimer,
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """What a cell says of what came of it, beside its rows."""
    assert stream.base is not None
    editor = next(c for c in callbacks if isinstance(c, cb.Editor))
    checks = [c for c in callbacks if isinstance(c, cb.EditChecks)]
    efforts = stream.source.efforts if isinstance(stream.source, OwnChains) else {}
    return {
        "edits": editor.edits,
        "keys": editor.keys,
        "seconds_per_edit": _seconds(editor) / len(editor.seconds) if editor.seconds else None,
        "ms_per_query": timer.ms_per_query,
        "ms_per_query_unedited": stream.base.ms_per_query,
        "probes": {group: asdict(count) for group, count in stream.base.counts.items()},
        "metrics": {group: share for group, (share, _) in metrics.results.items()},
        "at_once": lab.at_once,
        "versions": versions(),
        "asked": questions_checksum(stream.base),
        "answers": len(rows),
        "checks": [m for c in checks for m in measure_checks(c.checks, rows, stream.source)],
        "efforts": [asdict(effort) for edit, effort in efforts.items() if edit in editor.seconds],
        "grounding": measure_grounding(callbacks, stream, editor, rows),
        "made": datetime.now(timezone.utc).isoformat(timespec="microseconds"),
    }


def _logger(folder: Path, cell: Cell, record: Mapping[str, Any]) -> TensorBoardLogger:
    """TensorBoard's logger of a cell, whose folder holds nothing but what the cell is."""
    logger = TensorBoardLogger(folder / "tensorboard", name="", version=f"{cell.row}-{cell.seed}")
    begin_run(Path(logger.log_dir), record)
    return logger


def _seconds(editor: cb.Editor) -> float:
    """What all edits take, as if their evidence had been sought for each."""
    seconds = sum(editor.seconds.values())
    if isinstance(editor, cb.Codebook) and editor.pipeline is not None:
        finder = editor.pipeline.finder
        seconds += finder.seconds_saved if isinstance(finder, CachedEvidenceFinder) else 0.0
    return seconds


def _check_complete(lab: Lab, cell: Cell, stream: EditStream, rows: Sequence[Any], record: Mapping[str, Any]) -> None:
    """Refuse a part of a cell, and one whose data changed while it ran.

    Raises:
        UnavailableError: It is one of these.
    """
    asked = sum(map(len, stream.layout()))
    if len(rows) != asked:
        raise UnavailableError(
            f"{cell.title}, seed {cell.seed}, stopped after {len(rows)} of {asked} questions, and nothing of it is "
            "kept: run the same command again."
        )
    before, files = record["files"], lab.files_of(record["data"])
    now = DataFiles().of(list(before), files=files)
    changed = next((name for name in before if now.get(name) != before[name]), None)
    if changed is not None:
        raise UnavailableError(
            f"'{changed}' changed while {cell.title}, seed {cell.seed}, ran on it: nothing of it is kept; run the "
            "same command again."
        )


def _hyperparameters(record: Mapping[str, Any]) -> dict[str, Any]:
    """What TensorBoard's table of hyperparameters can hold of a cell."""
    source = record["data"]["init_args"]["source"]
    return {
        "editor": record["title"],
        "seed": record["seed"],
        "x": record["x"] if record["x"] is not None else "",
        "edits": source["init_args"].get("edits", ""),
        "model": record["model"]["name"],
    }
