"""How images and texts are embedded."""

from __future__ import annotations

from dataclasses import dataclass

from reasonedit.errors import InputError

from .pooling import POOLINGS
from .sentence import EMBEDDED
from .statistics import TRANSFORMS

NO_LAYER = "none"
REGION_SOURCES = ("pooled", "crops")


@dataclass(frozen=True)
class EmbeddingConfig:
    """How images and texts are embedded.

    Attributes:
        layer: Name of the vision-side layer whose input is read, ``"image_features"`` (what enters the language model;
            the last block of the vision part where no family serves the VLM) or a layer of the language model (which
            then runs, up to that layer, on image and text); the projector when empty, ``"none"`` leaves the sentence
            half alone.
        text_weight: w, the weight of the sentence half. 0 leaves the vision half alone.
        encoder: Sentence encoder: ``"embedded"``, a folder or a hub id.
        pooling: ``"mean"`` over tokens, or the ``"last"`` token.
        transform: Of the pooled tokens: ``"raw"``; ``"whitened"``: in the 96 principal directions of the regions of
            unrelated pictures, each divided by how much it varies there and, ten times as much, while one part is seen
            a little beside, nearer, farther and in other colours, then to unit length; or ``"discriminant"``: in the 64
            directions that best tell one thing from another, then to unit length.
        reference: The unrelated pictures: ``"patterns"``, ``"world"`` or a folder of images; for ``"discriminant"`` one
            with a folder per thing in it. Or ``"own"``: the user's own pictures, of a calibration, of a stream's pool,
            or those that are asked about; patterns until there are enough.
        region_source: The nine query regions of an image are ``"pooled"`` from the tokens of its one vision pass, or
            pass the vision part by themselves as ``"crops"``: nine more passes, in which small things are large.

    Raises:
        InputError: A value is out of range.
    """

    layer: str = ""
    text_weight: float = 2.0
    encoder: str = EMBEDDED
    pooling: str = "mean"
    transform: str = "raw"
    reference: str = "patterns"
    region_source: str = "pooled"

    def __post_init__(self) -> None:
        if not self.text_weight >= 0:
            raise InputError(f"text_weight must be 0 or more, not {self.text_weight}.")
        for name, known in (("pooling", POOLINGS), ("transform", TRANSFORMS), ("region_source", REGION_SOURCES)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, not '{getattr(self, name)}'.")
        if self.layer == NO_LAYER and self.text_weight == 0:
            raise InputError("Without a layer and with text_weight 0 nothing is left to embed.")
