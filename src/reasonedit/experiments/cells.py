"""Cells of an experiment: one editor on one stream with one seed, run once and kept."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

import reasonedit.callbacks as cb
from reasonedit.cache import cache_folder
from reasonedit.callbacks.baselines import MEND
from reasonedit.data.source import EditSource
from reasonedit.data.stream import EditStream
from reasonedit.design import Design
from reasonedit.errors import ReasonEditError
from reasonedit.module import VLMModule
from reasonedit.runs import versions

from .gallery import write_gallery
from .remember import RememberedEvidence

_ABOUT = b"reasonedit"
_log = logging.getLogger(__name__)
Callbacks = Callable[["Lab"], list[L.Callback]]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        row: The row of the table that it belongs to; names its files.
        title: What the row is called.
        seed: Seed of the stream.
        make: Makes the callbacks of the editor.
        settings: What tells it from other cells of its experiment, for the record.
        x: Where it stands on the axis of a sweep.
        stream: Arguments of :class:`EditStream` in place of the config's.
        source: What becomes of the config's source.
        varies: What the seed is of: the argument of the source that it is given as.
        gallery: Whether pictures of its edits and queries are kept for the report.
    """

    row: str
    title: str
    seed: int
    make: Callbacks
    settings: Mapping[str, Any] = field(default_factory=dict)
    x: float | None = None
    stream: Mapping[str, Any] = field(default_factory=dict)
    source: Callable[[EditSource], EditSource] | None = None
    varies: str = "seed"
    gallery: bool = False


class _SharedEvidence(L.Callback):
    """Lets a codebook use evidence that was found before; to be put behind it."""

    def __init__(self, codebook: cb.Codebook) -> None:
        self.codebook = codebook
        self.finder: RememberedEvidence | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        method = self.codebook.method
        assert method is not None  # the codebook comes first
        if self.finder is None:
            self.finder = method.finder = RememberedEvidence(method.finder)


