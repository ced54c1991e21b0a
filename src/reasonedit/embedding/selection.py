"""What the selection of layer, transform and w compares, and what it chose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .config import EmbeddingConfig


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
    """

    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    transforms: tuple[str, ...] = ("raw",)
    layer_sample: int = 20
    weight_sample: int = 10
    runs: int = 10
    neighbours: int | None = None
    seed: int = 0


@dataclass
class LayerScore:
    """Bimodal Q of one layer and transform: mean and standard deviation over the bootstrap runs."""

    layer: str
    transform: str
    mean: float
    std: float


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
