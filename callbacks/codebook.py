"""Writes edits into the codebook at the end of a batch."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L

from reasonedit.codebook import Draft, EditMemory, Store
from reasonedit.codebook.draft_messages import pack_drafts, unpack_drafts
from reasonedit.codebook.hub import fetch_from_hub, push_to_hub
from reasonedit.design import Design
from reasonedit.errors import ConflictError, InputError, MismatchError, ReasonEditError
from reasonedit.evidence import Evidence, EvidenceConfig, EvidenceFinder
from reasonedit.pipeline import EditingPipeline
from reasonedit.ranks import Pulse, end_together, exchange, let_go, requeued
from reasonedit.shown import plain
from reasonedit.signals import Watch, heeded
from reasonedit.types import Edit
from reasonedit.vlm import VLM

from .editor import Editor
from .held_pipeline import HeldPipeline

_log = logging.getLogger(__name__)


class Codebook(Editor):
    """Keeps the edits of a stream.

    Where a sample of the batch carries an edit and the answer given is wrong, the edit is written, as it would be in
    deployment. With a folder every edit is on the disk before the run goes on: however the run ends, none is lost.

    On several devices each rank finds the evidence for its own share of a batch's edits; then all tell each other what
    they found, so that every rank has the same codebook, and that of rank 0 is the one on the disk.

    Args:
        path: Folder in which the codebook is kept; only in memory when not given.
        design: How edits are embedded, grounded, written and fetched; when not given, for the embedded VLM what won on
            it, for any other the paper's. Or a JSON file of it, such as ``reasonedit select`` writes.
        model: The VLM that embeds, where the LightningModule has none of its own (``pl_module.vlm``).
        finder: What makes the evidence finder, such as one that keeps what it found.

    Attributes:
        evidence: What was found for each sentence of an edit, by its id.
        quiet: Whether whoever started the run says where it stopped.
    """

    title = "ReasonEdit"
    distributed = True

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        design: Design | str | None = None,
        model: str | None = None,
        finder: Callable[[VLM, EvidenceConfig], EvidenceFinder] = EvidenceFinder,
    ) -> None:
        super().__init__()
        self.path = Path(path).absolute() if path is not None else None
        self.held = HeldPipeline(design, model, finder)
        self.evidence: dict[str, list[Evidence]] = {}
        self.quiet = False
        self._edits_before = 0
        self._writing = ExitStack()
        self._heeding_signals = ExitStack()
        self._pulse = Pulse()

    @property
    def design(self) -> Design | str | None:
        """How edits are embedded, grounded, written and fetched, as far as it was said."""
        return self.held.design

    @property
    def memory(self) -> EditMemory:
        """The codebook itself."""
        return self.held.memory

    @property
    def pipeline(self) -> EditingPipeline | None:
        """What writes and fetches; there once the run is set up."""
        return self.held.pipeline

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Codebook:
        """Go on with a codebook; its own design is used.

        Raises:
            ReasonEditError: There is none, or it is damaged.
        """
        callback = cls(path)
        callback.go_on(Store.open(path))
        return callback

    @classmethod
    def from_pretrained(cls, repo_id: str, revision: str | None = None) -> Codebook:
        """A codebook from the Hugging Face Hub, to be asked; :meth:`save` it into a folder to write on.

        Raises:
            ReasonEditError: It cannot be fetched, is no codebook, or is damaged.
        """
        path = fetch_from_hub(repo_id, revision)
        callback = cls(path)
        callback.go_on(Store.open(path, read_only=True))
        return callback

    def push_to_hub(self, repo_id: str, *, private: bool = True, message: str = "Codebook") -> str:
        """Upload the codebook's folder; see :func:`reasonedit.codebook.hub.push_to_hub`."""
        return push_to_hub(self.memory.store, repo_id, private=private, message=message)

    def go_on(self, store: Store) -> None:
        """Take over what a folder holds.

        Raises:
            ReasonEditError: It is damaged.
        """
        self.held.read(store)
        self.path = store.folder
        self._edits_before = len(self.memory.edits)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the VLM and make ready to write.

        Raises:
            ReasonEditError: The keys were made by another model, the folder holds another codebook, or somebody else
                writes it.
        """
        super().setup(trainer, pl_module, stage)
        self._listen(trainer, stage)
        if self.memory.store is None and self.path is not None and Store.exists(self.path) and trainer.is_global_zero:
            raise ConflictError(
                f"There is a codebook in '{self.path}' already: go on with it by Codebook.load('{self.path}'), "
                "or name another folder."
            )
        if trainer.is_global_zero and self.memory.store is not None and stage in self.works_in:
            self._hold()
        if trainer.world_size > 1:
            self._agree(trainer)
        self.held.attach(trainer, pl_module, partial(self.say_once, trainer))

    def _listen(self, trainer: L.Trainer, stage: str) -> None:
        """Have the run end in good order, and on all ranks, where a signal ends one of them."""
        self._heeding_signals.close()
        watch = None
        if stage in self.works_in:
            if Watch.active is not None or not requeued(trainer):
                watch = self._heeding_signals.enter_context(heeded())
            end_together(trainer, watch)
        self._pulse.start(trainer, watch)

    def _agree(self, trainer: L.Trainer) -> None:
        """Have on every rank what rank 0 has, which nobody else can change any more."""
        store = self.memory.store
        state = ["" if store is None else store.manifest.id, len(self.memory.events)]
        name, events = json.loads(exchange(trainer, json.dumps(state).encode())[0])
        if not trainer.is_global_zero:
            if name and self.path is not None and Store.exists(self.path):
                self.go_on(Store.open(self.path))
            self.memory.store = None  # what rank 0 keeps on the disk is the same
        agrees = len(self.memory.events) == events
        if not all(message == b"1" for message in exchange(trainer, b"1" if agrees else b"0")):
            raise MismatchError(
                f"The ranks do not have the same codebook: '{self.path}' must be a folder that all of them see."
            )

    @property
    def edits(self) -> int:
        """Number of edits in the codebook, those of earlier runs included."""
        return len(self.memory.edits)

    @property
    def keys(self) -> int:
        """Number of keys."""
        return len(self.memory)

    @property
    def state(self) -> tuple[str, int, int]:
        """The codebook's name (empty where it is in no folder), how often it was rewritten, how much happened to it."""
        store = self.memory.store
        name, generation = ("", 0) if store is None else (store.manifest.id, store.manifest.generation)
        return name, generation, len(self.memory.events)

    def has(self, edit_id: str) -> bool:
        """Whether the codebook has an edit, or had it until it was undone."""
        return edit_id in self.memory.edits or edit_id in self.memory.undone

    def is_in(self, folder: Path) -> bool:
        """Whether the codebook is kept in a folder."""
        own = self.memory.store.folder if self.memory.store is not None else self.path
        return own is not None and own.resolve() == folder.resolve()

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Write one edit into the codebook; see :meth:`Editor.write`."""
        self._add([self._draft(edit, row, batch)])

    def write_block(
        self, wrong: list[tuple[int, Edit]], batch: dict[str, Any], trainer: L.Trainer, pl_module: L.LightningModule
    ) -> None:
        """Write the edits of a batch; on several devices those of all ranks, in the order of the stream."""
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
        if block and trainer.is_global_zero:
            self._begin_folder()
        self._add([draft for draft, _ in block], warn=trainer.is_global_zero)
        share = (time.perf_counter() - start) / max(1, len(block))
        for draft, note in block:
            self.seconds[draft.edit.id] = note["seconds"] + share

    def _draft(self, edit: Edit, row: int, batch: dict[str, Any]) -> Draft:
        assert self.pipeline is not None  # set-up ran
        vision: Any = batch.get("vision")
        image = vision.select([row]) if self.pipeline.embedder.has(vision) else None
        draft, self.evidence[edit.id] = self.pipeline.draft(edit, image)
        return draft

    def _add(self, drafts: list[Draft], *, warn: bool = True) -> None:
        for edit in self.memory.add(drafts) if drafts else ():
            if edit.contradicts and warn:
                others = ", ".join(f"'{other}' ({self.memory.find(other).answer})" for other in edit.contradicts)
                _log.warning(
                    "The edit '%s' (%s) contradicts %s: the same question about the same picture, another answer.",
                    *map(plain, (edit.id, edit.answer, others)),
                )

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the folder in order."""
        if trainer.is_global_zero:
            self._begin_folder()
            if self.memory.store is not None and not self.memory.store.read_only:
                self.memory.settle()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Say what was edited so far, and where it is; errors as for :meth:`RunCallback.on_exception`."""
        super().on_exception(trainer, pl_module, exception)
        with suppress(ReasonEditError):
            self.memory.refresh()  # what is on the disk counts, and the memory may have been cut short behind it
        new = len(self.memory.edits) - self._edits_before
        if self.memory.store is not None and new > 0 and not self.quiet:
            _log.warning("The run stopped early. %d edits are saved in '%s'.", len(self.memory.edits), self.path)
        self._writing.close()
        self._pulse.stop(failed=True)
        let_go(trainer)
        self._heeding_signals.close()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let others write."""
        self._writing.close()
        self._pulse.stop()
        let_go(trainer)
        self._heeding_signals.close()

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Keep the codebook in a folder from now on: another one, or that of :attr:`path`, where it is kept already.

        Raises:
            ReasonEditError: There is another codebook, the folder cannot be written, or no VLM was set up yet.
        """
        target, store = Path(path).absolute() if path is not None else self.path, self.memory.store
        if store is not None and (path is None or target == store.folder):
            self.memory.settle()
            return
        if target is None:
            raise InputError("The codebook is to be in no folder: name one.")
        self.held.save(target)
        self.path = target

    def _begin_folder(self) -> None:
        """Begin the folder, if there is to be one and it is not there yet."""
        if self.path is not None and self.memory.store is None:
            self.save()
            self._hold()

    def _hold(self) -> None:
        """Keep others from writing until the run is over."""
        self._writing.close()
        if self.memory.store is not None and not self.memory.store.read_only:
            self._writing.enter_context(self.memory.store.writing())
            self.memory.refresh()
