"""What the selection of layer, transform and w compares, and what it chose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reasonedit.errors import InputError

from .config import EmbeddingConfig

CRITERIA = ("views", "modularity")
"""What the layer is chosen by."""


@dataclass(frozen=True)
class SelectionConfig:
    """What is compared, and on which samples.

    Attributes:
        embedding: Sentence encoder, pooling and reference pictures; layer, transform and w are chosen.
        transforms: Transforms that compete.
        layer_sample: Pairs per run for the layer, each with as many copies less one.
        weight_sample: Images and texts per run for w.
        runs: Bootstrap runs.
        neighbours: As in :func:`~reasonedit.embedding.modularity.similarity`.
        seed: Seed of samples and copies.
        criterion: What the layer is chosen by: how well the ``"views"`` of a picture find each other (see
            :mod:`.layer_choice`), or the bimodal ``"modularity"`` of the paper. Both are reported.

    Raises:
        InputError: The criterion is unknown, or no neighbour is to stay.
    """

    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    transforms: tuple[str, ...] = ("raw",)
    layer_sample: int = 20
    weight_sample: int = 10
    runs: int = 10
    neighbours: int | None = None
    seed: int = 0
    criterion: str = "views"

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise InputError(f"criterion must be {' or '.join(CRITERIA)}, not '{self.criterion}'.")
        if self.neighbours is not None and self.neighbours < 1:
            raise InputError(f"neighbours must be 1 or more, not {self.neighbours}.")


@dataclass
class LayerScore:
    """Both criteria for one layer and transform.

    Attributes:
        layer: The layer.
        transform: The transform.
        mean: Bimodal Q of the layer alone, mean over the bootstrap runs.
        std: Its standard deviation.
        found: As in :class:`~reasonedit.embedding.layer_choice.ViewScore`, as are ``auc`` and ``margin``.
        auc: As there.
        margin: As there.
    """

    layer: str
    transform: str
    mean: float
    std: float
    found: float
    auc: float
    margin: float

    def rank(self, criterion: str) -> tuple[float, ...]:
        """By what layers are compared."""
        return (self.mean,) if criterion == "modularity" else (self.found, self.auc, self.margin)


@dataclass
class WeightScore:
    """What one value of w gives: vision Q, language Q and their harmonic mean, with standard deviations."""

    weight: float
    vision: float
    vision_std: float
    language: float
    language_std: float
    balance: float
    balance_std: float


@dataclass
class Selection:
    """What was chosen, and from what.

    Attributes:
        layers: All layers and transforms.
        weights: All values of w, for the chosen layer.
        embedding: The choice.
        seconds: Time of the whole selection, and of the forward passes in it.
        settings: Sample sizes, runs and seed.
    """

    layers: list[LayerScore]
    weights: list[WeightScore]
    embedding: EmbeddingConfig
    seconds: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)
