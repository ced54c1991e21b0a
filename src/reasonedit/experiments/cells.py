"""A cell of an experiment: one editor on one stream with one seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import lightning as L

if TYPE_CHECKING:
    from .lab import Lab

LIBRARIES = ("torch", "transformers", "sentence-transformers", "pillow")
"""What figures depend on beside our own code."""
MakeCallbacks = Callable[["Lab"], list[L.Callback]]
"""Makes an editor, with the callbacks that belong to it, for the model of a lab."""


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
        stream: Arguments of :class:`~reasonedit.EditStream` in place of the config's.
        noise: Kind and share of what is done to the reasoning, see
            :class:`~reasonedit.experiments.noise.NoisyReasoning`.
        varies: What the seed is of: the argument of the source that it is given as.
        gallery: Whether pictures of its edits and queries are kept for the report.
        chain: What becomes of the VLM's own reasons, which stand in place of the person's: see
            :class:`~reasonedit.experiments.own_chains.OwnChains`.
    """

    row: str
    title: str
    seed: int
    make: MakeCallbacks
    settings: Mapping[str, Any] = field(default_factory=dict)
    x: float | None = None
    stream: Mapping[str, Any] = field(default_factory=dict)
    noise: tuple[str, float] | None = None
    varies: str = "seed"
    gallery: bool = False
    chain: str = ""
