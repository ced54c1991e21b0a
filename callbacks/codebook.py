"""Writes edits into the codebook at the end of a batch."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import lightning as L

from reasonedit.codebook import Draft, EditMemory, Store, check_fingerprint
from reasonedit.codebook.hub import fetch_from_hub, push_to_hub
from reasonedit.codebook.draft_messages import pack_drafts, unpack_drafts
from reasonedit.design import Design
from reasonedit.embedding import Statistics, statistics_of
from reasonedit.errors import ReasonEditError
from reasonedit.evidence import Evidence
from reasonedit.pipeline import EditingPipeline
from reasonedit.ranks import Pulse, end_together, exchange, let_go, refuse_parts, requeued
from reasonedit.shown import plain
from reasonedit.signals import Watch, heeded
from reasonedit.types import Edit
from reasonedit.vlm import VLM

from .batch import column, pictures
from .editor import Editor
from .model import beside_another, own_vlm, vlm_for

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
        image_key: Key of the images in a batch.

    Attributes:
        memory: The codebook itself.
        pipeline: What writes and fetches; there once the run is set up.
        evidence: What was found for each sentence of an edit, by its id.
    """

    title = "ReasonEdit"
    distributed = True

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        design: Design | str | None = None,
        model: str | None = None,
        image_key: str = "images",
    ) -> None:
        super().__init__()
        self.path = Path(path).absolute() if path is not None else None
        self.design = os.path.abspath(design) if isinstance(design, str) else design
        self.model = model
        self.image_key = image_key
        self.memory = EditMemory()
        self.pipeline: EditingPipeline | None = None
        self.evidence: dict[str, list[Evidence]] = {}
        self._own: VLM | None = None  # where the module has none
        self._fingerprint: dict[str, Any] | None = None
        self._statistics: Statistics | None = None
        self._in_folder = False  # whether a folder was begun or read: what made its keys stays as it is
        self._loaded = 0  # edits that were in the folder already
        self.quiet = False  # whoever started the run says himself where it stopped
        self._held = ExitStack()
        self._heeded = ExitStack()
        self._pulse = Pulse()

    @classmethod
    def load(cls, path: str | os.PathLike[str], image_key: str = "images") -> Codebook:
        """Go on with a codebook; its own design is used.

        Raises:
            ReasonEditError: There is none, or it is damaged.
        """
        callback = cls(path, image_key=image_key)
        callback.go_on(Store.open(path))
        return callback

    @classmethod
    def from_pretrained(cls, repo_id: str, revision: str | None = None, image_key: str = "images") -> Codebook:
        """A codebook from the Hugging Face Hub, to be asked; :meth:`save` it into a folder to write on.

        Raises:
            ReasonEditError: It cannot be fetched, is no codebook, or is damaged.
        """
        path = fetch_from_hub(repo_id, revision)
        callback = cls(path, image_key=image_key)
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
        self.path = store.folder
        self.memory = EditMemory.open(store)
        self.design, self.model = Design.from_dict(store.manifest.design), store.manifest.model
        self._fingerprint = store.manifest.fingerprint
        self._statistics = statistics_of(store.statistics())
        self._in_folder = True
        self._loaded = len(self.memory.edits)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the VLM and make ready to write.

        Raises:
            ReasonEditError: The keys were made by another model, the folder holds another codebook, or somebody else
                writes it.
        """
        super().setup(trainer, pl_module, stage)
        mine = self in trainer.callbacks  # type: ignore[attr-defined]
        if mine:
            self._listen(trainer, stage)
        if self.memory.store is None and self.path is not None and Store.there(self.path) and trainer.is_global_zero:
            raise ReasonEditError(
                f"There is a codebook in '{self.path}' already: go on with it by Codebook.load('{self.path}'), "
                "or name another folder."
            )
        if mine:
            if trainer.is_global_zero and self.memory.store is not None and stage in self.works_in:
                self._hold()
            if trainer.world_size > 1:
                self._agree(trainer)
        self._meet(trainer, pl_module)

    def _listen(self, trainer: L.Trainer, stage: str) -> None:
        """Have the run end in good order, and on all ranks, where a signal ends one of them."""
        self._heeded.close()
        watch = None
        if stage in self.works_in:
            if Watch.active is not None or not requeued(trainer):
                watch = self._heeded.enter_context(heeded())
            end_together(trainer, watch)
        self._pulse.start(trainer, watch)

    def _meet(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Work with the VLM of this run.

        Raises:
            ReasonEditError: There is none, or what is in the codebook was made with another one.
        """
        vlm = vlm_for(pl_module, self.model, self._own)
        if vlm is own_vlm(pl_module):
            refuse_parts(trainer, vlm.name)
        else:
            self._own = vlm
            said = beside_another(pl_module, vlm)
            if said:
                self.say_once(trainer, said)
        pipeline = self.pipeline
        if pipeline is None or pipeline.vlm is not vlm:
            design = self.design
            if isinstance(design, str):
                design = Design.load(design, Design.default(vlm.name))
            pipeline = EditingPipeline(vlm, design, statistics=self._statistics)
        fingerprint = pipeline.embedder.fingerprint
        if self._fingerprint is not None and (self._in_folder or self.memory.events):
            check_fingerprint(self._fingerprint, fingerprint, self.path or "memory")
        if pipeline.memory is not self.memory:
            pipeline.memory = self.memory
            self.memory.merge = pipeline.design.writing.merge
        self.pipeline, self._fingerprint = pipeline, fingerprint

    def _agree(self, trainer: L.Trainer) -> None:
        """Have on every rank what rank 0 has, which nobody else can change any more."""
        store = self.memory.store
        mine = [store.manifest.id, len(self.memory.events)] if store is not None else ["", len(self.memory.events)]
        name, events = json.loads(exchange(trainer, json.dumps(mine).encode())[0])
        if not trainer.is_global_zero:
            if name and self.path is not None and Store.there(self.path):
                store = Store.open(self.path)
                self.go_on(store)
                mine = [store.manifest.id, len(self.memory.events)]
            self.memory.store = None  # what rank 0 keeps on the disk is the same
        if not all(said == b"1" for said in exchange(trainer, b"1" if mine[1] == events else b"0")):
            raise ReasonEditError(
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

    def same(self, other: Codebook) -> bool:
        """Whether another codebook is in the same folder."""
        folders = [c.memory.store.folder if c.memory.store is not None else c.path for c in (self, other)]
        return None not in folders and folders[0].resolve() == folders[1].resolve()  # type: ignore[union-attr]

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Write one edit into the codebook; see :meth:`Editor.write`."""
        self._add([self._draft(edit, row, batch)])

    def write_block(
        self, wrong: list[tuple[int, Edit]], batch: dict[str, Any], trainer: L.Trainer, pl_module: L.LightningModule
    ) -> None:
        """Write the edits of a batch; on several devices those of all ranks, in the order of the stream."""
        drafts, told = [], []
        for row, edit in wrong:
            start = time.perf_counter()
            drafts.append(self._draft(edit, row, batch))
            place = batch["positions"][row] if "positions" in batch else row
            told.append({"place": place, "seconds": time.perf_counter() - start})
        together = list(zip(drafts, told, strict=True))
        if trainer.world_size > 1:
            said = exchange(trainer, pack_drafts(drafts, told))
            together = [one for data in said for one in unpack_drafts(data, pictures=trainer.is_global_zero)]
            together.sort(key=lambda one: one[1]["place"])
        start = time.perf_counter()
        if together and trainer.is_global_zero:
            self._keep()
        self._add([draft for draft, _ in together], tell=trainer.is_global_zero)
        share = (time.perf_counter() - start) / max(1, len(together))
        for draft, mine in together:
            self.seconds[draft.edit.id] = mine["seconds"] + share

    def _draft(self, edit: Edit, row: int, batch: dict[str, Any]) -> Draft:
        assert self.pipeline is not None  # set-up ran
        vision: Any = batch.get("vision")
        if not self.pipeline.embedder.has(vision):
            images = pictures(batch, self.image_key, self, len(column(batch, "edits", self)), [row])
            vision, row = self.pipeline.embedder.see(images), 0
        draft, self.evidence[edit.id] = self.pipeline.draft(edit, vision.select([row]))
        return draft

    def _add(self, drafts: list[Draft], *, tell: bool = True) -> None:
        for edit in self.memory.add(drafts) if drafts else ():
            if edit.contradicts and tell:
                others = ", ".join(f"'{other}' ({self.memory.find(other).answer})" for other in edit.contradicts)
                _log.warning(
                    "The edit '%s' (%s) contradicts %s: the same question about the same picture, another answer.",
                    *map(plain, (edit.id, edit.answer, others)),
                )

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the folder in order."""
        if trainer.is_global_zero:
            self._keep()
            if self.memory.store is not None and not self.memory.store.read_only:
                self.memory.settle()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Say what was edited so far, and where it is; errors as for :meth:`RunCallback.on_exception`."""
        super().on_exception(trainer, pl_module, exception)
        with suppress(ReasonEditError):
            self.memory.refresh()  # what is on the disk counts, and the memory may have been cut short behind it
        new = len(self.memory.edits) - self._loaded
        if self.memory.store is not None and new > 0 and not self.quiet:
            _log.warning("The run stopped early. %d edits are saved in '%s'.", len(self.memory.edits), self.path)
        self._held.close()
        self._pulse.stop(failed=True)
        let_go(trainer)
        self._heeded.close()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let others write."""
        self._held.close()
        self._pulse.stop()
        let_go(trainer)
        self._heeded.close()

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Keep the codebook in a folder from now on: another one, or that of :attr:`path`, where it is kept already.

        Raises:
            ReasonEditError: There is another codebook, the folder cannot be written, or no VLM was set up yet.
        """
        target, store = Path(path).absolute() if path is not None else self.path, self.memory.store
        if store is not None and (path is None or target == store.folder):
            self.memory.settle()
            return
        if self.pipeline is None or target is None:
            raise ReasonEditError("The codebook cannot be saved before it met its VLM: run it in a trainer first.")
        self.pipeline.save(target)
        self.path, self._in_folder = target, True

    def _keep(self) -> None:
        """Begin the folder, if there is to be one and it is not there yet."""
        if self.path is not None and self.memory.store is None:
            self.save()
            self._hold()

    def _hold(self) -> None:
        """Keep others from writing until the run is over."""
        self._held.close()
        if self.memory.store is not None and not self.memory.store.read_only:
            self._held.enter_context(self.memory.store.writing())
            self.memory.refresh()
