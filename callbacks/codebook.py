"""Writes edits into the codebook at the end of a batch."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L

from reasonedit.calibration import Calibration
from reasonedit.codebook import Draft, EditMemory, Store, check_place
from reasonedit.codebook.draft_messages import pack_drafts, unpack_drafts
from reasonedit.codebook.hub import fetch_from_hub, push_to_hub
from reasonedit.design import Design
from reasonedit.embedding import Statistics
from reasonedit.errors import ConflictError, InputError, MismatchError, ReasonEditError
from reasonedit.evidence import Evidence, EvidenceConfig, EvidenceFinder
from reasonedit.pipeline import EditingPipeline
from reasonedit.ranks import exchange
from reasonedit.safe_text import to_safe_text
from reasonedit.types import Edit
from reasonedit.vlm import VLM

from .editor import Editor
from .held_pipeline import HeldPipeline
from .pool_calibration import PoolCalibration
from .writing_run import WritingRun

_log = logging.getLogger(__name__)


class Codebook(Editor):
    """Writes the edits of a stream into a codebook.

    If a sample carries an edit and its answer is wrong, the edit is written, as it would be in deployment. With a
    folder every edit is on the disk before the run goes on: however the run ends, none is lost.

    On several devices each rank finds the evidence for its share of a batch's edits. Then the ranks exchange what they
    found, so that all have the same codebook; rank 0 keeps it on the disk.

    Args:
        path: The codebook's folder; without one it is in memory only.
        design: How edits are embedded, grounded, written and retrieved, or a JSON file of it such as ``reasonedit
            select`` writes. When not given, the default of the VLM: :meth:`~reasonedit.Design.default`.
        model: The VLM that embeds, if the LightningModule has none of its own (``pl_module.vlm``).
        finder: Makes the evidence finder, such as one with a cache.
        calibration: The calibration of a new codebook, or its folder, as ``reasonedit calibrate`` writes. When not
            given and the design's reference is ``"own"``, the pool of the stream calibrates it.

    Attributes:
        evidence: The evidence of each sentence of an edit, by the edit's id.
        quiet: Whether somebody else says where a run has stopped.

    Example:
        >>> trainer = L.Trainer(callbacks=[Codebook("codebook"), Retriever()])  # doctest: +SKIP
        >>> trainer.predict(VLMModule("llava-hf/llava-1.5-7b-hf"), datamodule=stream)  # doctest: +SKIP
    """

    title = "ReasonEdit"
    distributed = True

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        design: Design | str | None = None,
        model: str | None = None,
        finder: Callable[[VLM, EvidenceConfig], EvidenceFinder] = EvidenceFinder,
        calibration: Calibration | str | None = None,
    ) -> None:
        super().__init__()
        self.path = Path(path).absolute() if path is not None else None
        # Design and calibration may be any path. The signature says str: else a config's mapping is read as a path.
        self.held = HeldPipeline(design, model, finder, calibration)
        self.evidence: dict[str, list[Evidence]] = {}
        self.quiet = False
        self._edits_before = 0
        self._run = WritingRun()
        self._pool = PoolCalibration()

    @property
    def design(self) -> Design | str | None:
        """The design, as far as it was given or read from the folder."""
        return self.held.design

    @property
    def memory(self) -> EditMemory:
        """The codebook itself."""
        return self.held.memory

    @property
    def pipeline(self) -> EditingPipeline | None:
        """The pipeline, from the set-up of the first run on."""
        return self.held.pipeline

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Codebook:
        """Go on with a codebook in a folder, by its own design.

        Raises:
            ReasonEditError: There is none, or it is damaged.
        """
        callback = cls(path)
        callback.go_on(Store.open(path))
        return callback

    @classmethod
    def from_pretrained(cls, repo_id: str, revision: str | None = None) -> Codebook:
        """Open a codebook from the Hugging Face Hub for reading; :meth:`save` it into a folder to write into it.

        Raises:
            ReasonEditError: It cannot be fetched, is no codebook, or is damaged.
        """
        path = fetch_from_hub(repo_id, revision)
        callback = cls(path)
        callback.go_on(Store.open(path, read_only=True))
        return callback

    def push_to_hub(self, repo_id: str, *, private: bool = True, message: str = "Codebook", licence: str = "") -> str:
        """Upload the codebook's folder; see :func:`reasonedit.codebook.hub.push_to_hub`."""
        return push_to_hub(self.memory, repo_id, private=private, message=message, licence=licence)

    def go_on(self, store: Store) -> None:
        """Go on with the codebook of a folder.

        Raises:
            ReasonEditError: It is damaged.
        """
        self.held.read(store)
        self.path = store.folder
        self._edits_before = len(self.memory.edits)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the VLM, and lock the folder.

        Raises:
            MismatchError: The keys were made with another model.
            ConflictError: The folder holds another codebook.
            LockedError: Somebody else is writing.
            InputError: The codebook cannot be in a folder of this name.
            UnavailableError: Nothing may be written there.
            ReasonEditError: As for :meth:`Editor.setup`.
        """
        super().setup(trainer, pl_module, stage)
        writes = stage in self.works_in
        self._run.begin(trainer, writes=writes)
        if self.memory.store is None and self.path is not None and Store.exists(self.path) and trainer.is_global_zero:
            raise ConflictError(
                f"There is a codebook in '{self.path}' already: go on with it by Codebook.load('{self.path}'), "
                "or name another folder."
            )
        if trainer.is_global_zero and writes:
            if self.memory.store is None and self.path is not None:
                check_place(self.path)
            self._run.lock(self.memory)
        if trainer.world_size > 1:
            self._agree(trainer)
        pipeline = self.held.attach(trainer, pl_module, partial(self.say_once, trainer))
        self._pool.begin(trainer, pipeline)

    def _agree(self, trainer: L.Trainer) -> None:
        """Give every rank the codebook of rank 0, which has locked it."""
        store = self.memory.store
        state = ["" if store is None else store.manifest.id, len(self.memory.events)]
        name, events = json.loads(exchange(trainer, json.dumps(state).encode())[0])
        if not trainer.is_global_zero:
            if name and self.path is not None and Store.exists(self.path):
                self.go_on(Store.open(self.path))
            self.memory.store = None  # rank 0 alone keeps it on the disk
        agrees = len(self.memory.events) == events
        if not all(message == b"1" for message in exchange(trainer, b"1" if agrees else b"0")):
            raise MismatchError(
                f"The ranks do not have the same codebook: '{self.path}' must be a folder that all of them see."
            )

    @property
    def edits(self) -> int:
        """Number of edits in the codebook, including those of earlier runs."""
        return len(self.memory.edits)

    @property
    def keys(self) -> int:
        """Number of keys."""
        return len(self.memory)

    @property
    def state(self) -> tuple[str, int, int]:
        """The codebook's name (empty if it is in no folder), how often it was rewritten, and its number of events."""
        store = self.memory.store
        name, generation = ("", 0) if store is None else (store.manifest.id, store.manifest.generation)
        return name, generation, len(self.memory.events)

    def has(self, edit_id: str) -> bool:
        """Whether the codebook has an edit, even one that is undone."""
        return edit_id in self.memory.edits or edit_id in self.memory.undone

    def is_in(self, folder: Path) -> bool:
        """Whether the codebook is kept in a folder."""
        own = self.memory.store.folder if self.memory.store is not None else self.path
        return own is not None and own.resolve() == folder.resolve()

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Write one edit into the codebook; see :meth:`Editor.write`."""
        draft = self._draft(edit, row, batch)
        self._add([draft], self._statistics)

    def write_block(
        self, wrong: list[tuple[int, Edit]], batch: dict[str, Any], trainer: L.Trainer, pl_module: L.LightningModule
    ) -> None:
        """Write the edits of a batch. On several devices each rank writes those of all, in the order of the stream."""
        drafts, notes = [], []
        for row, edit in wrong:
            start = time.perf_counter()
            drafts.append(self._draft(edit, row, batch))
            place = batch["positions"][row] if "positions" in batch else row
            notes.append({"place": place, "seconds": time.perf_counter() - start})
        block = list(zip(drafts, notes, strict=True))
        if trainer.world_size > 1:
            messages = exchange(trainer, pack_drafts(drafts, notes))
            block = [part for data in messages for part in unpack_drafts(data, pictures=trainer.is_global_zero)]
            block.sort(key=lambda part: part[1]["place"])
        start = time.perf_counter()
        if block:
            made_by = self._statistics
            if trainer.is_global_zero:
                self._begin_folder()
            self._add([draft for draft, _ in block], made_by, warn=trainer.is_global_zero)
        share = (time.perf_counter() - start) / max(1, len(block))
        for draft, note in block:
            self.seconds[draft.edit.id] = note["seconds"] + share

    def _draft(self, edit: Edit, row: int, batch: dict[str, Any]) -> Draft:
        assert self.pipeline is not None  # set-up ran
        vision: Any = batch.get("vision")
        image = vision.select([row]) if self.pipeline.embedder.has(vision) else None
        draft, self.evidence[edit.id] = self.pipeline.draft(edit, image)
        return draft

    @property
    def _statistics(self) -> Statistics | None:
        assert self.pipeline is not None  # set-up ran
        return self.pipeline.statistics.value

    def _add(self, drafts: list[Draft], made_by: Statistics | None, *, warn: bool = True) -> None:
        assert self.pipeline is not None  # set-up ran
        with self.memory.changing():
            edits = self.memory.add(self.pipeline.renewed(drafts, made_by))
        for edit in edits:
            if edit.contradicts and warn:
                others = ", ".join(f"'{other}' ({self.memory.find(other).answer})" for other in edit.contradicts)
                _log.warning(
                    "The edit '%s' (%s) contradicts %s: the same question about the same picture, another answer.",
                    *map(to_safe_text, (edit.id, edit.answer, others)),
                )

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Calibrate by the pictures of the stream's base pass, where the design says so.

        Raises:
            MismatchError: A checkpoint was loaded meanwhile, and the keys were not made with its weights.
        """
        super().on_predict_start(trainer, pl_module)
        self.held.check_restored(trainer)
        assert self.pipeline is not None  # set-up ran
        self._pool.finish(trainer, self.pipeline)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the folder if nothing was written, and put it in order."""
        if trainer.is_global_zero:
            self._begin_folder()
            if self.memory.store is not None and not self.memory.store.read_only:
                self.memory.settle()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Say how many edits are saved, and where; raises as :meth:`RunCallback.on_exception` does."""
        super().on_exception(trainer, pl_module, exception)
        with suppress(ReasonEditError):
            self.memory.refresh()  # the disk counts: memory may have been interrupted before it
        new = len(self.memory.edits) - self._edits_before
        if self.memory.store is not None and new > 0 and not self.quiet:
            _log.warning("The run stopped early. %d edits are saved in '%s'.", len(self.memory.edits), self.path)
        self._run.end(trainer, failed=True)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let others write."""
        self._run.end(trainer)

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Keep the codebook in a folder from now on.

        Args:
            path: The folder; :attr:`path` when not given.

        Raises:
            ConflictError: There is another codebook.
            UnavailableError: The folder cannot be written, or no run has set up a VLM yet.
            InputError: No folder is named.
        """
        target = Path(path).absolute() if path is not None else self.path
        if self.memory.store is not None and (path is None or self.memory.store.lies_in(path)):
            self.memory.settle()
            return
        if target is None:
            raise InputError("The codebook has no folder: name one.")
        self.held.save(target)
        self.path = target

    def _begin_folder(self) -> None:
        """Begin the folder, if one is named and there is none yet."""
        if self.path is not None and self.memory.store is None:
            self.save()
            self._run.lock(self.memory)
