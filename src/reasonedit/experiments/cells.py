"""Cells of an experiment: one editor on one stream with one seed, run once and kept."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

import reasonedit.callbacks as cb
from reasonedit.cache import cache_folder
from reasonedit.callbacks.baselines import MEND
from reasonedit.data.stream import EditStream
from reasonedit.dependencies import checksum_of, code_of, versions_of
from reasonedit.design import Design
from reasonedit.embedding import SentenceEncoder
from reasonedit.errors import ReasonEditError
from reasonedit.module import VLMModule
from reasonedit.runs import versions

from .agreement import same
from .boards import keep_apart, mark
from .cellfile import finish, read_about, read_cell
from .described import DataFiles, asked_in, classes_of, encoders_of, plain, said_of
from .gallery import write_gallery
from .noise import NoisyReasoning
from .remember import RememberedEvidence

__all__ = ["LIBRARIES", "Cell", "Lab", "read_about", "read_cell"]

LIBRARIES = ("torch", "transformers", "sentence-transformers", "pillow")
"""What figures depend on beside our own code."""
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
        noise: Kind and share of what is done to the reasoning, see :class:`NoisyReasoning`.
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
    noise: tuple[str, float] | None = None
    varies: str = "seed"
    gallery: bool = False


class _SharedEvidence(L.Callback):
    """Lets a codebook use evidence that was found before; to be put behind it."""

    def __init__(self, codebook: cb.Codebook) -> None:
        self.codebook = codebook
        self.finder: RememberedEvidence | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        pipeline = self.codebook.pipeline
        assert pipeline is not None  # the codebook comes first
        if self.finder is None:
            self.finder = pipeline.finder = RememberedEvidence(pipeline.finder)


class _Writer(cb.PredictionWriter):
    """Leaves nothing of a run that does not come to its end: a part of a cell is none."""

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Write nothing."""


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
        self._code: dict[str, str] = {}  # as it was when this process loaded it, or soon after
        self._encoders: dict[str, str] = {}
        self._files = DataFiles()

    @cached_property
    def module(self) -> VLMModule:
        """The module with the VLM, on the GPU where there is one."""
        from reasonedit.config import instantiate_parts

        module = instantiate_parts(self.config, "model")["model"]
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
        from reasonedit.config import instantiate_parts

        stream = instantiate_parts({"data": self.source_config(cell)}, "data")["data"]
        if not isinstance(stream, EditStream):
            raise ReasonEditError(f"The config's data must be an EditStream, not {type(stream).__name__}.")
        if cell.noise is not None:
            stream.source = NoisyReasoning(stream.source, *cell.noise, cell.seed)
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

    @cached_property
    def model(self) -> dict[str, Any]:
        """What the answers of the model depend on, beside the code."""
        module, vlm = self.module, self.module.vlm
        device = str(vlm.device.type)
        if vlm.device.type == "cuda":
            device = torch.cuda.get_device_name(vlm.device)
        ours = vars(module).keys() - vars(L.LightningModule()).keys() - {"vlm", "model"}
        options = {name: plain(vars(module)[name]) for name in sorted(ours) if name[0] != "_"}
        return {"name": vlm.name, "identity": vlm.identity, "device": device, **options}

    def encoder(self, name: str) -> str:
        """The identity of a sentence encoder."""
        if name not in self._encoders:
            encoder = SentenceEncoder.from_pretrained(name)
            self._encoders[name] = str(getattr(encoder, "identity", encoder.name))
        return self._encoders[name]

    def about(self, cell: Cell, editor: cb.Editor, beside: Sequence[L.Callback] = ()) -> dict[str, Any]:
        """What makes a cell what it is: a cell that is kept is run again where this has changed.

        That is its data with the content of its files, the number of edits, the model, the design and other settings
        of its callbacks, the sentence encoders, and the code and libraries that its figures depend on; not what it is
        called.

        Args:
            cell: The cell.
            editor: Its editor, before it runs.
            beside: The callbacks that come with it.

        Raises:
            ReasonEditError: The config cannot be used, an encoder is not there, or an editor is in no file.
        """
        data = self.source_config(cell)
        named = self._named(data)
        said = [said_of(c, self.design) for c in (editor, *beside)]
        arguments = [options for _, options in named]
        design = said[0].get("design", {})
        paths = [design.get("embedding", {}).get("reference"), design.get("evidence", {}).get("clip")]
        paths.append(design.get("writing", {}).get("paraphraser"))
        about = {
            "row": cell.row,
            "title": cell.title,
            "seed": cell.seed,
            "varies": cell.varies,
            "x": cell.x,
            "settings": dict(cell.settings),
            "noise": list(cell.noise) if cell.noise is not None else None,
            "editor": said[0],
            "beside": said[1:],
            "stream": dict(cell.stream),
            "data": data,
            "files": self._files.of(*arguments, paths),
            "model": self.model,
            "encoders": {name: self.encoder(name) for name in sorted(encoders_of(*said, *arguments))},
            "libraries": versions_of(LIBRARIES),
            "code": self.code(cell, [kind for kind, _ in named], [editor, *beside], design),
        }
        return dict(json.loads(json.dumps(about)))  # as it comes back from a file

    @staticmethod
    def _named(data: Mapping[str, Any]) -> list[tuple[type, dict[str, Any]]]:
        from reasonedit.config import resolve_parts

        return list(classes_of(resolve_parts({"data": data}, "data")))

    def code(
        self, cell: Cell, named: Sequence[type], callbacks: Sequence[L.Callback], design: Mapping[str, Any]
    ) -> dict[str, str]:
        """Checksums of all code that the figures of a cell depend on, by module; what only shows them is not among it.

        Args:
            cell: The cell.
            named: The classes that its data are made of.
            callbacks: Its callbacks.
            design: The design, of a codebook.
        """
        roots: list[ModuleType | type] = [EditStream, cb.EditingMetrics, cb.QueryTimer, cb.PredictionWriter, *named]
        roots += [type(self.module), type(self.module.vlm), *map(type, callbacks)]
        if any(isinstance(c, cb.Codebook) for c in callbacks):
            roots.append(RememberedEvidence)
        if any(isinstance(c, MEND) for c in callbacks):
            from reasonedit.callbacks.baselines import mend_training

            roots.append(mend_training)
        if design.get("embedding", {}).get("reference") == "world":
            from reasonedit.data.world import scenes

            roots.append(scenes)
        if cell.noise is not None:
            roots.append(NoisyReasoning)
        found = code_of(roots, self._code)
        found[__name__] = self._code.setdefault(__name__, checksum_of(Path(__file__)))
        return found

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
        about = self.about(cell, editor, [c for c in callbacks if c is not editor])
        boards = folder / "tensorboard"
        keep_apart(boards, about)
        if path.exists() and same(read_about(path), about):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = self.stream(cell)
        if isinstance(editor, MEND) and not self.mend_network.exists():
            self.train_mend()
        shared = [_SharedEvidence(editor)] if isinstance(editor, cb.Codebook) else []
        timer, metrics = cb.QueryTimer(), cb.EditingMetrics()
        part = path.with_name(f".{path.name}.{os.getpid()}.rows")
        writer = _Writer(part)
        logger = TensorBoardLogger(folder / "tensorboard", name="", version=f"{cell.row}-{cell.seed}")
        if Path(logger.log_dir).exists():  # of a cell that was killed, or that is made anew
            shutil.rmtree(logger.log_dir)
        mark(Path(logger.log_dir), about)
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
        done = False
        try:
            trainer.predict(self.module, datamodule=stream, return_predictions=False)
            self._check_whole(cell, stream, writer.rows, about)
            done = True
        except SystemExit as stop:  # Lightning ends the process after Ctrl-C
            raise KeyboardInterrupt("Interrupted: the same command goes on.") from stop
        finally:
            if not done:
                part.unlink(missing_ok=True)
                logger.finalize("failed")
                shutil.rmtree(logger.log_dir, ignore_errors=True)
        assert stream.base is not None
        spared = shared[0].finder.spared if shared and shared[0].finder is not None else 0.0
        seconds = sum(editor.seconds.values()) + spared
        made = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        measured = {
            "edits": editor.edits,
            "keys": editor.keys,
            "seconds_per_edit": seconds / len(editor.seconds) if editor.seconds else None,
            "ms_per_query": timer.ms_per_query,
            "ms_per_query_unedited": stream.base.ms_per_query,
            "metrics": {g: share for g, (share, _) in metrics.results.items()},
            "versions": versions(),
            "asked": asked_in(stream.base),
            "answers": len(writer.rows),
            "made": made,
        }
        finish(part, path, {**about, **measured})
        if cell.gallery:
            write_gallery(path.with_suffix(".gallery.json"), stream, editor, writer.rows, made=made)
        logger.finalize("success")
        return True

    def _check_whole(self, cell: Cell, stream: EditStream, rows: Sequence[Any], about: Mapping[str, Any]) -> None:
        """Refuse what is no whole cell, or not one of the data that it would claim to be of.

        Raises:
            ReasonEditError: It is.
        """
        asked = sum(map(len, stream.layout()))
        if len(rows) != asked:
            raise ReasonEditError(
                f"{cell.title}, seed {cell.seed}, stopped after {len(rows)} of {asked} questions, and nothing of it is "
                "kept: run the same command again."
            )
        before, now = about["files"], DataFiles().of(list(about["files"]))
        changed = next((name for name in before if now.get(name) != before[name]), None)
        if changed is not None:
            raise ReasonEditError(
                f"'{changed}' changed while {cell.title}, seed {cell.seed}, ran on it: nothing of it is kept; run the "
                "same command again."
            )

    @property
    def mend_network(self) -> Path:
        """Where the network of MEND is kept: for this model, steps, training data, code and libraries."""
        from reasonedit.callbacks.baselines import mend_training

        cell = self._mend_cell()
        data = self.source_config(cell)
        named = self._named(data)
        made_by = {
            "model": {k: v for k, v in self.model.items() if k != "name"},
            "steps": self.mend_steps,
            "edits": TRAINING_EDITS,
            "data": data,
            "files": self._files.of([options for _, options in named]),
            "code": code_of([mend_training, MEND, type(self.module.vlm), *(k for k, _ in named)], self._code),
            "libraries": versions_of(LIBRARIES),
        }
        told = json.dumps(made_by, sort_keys=True, default=str)
        return cache_folder() / "mend" / f"{hashlib.sha256(told.encode()).hexdigest()}.safetensors"

    @staticmethod
    def _mend_cell() -> Cell:
        return Cell("mend", "MEND", TRAINING_SEED, lambda _lab: [])

    def train_mend(self) -> None:
        """Train the network of MEND, on a seed of the source that no experiment uses."""
        from reasonedit.callbacks.baselines.mend_training import train

        vlm = self.module.vlm
        stream = self.stream(self._mend_cell())
        stream.source.edits = TRAINING_EDITS
        _log.warning("MEND's network is trained, once: %d steps, some minutes.", self.mend_steps)
        mend = MEND.untrained(vlm)
        for _ in train(mend, stream.source, steps=self.mend_steps):
            pass
        assert mend.network is not None
        path = self.mend_network
        part = path.with_name(f".{path.name}.{os.getpid()}")
        mend.network.save(part, vlm.fingerprint)  # half a network is none: it comes to its place when it is whole
        part.replace(path)


TRAINING_SEED, TRAINING_EDITS = 1000, 300
"""What MEND is trained on: a seed that is far from those of development and reporting."""


def _flat(about: Mapping[str, Any]) -> dict[str, Any]:
    """What TensorBoard's table of hyperparameters can hold of a cell."""
    flat = {"editor": about["title"], "seed": about["seed"], "x": about["x"] if about["x"] is not None else ""}
    source = about["data"]["init_args"]["source"]
    flat["edits"] = source["init_args"].get("edits", "")
    return {**flat, "model": about["model"]["name"]}
