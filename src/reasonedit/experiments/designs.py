"""Designs that experiments compare: the model's own or the paper's, with something changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning as L

from reasonedit.design import PAPER, Design
from reasonedit.errors import NotServedError

from .cells import MakeCallbacks
from .lab import Lab
from .making import editing

Change = Callable[[Design], Design]


def keep(design: Design) -> Design:
    """A design as it is."""
    return design


def change(part: str, **changes: Any) -> Change:
    """What changes one part of the model's design."""
    return lambda design: replace(design, **{part: replace(getattr(design, part), **changes)})


def change_paper(part: str, **changes: Any) -> Design:
    """The paper's design with one part changed."""
    return replace(PAPER, **{part: replace(getattr(PAPER, part), **changes)})


def without_pictures(base: Design, **changes: Any) -> Design:
    """A design whose embedding has no vision half by itself, and so neither regions nor what compares them.

    Args:
        base: The design.
        **changes: What of its embedding is changed, so that no vision half is left.
    """
    compared: dict[str, Any] = dict.fromkeys(("visual_match", "false_alarms", "visual_margin", "out_of_range"))
    retrieval = replace(base.retrieval, query_regions=False, naming=False, **compared)
    writing = replace(base.writing, keys="image" if base.writing.keys == "grounded" else base.writing.keys)
    return replace(base, embedding=replace(base.embedding, **changes), retrieval=retrieval, writing=writing)


def at_depth(base: Change, share: float) -> MakeCallbacks:
    """Codebook and retriever that read another layer of the vision part.

    Args:
        base: Makes the design of the model's own.
        share: How deep it is: 0 is the first vision-side layer, 1 the last.
    """

    def make(lab: Lab) -> list[L.Callback]:
        names, design = lab.module.vlm.vision_layers, base(lab.design)
        layer = names[round(share * (len(names) - 1))]
        return editing(replace(design, embedding=replace(design.embedding, layer=layer)))(lab)

    return make


def language_layer(base: Change) -> MakeCallbacks:
    """Codebook and retriever whose keys are what enters the middle block of the language model.

    Image and text have gone into it together.

    Args:
        base: Makes the design of the model's own.
    """

    def make(lab: Lab) -> list[L.Callback]:
        names = lab.module.vlm.language_layers
        if not names:
            raise NotServedError(
                f"It reads a layer of the language model, of which '{lab.module.vlm.name}' shows none."
            )
        layer = names[len(names) // 2]
        return editing(without_pictures(base(lab.design), layer=layer, transform="raw", text_weight=0.0))(lab)

    return make
