"""Where cells are run: the VLM with its data, and what the figures of a cell depend on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning as L
import torch

import reasonedit.callbacks as cb
from reasonedit.data.source import ReadsFiles
from reasonedit.data.stream import EditStream
from reasonedit.design import Design
from reasonedit.embedding import SentenceEncoder
from reasonedit.errors import InputError
from reasonedit.module import VLMModule
from reasonedit.registry import lookup
from reasonedit.runs.data_files import DataFiles
from reasonedit.runs.provenance import classes_in, describe_callback, encoders_in, to_plain
from reasonedit.util.dependencies import checksum_of, code_of, versions_of

from .cells import LIBRARIES, Cell
from .evidence_cache import CachedEvidenceFinder
from .noise import NoisyReasoning
from .own_chains import OwnChains

_PACKAGE = Path(__file__).parents[1]
_RUNS_CELLS = ("experiments/lab.py", "experiments/running.py", "experiments/known_answers.py")
"""Of these files of the package each counts by itself, not with all that it imports."""
_MEASURE_CHECKS = ("experiments/checks.py", "rounds.py")
"""The same of cells whose edits are checked."""
_CONTRARY = {"alone": "interleave", "interleave": "alone"}
"""Arguments of a stream that do not go together: one of a cell puts the other, of the config, aside."""


class Lab:
    """Where cells are run: the VLM is loaded once, and each file, encoder and module is looked at once.

    Args:
        config: Content of a config file with ``model`` and ``data``, as for ``reasonedit run``.
        edits: Number of edits in place of the config's.
        mend_steps: Steps in which MEND's network is trained, where no trained one is there.
        token_accuracy: Whether the share of tokens under teacher forcing is asked for beside each answer.
        at_once: How many cells run at once on this machine, this lab's own included; times are taken among them.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        edits: int | None = None,
        mend_steps: int = 600,
        at_once: int = 1,
        token_accuracy: bool = False,
    ) -> None:
        self.config = config
        self.edits = edits
        self.mend_steps = mend_steps
        self.at_once = at_once
        self.token_accuracy = token_accuracy
        self._code: dict[str, str] = {}  # as it was when this process loaded it, or soon after
        self._encoders: dict[str, str] = {}
        self._files = DataFiles()
        self._read: dict[str, Sequence[Path]] = {}

    # ---- the model and its data

    @cached_property
    def module(self) -> VLMModule:
        """The module with the VLM, on the GPU where there is one."""
        from reasonedit.config.merging import instantiate_parts

        module = instantiate_parts(self.config, "model")["model"]
        if not isinstance(module, VLMModule):
            raise InputError(f"The config's model must be a VLMModule, not {type(module).__name__}.")
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
            InputError: The source takes no seed, or the config cannot be used.
        """
        stream = self.open_stream(self.data_config(cell))
        if cell.noise is not None:
            stream.source = NoisyReasoning(stream.source, *cell.noise, cell.seed)
        if cell.chain:
            stream.source = OwnChains(stream.source, self.module.vlm, cell.chain)
        return stream

    def data_config(self, cell: Cell) -> dict[str, Any]:
        """The config of a cell's stream.

        Raises:
            InputError: The config does not name its source by class path.
        """
        data = self.config_with({cell.varies: cell.seed, **({} if self.edits is None else {"edits": self.edits})})
        options = data["init_args"]
        for name in cell.stream.keys() & _CONTRARY:
            options.pop(_CONTRARY[name], None)
        options.update({"check": True, **cell.stream})
        return data

    def config_with(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a stream, with some arguments of its source in place of the config's.

        Raises:
            InputError: The config does not name its source by class path.
        """
        data: dict[str, Any] = json.loads(json.dumps(self.config.get("data") or {}))
        options = data.setdefault("init_args", {})
        source = options.get("source")
        if not isinstance(source, dict) or "class_path" not in source:
            raise InputError("An experiment's config must name its source by class_path, so that it can be seeded.")
        source.setdefault("init_args", {}).update(arguments)
        return data

    def open_stream(self, data: Mapping[str, Any]) -> EditStream:
        """The stream of a config, as :meth:`config_with` gives it.

        Raises:
            ReasonEditError: The config cannot be used.
        """
        from reasonedit.config.merging import instantiate_parts

        stream = instantiate_parts({"data": data}, "data")["data"]
        if not isinstance(stream, EditStream):
            raise InputError(f"The config's data must be an EditStream, not {type(stream).__name__}.")
        return stream

    def parts_of(self, data: Mapping[str, Any]) -> tuple[list[type], list[dict[str, Any]]]:
        """The classes that the config of a stream names, that of the source second, and the arguments of each."""
        from reasonedit.config.merging import resolve_parts

        named = list(classes_in(resolve_parts({"data": data}, "data")))
        return [kind for kind, _ in named], [arguments for _, arguments in named]

    # ---- what figures depend on

    @cached_property
    def model_record(self) -> dict[str, Any]:
        """What the answers of the model depend on, beside the code."""
        module, vlm = self.module, self.module.vlm
        device = str(vlm.device.type)
        if vlm.device.type == "cuda":
            device = torch.cuda.get_device_name(vlm.device)
        names = vars(module).keys() - vars(L.LightningModule()).keys() - {"vlm", "model"}
        options = {name: to_plain(vars(module)[name]) for name in sorted(names) if name[0] != "_"}
        return {"name": vlm.name, "identity": vlm.identity, "device": device, **options}

    def checksums(self, data: Mapping[str, Any], *others: Any) -> dict[str, str]:
        """Checksums of the files that the stream of a config reads, and of those that others name; each is read once.

        Raises:
            ReasonEditError: The config cannot be used.
        """
        _, arguments = self.parts_of(data)
        return self._files.of(*arguments, *others, files=self.files_of(data))

    def files_of(self, data: Mapping[str, Any]) -> Sequence[Path]:
        """The files that the source of a config says it reads.

        Raises:
            ReasonEditError: The config cannot be used.
        """
        name = json.dumps(data, sort_keys=True)
        if name not in self._read:
            source = self.open_stream(data).source if isinstance(self.parts_of(data)[0][1], ReadsFiles) else None
            self._read[name] = tuple(source.files()) if isinstance(source, ReadsFiles) else ()
        return self._read[name]

    def code(self, roots: Iterable[ModuleType | type]) -> dict[str, str]:
        """Checksums of the code that classes or modules depend on, by module; each is taken once."""
        return code_of(roots, self._code)

    def encoder(self, name: str) -> str:
        """The identity of a sentence encoder."""
        if name not in self._encoders:
            encoder = SentenceEncoder.from_pretrained(name)
            self._encoders[name] = str(getattr(encoder, "identity", encoder.name))
        return self._encoders[name]

    def record(self, cell: Cell, editor: cb.Editor, beside: Sequence[L.Callback] = ()) -> dict[str, Any]:
        """What makes a cell what it is: where this has changed, the cell is run again.

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
        data = self.data_config(cell)
        classes, arguments = self.parts_of(data)
        callbacks = [describe_callback(callback, self.design) for callback in (editor, *beside)]
        design = callbacks[0].get("design", {})
        reference = design.get("embedding", {}).get("reference")
        files = [reference, design.get("evidence", {}).get("clip")]
        record = {
            "row": cell.row,
            "title": cell.title,
            "seed": cell.seed,
            "varies": cell.varies,
            "x": cell.x,
            "settings": dict(cell.settings),
            "noise": list(cell.noise) if cell.noise is not None else None,
            "chain": cell.chain,
            "editor": callbacks[0],
            "beside": callbacks[1:],
            "stream": dict(cell.stream),
            "data": data,
            "files": self.checksums(data, files),
            "model": self.model_record,
            "encoders": {name: self.encoder(name) for name in sorted(encoders_in(*callbacks, *arguments))},
            "libraries": versions_of(LIBRARIES),
            "code": self._code_of_cell(cell, [*classes, type(editor), *map(type, beside)], reference),
        }
        return dict(json.loads(json.dumps(record)))  # as it comes back from a file

    def _code_of_cell(self, cell: Cell, classes: Sequence[type], reference: str | None) -> dict[str, str]:
        """Checksums of all code that the figures of a cell depend on, by module; what only shows them does not count.

        Args:
            cell: The cell.
            classes: The classes of its data and callbacks.
            reference: The reference pictures of a codebook's design.
        """
        roots: list[ModuleType | type] = [EditStream, cb.EditingMetrics, cb.QueryTimer, cb.PredictionWriter]
        roots += [type(self.module), type(self.module.vlm), *classes]
        if any(issubclass(kind, cb.Codebook) for kind in classes):
            roots.append(CachedEvidenceFinder)
        pictures = lookup("references", reference) if reference is not None else None
        if pictures is not None:
            roots.append(pictures)
        if cell.noise is not None:
            roots.append(NoisyReasoning)
        if cell.chain:
            roots.append(OwnChains)
        checksums = self.code(roots)
        is_checked = any(issubclass(kind, cb.EditChecks) for kind in classes)
        for path in (*_RUNS_CELLS, *(_MEASURE_CHECKS if is_checked else ())):
            name = f"reasonedit.{path.removesuffix('.py').replace('/', '.')}"
            checksums[name] = self._code.setdefault(name, checksum_of(_PACKAGE / path))
        return checksums