class Lab:
    """Where cells are run: the VLM is loaded once, edits and unedited answers are found once for each seed.

    Args:
        config: Content of a config file with ``model`` and ``data``, as for ``reasonedit run``.
        edits: Number of edits in place of the config's.
        mend_steps: Steps in which MEND's network is trained, where no trained one is there.

    Attributes:
        module: The module with the VLM.
    """

    def __init__(self, config: Mapping[str, Any], edits: int | None = None, mend_steps: int = 600) -> None:
        self.config = config
        self.edits = edits
        self.mend_steps = mend_steps

    @cached_property
    def module(self) -> VLMModule:
        """The module with the VLM, on the GPU where there is one."""
        from reasonedit.config import made_of

        module = made_of(self.config, "model")["model"]
        if not isinstance(module, VLMModule):
            raise ReasonEditError(f"The config's model must be a VLMModule, not {type(module).__name__}.")
        if torch.cuda.is_available() and module.vlm.movable:
            module.to("cuda")
        return module

    @property
    def design(self) -> Design:
        """The design that the VLM gets by default."""
        return Design.default(self.module.vlm.name)

    def stream(self, cell: Cell) -> EditStream:
        """The stream of a cell.

        Raises:
            ReasonEditError: The source takes no seed, or the config cannot be used.
        """
        from reasonedit.config import made_of

        stream = made_of({"data": self.source_config(cell)}, "data")["data"]
        if not isinstance(stream, EditStream):
            raise ReasonEditError(f"The config's data must be an EditStream, not {type(stream).__name__}.")
        if cell.source is not None:
            stream.source = cell.source(stream.source)
        return stream

    def source_config(self, cell: Cell) -> dict[str, Any]:
        """The config of a cell's stream."""
        data = json.loads(json.dumps(self.config.get("data") or {}))
        options = data.setdefault("init_args", {})
        source = options.get("source")
        if not isinstance(source, dict) or "class_path" not in source:
            raise ReasonEditError(
                "An experiment's config must name its source by class_path, so that it can be seeded."
            )
        source.setdefault("init_args", {})[cell.varies] = cell.seed
        if self.edits is not None:
            source["init_args"]["edits"] = self.edits
        options.update({"check": True, **cell.stream})
        return dict(data)

    def about(self, cell: Cell, editor: cb.Editor) -> dict[str, Any]:
        """What makes a cell what it is: a cell that is kept is run again where this has changed."""
        vlm = self.module.vlm
        about = {
            "row": cell.row,
            "title": cell.title,
            "seed": cell.seed,
            "x": cell.x,
            "settings": dict(cell.settings),
            "editor": _said_of(editor, self.design),
            "data": self.source_config(cell),
            "model": {"name": vlm.name, "identity": vlm.identity, "max_new_tokens": self.module.max_new_tokens},
        }
        return dict(json.loads(json.dumps(about)))  # as it comes back from a file

    def run(self, cell: Cell, folder: Path) -> bool:
        """Run a cell, unless it is there.

        Args:
            cell: The cell.
            folder: The folder of the experiment.

        Returns:
            Whether it was run.

        Raises:
            ReasonEditError: A part of it cannot be used.
            KeyboardInterrupt: It was interrupted.
        """
        path = folder / "cells" / f"{cell.row}-{cell.seed}.parquet"
        callbacks = cell.make(self)
        editor = next(c for c in callbacks if isinstance(c, cb.Editor))
        about = self.about(cell, editor)
        if path.exists() and {k: v for k, v in read_about(path).items() if k in about} == about:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = self.stream(cell)
        if isinstance(editor, MEND) and not self.mend_network.exists():
            self.train_mend()
        shared = [_SharedEvidence(editor)] if isinstance(editor, cb.Codebook) else []
        timer, metrics = cb.QueryTimer(), cb.EditingMetrics()
        part = path.with_name(f".{path.name}.rows")
        writer = cb.PredictionWriter(part)
        logger = TensorBoardLogger(folder / "tensorboard", name="", version=f"{cell.row}-{cell.seed}")
        if Path(logger.log_dir).exists():  # of a cell that was stopped, or made by another config
            shutil.rmtree(logger.log_dir)
        after = [callbacks[0], *shared, *callbacks[1:]] if shared else callbacks
        trainer = L.Trainer(
            accelerator="auto",
            devices=1,
            logger=logger,
            callbacks=[timer, *after, metrics, cb.TensorBoardCharts(_flat(about)), writer],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=str(folder),
        )
        try:
            trainer.predict(self.module, datamodule=stream, return_predictions=False)
        except SystemExit as stop:  # Lightning ends the process after Ctrl-C
            raise KeyboardInterrupt("Interrupted: the same command goes on.") from stop
        finally:
            if not trainer.state.finished:
                part.unlink(missing_ok=True)
        spared = shared[0].finder.spared if shared and shared[0].finder is not None else 0.0
        measured = {
            "edits": editor.edits,
            "keys": editor.keys,
            "seconds_per_edit": (sum(editor.seconds.values()) + spared) / max(1, len(editor.seconds)),
            "ms_per_query": timer.ms_per_query,
            "ms_per_query_unedited": stream.base.ms_per_query if stream.base is not None else None,
            "metrics": {g: share for g, (share, _) in metrics.results.items()},
            "versions": versions(),
        }
        _finish(part, path, {**about, **measured})
        if cell.gallery:
            write_gallery(path.with_suffix(".gallery.json"), stream, editor, writer.rows)
        logger.finalize("success")
        return True

    @property
    def mend_network(self) -> Path:
        """Where the network of MEND for this model is kept."""
        return cache_folder() / "mend" / f"{self.module.vlm.identity[:16]}-{self.mend_steps}.safetensors"

    def train_mend(self) -> None:
        """Train the network of MEND, on a seed of the source that no experiment uses."""
        from reasonedit.callbacks.baselines.mend_training import train

        vlm = self.module.vlm
        cell = Cell("mend", "MEND", TRAINING_SEED, lambda _lab: [])
        stream = self.stream(cell)
        stream.source.edits = TRAINING_EDITS
        _log.warning("MEND's network is trained, once: %d steps, some minutes.", self.mend_steps)
        mend = MEND.untrained(vlm)
        for _ in train(mend, stream.source, steps=self.mend_steps):
            pass
        assert mend.network is not None
        mend.network.save(self.mend_network, vlm.fingerprint)


TRAINING_SEED, TRAINING_EDITS = 1000, 300
"""What MEND is trained on: a seed that is far from those of development and reporting."""


def _said_of(editor: cb.Editor, default: Design) -> dict[str, Any]:
    """What an editor was made with."""
    made: dict[str, Any] = {k: v for k, v in vars(editor).items() if isinstance(v, (bool, int, float, str, tuple))}
    if isinstance(editor, cb.Codebook):
        design = editor.design if isinstance(editor.design, Design) else default
        made["design"] = design.to_dict()
    return {"class": type(editor).__name__, **{k: v for k, v in made.items() if not k.startswith("_")}}


def _flat(about: Mapping[str, Any]) -> dict[str, Any]:
    """What TensorBoard's table of hyperparameters can hold of a cell."""
    flat = {"editor": about["title"], "seed": about["seed"], "x": about["x"] if about["x"] is not None else ""}
    return {**flat, "model": about["model"]["name"]}


def _finish(part: Path, path: Path, about: Mapping[str, Any]) -> None:
    """The predictions with what made them, in one file that is there whole or not at all."""
    import pyarrow.parquet as pq

    table = pq.read_table(part)
    pq.write_table(table.replace_schema_metadata({_ABOUT: json.dumps(about).encode()}), part)
    os.replace(part, path)


def read_about(path: Path) -> dict[str, Any]:
    """What made a cell, and what was measured beside its predictions.

    Raises:
        ReasonEditError: The file is no cell.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = json.loads((pq.read_schema(path).metadata or {})[_ABOUT])
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise ReasonEditError(f"'{path}' is no result of an experiment: delete it, or name another folder.") from error
    return dict(content)


def read_cell(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A cell: what made it, and its predictions.

    Raises:
        ReasonEditError: The file is no cell.
    """
    import pyarrow.parquet as pq

    about = read_about(path)
    return about, pq.read_table(path).to_pylist()
