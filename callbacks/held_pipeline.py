"""The pipeline that a callback holds: opened once a run says which VLM there is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

from reasonedit.calibration import Calibration
from reasonedit.codebook import EditMemory, Store, check_fingerprint
from reasonedit.design import Design
from reasonedit.errors import UnavailableError
from reasonedit.evidence import EvidenceConfig, EvidenceFinder
from reasonedit.pipeline import EditingPipeline
from reasonedit.ranks import refuse_parts
from reasonedit.vlm import VLM

from .model import own_vlm, second_model_note, vlm_for


class HeldPipeline:
    """A codebook that waits for its VLM, and the pipeline that works on it from then on.

    Args:
        design: How a new codebook is embedded, written and fetched from; or a JSON file of it. When not given, what its
            VLM gets by default.
        model: The VLM to load where the LightningModule has none of its own.
        finder: What makes the evidence finder.
        calibration: The calibration of a new codebook, or its folder.

    Attributes:
        memory: The codebook.
        pipeline: What writes and fetches; ``None`` until a run has said which VLM there is.
    """

    def __init__(
        self,
        design: Design | str | os.PathLike[str] | None = None,
        model: str | None = None,
        finder: Callable[[VLM, EvidenceConfig], EvidenceFinder] = EvidenceFinder,
        calibration: Calibration | str | os.PathLike[str] | None = None,
    ) -> None:
        if isinstance(calibration, (str, os.PathLike)):
            calibration = Calibration.load(calibration)
        self.calibration = calibration
        self.design = os.path.abspath(design) if isinstance(design, (str, os.PathLike)) else design
        self.model = model
        self.finder = finder
        self.memory = EditMemory()
        self.pipeline: EditingPipeline | None = None
        self._store: Store | None = None
        self._fingerprint: dict[str, Any] | None = None
        self._loaded: VLM | None = None  # beside a module that has none

    @classmethod
    def of_folder(cls, store: Store) -> HeldPipeline:
        """That of a codebook in a folder.

        Raises:
            ReasonEditError: It is damaged.
        """
        held = cls()
        held.read(store)
        return held

    def read(self, store: Store) -> None:
        """Take over what a folder holds, its design and the name of its VLM included.

        Raises:
            ReasonEditError: It is damaged.
        """
        self.memory = EditMemory.open(store)
        self.design, self.model = Design.from_dict(store.manifest.design), store.manifest.model
        self._store, self._fingerprint = store, store.manifest.fingerprint
        self.pipeline = None

    def __deepcopy__(self, memo: dict[int, Any]) -> HeldPipeline:
        """The same codebook for another callback, read from its folder again; VLM and calibration are shared.

        Raises:
            UnavailableError: It has edits, and no folder.
        """
        if self._store is None and self.memory.events:
            raise UnavailableError(
                "A codebook whose edits are in memory alone cannot be copied with its callback: save it "
                "(Codebook.save), and load it from its folder where the copy is needed."
            )
        held = HeldPipeline(self.design, self.model, self.finder, self.calibration)
        if self._store is not None:
            held.read(Store.open(self._store.folder, read_only=self._store.read_only))
        held._loaded = self._loaded
        return held

    def attach(self, trainer: L.Trainer, pl_module: L.LightningModule, note: Callable[[str], None]) -> EditingPipeline:
        """Work with the VLM of this run.

        Args:
            trainer: The trainer.
            pl_module: The module that answers.
            note: Told what a user should know of it.

        Raises:
            ReasonEditError: There is no VLM, or the keys in the codebook were made with another one.
        """
        vlm = vlm_for(pl_module, self.model, self._loaded)
        if vlm is own_vlm(pl_module):
            refuse_parts(trainer, vlm.name)
        else:
            self._loaded = vlm
            if vlm.movable:
                vlm.model.to(trainer.strategy.root_device)  # where the module itself comes only after the set-up
            sentence = second_model_note(pl_module, vlm)
            if sentence is not None:
                note(sentence)
        self.memory.refresh()  # others may have calibrated it since it was read
        pipeline = self.pipeline
        if pipeline is None or pipeline.vlm is not vlm:
            pipeline = self._open(vlm)
        with self.memory.guard:
            pipeline.statistics.take_in(self.memory)
        self._check(pipeline)
        self.pipeline = pipeline
        return pipeline

    def check_restored(self, trainer: L.Trainer) -> None:
        """Look at the VLM again where Lightning has loaded a checkpoint into it since the run was set up.

        Raises:
            MismatchError: The keys were not made with these weights.
        """
        if trainer.ckpt_path is not None and self.pipeline is not None:
            self._check(self.pipeline)

    def _check(self, pipeline: EditingPipeline) -> None:
        fingerprint = pipeline.embedder.fingerprint
        if self._fingerprint is not None and (self._store is not None or self.memory.events):
            folder = self._store.folder if self._store is not None else "memory"
            check_fingerprint(self._fingerprint, fingerprint, folder)
        self._fingerprint = fingerprint

    def _open(self, vlm: VLM) -> EditingPipeline:
        if self._store is not None:
            return EditingPipeline.open(self._store, vlm, self.memory, finder=self.finder)
        design = self.design
        if isinstance(design, str):
            design = Design.load(design, Design.default(vlm.name))
        pipeline = EditingPipeline(vlm, design, self.memory, finder=self.finder, calibration=self.calibration)
        if self.pipeline is not None and self.memory.events:  # its keys may be of a calibration that a run made
            pipeline.statistics.go_on_with(self.pipeline.statistics)
        return pipeline

    def save(self, folder: Path) -> None:
        """Keep the codebook in a folder from now on.

        Raises:
            ReasonEditError: There is another codebook, the folder cannot be written, or no run has said yet which VLM
                there is.
        """
        if self.pipeline is None:
            raise UnavailableError("The codebook cannot be saved before it met its VLM: run it in a trainer first.")
        self.pipeline.save(folder)
        self._store = self.memory.store
