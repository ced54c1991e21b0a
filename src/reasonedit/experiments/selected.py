"""What ``reasonedit select`` picks for the model and the data of a lab; sought once, and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import islice
from typing import TYPE_CHECKING

import lightning as L

from reasonedit.design import Design
from reasonedit.embedding import EmbeddingConfig, select
from reasonedit.embedding.selection import SelectionConfig
from reasonedit.util.cache import cache_folder
from reasonedit.util.dependencies import versions_of

from .cells import LIBRARIES, Cell, MakeCallbacks
from .making import editing

if TYPE_CHECKING:
    from .lab import Lab

SELECTION_SEED = 100
"""Of the samples by which layer and w are chosen: a seed of development."""
_PAIRS = 40
_CELL = Cell("select", "select", SELECTION_SEED, lambda _lab: [])


def as_selected(base: Callable[[Design], Design], *, criterion: str, layer: bool, weight: bool) -> MakeCallbacks:
    """Codebook and retriever with the layer, the w, or both, that are picked for the model and its data.

    Args:
        base: Makes the design of the model's own; what is not picked is as in there.
        criterion: By which the layer is picked, see :class:`~reasonedit.embedding.selection.SelectionConfig`.
        layer: Whether the layer is the picked one.
        weight: Whether w is; it is that for the picked layer.
    """

    def make(lab: Lab) -> list[L.Callback]:
        design = base(lab.design)
        picked = selected_embedding(lab, design.embedding, criterion)
        changes = {name: getattr(picked, name) for name, use in (("layer", layer), ("text_weight", weight)) if use}
        return editing(replace(design, embedding=replace(design.embedding, **changes)))(lab)

    return make


def selected_embedding(lab: Lab, embedding: EmbeddingConfig, criterion: str) -> EmbeddingConfig:
    """What is picked: layer and w; the transform is that of the embedding.

    Args:
        lab: Where the model and its data are.
        embedding: What is not picked. Discriminants need things with names, which the pairs do not have: they are
            looked at as whitened features.
        criterion: By which the layer is picked.
    """
    transform = "whitened" if embedding.transform == "discriminant" else embedding.transform
    asked = SelectionConfig(replace(embedding, transform=transform), (transform,), criterion=criterion)
    data = lab.data_config(_CELL)
    classes, _ = lab.parts_of(data)
    made_by = {
        "model": {name: value for name, value in lab.model_record.items() if name != "name"},
        "config": asdict(asked),
        "encoder": lab.encoder(embedding.encoder),
        "data": data,
        "files": lab.checksums(data, embedding.reference),
        "code": lab.code([select, type(lab.module.vlm), *classes]),
        "libraries": versions_of(LIBRARIES),
    }
    name = hashlib.sha256(json.dumps(made_by, sort_keys=True, default=str).encode()).hexdigest()
    path = cache_folder() / "selections" / f"{name}.json"
    if path.exists():
        return EmbeddingConfig(**json.loads(path.read_text(encoding="utf-8")))
    pairs = [(edit.image, edit.question) for edit in islice(lab.stream(_CELL).source.candidates(), _PAIRS)]
    picked = select.select(lab.module.vlm, pairs, asked).embedding
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(asdict(picked), indent=2), encoding="utf-8")
    part.replace(path)
    return picked
