"""Choosing layer, transform and w by the topology of the embeddings (section 4 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from reasonedit.errors import ReasonEditError
from reasonedit.vlm import VLM
from reasonedit.vlm.device_memory import run_in_parts
from reasonedit.vlm.vision import flat

from .dual import DualEmbedder, EmbeddingConfig
from .modularity import balance, modularity, pair_modularity, similarity
from .reference import reference_images
from .sentence import SentenceEncoder
from .vision import Gathered, Statistics

WEIGHTS: tuple[float, ...] = tuple(round(0.1 * 1.25**i, 3) for i in range(22))
"""Values of w that are tried, 0.1 to 10.8: at w = 1 unrelated texts are about as far apart as unrelated pictures."""
_AT_ONCE = 32

Augment = Callable[[Image.Image, str, random.Random], tuple[Image.Image, str]]


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


def select(
    vlm: VLM,
    pairs: Sequence[tuple[Image.Image, str]],
    augment: Augment,
    *,
    config: EmbeddingConfig | None = None,
    encoder: SentenceEncoder | None = None,
    transforms: Sequence[str] = ("raw",),
    layer_sample: int = 20,
    weight_sample: int = 10,
    runs: int = 10,
    neighbours: int | None = None,
    seed: int = 0,
) -> Selection:
    """Choose the vision-side layer by bimodal Q and w by the balance of vision and language Q.

    Each picture passes the vision part once, for all layers; every w and transform is computed from what was kept.

    Args:
        vlm: The VLM.
        pairs: Matched images and texts, at least 4; each run draws its sample from them.
        augment: Makes a copy of a pair, other in image and text.
        config: Sentence encoder, pooling and reference pictures.
        encoder: The sentence encoder, loaded by ``config.encoder`` when not given.
        transforms: Transforms that compete.
        layer_sample: Pairs per run for the layer, each with as many copies less one.
        weight_sample: Images and texts per run for w.
        runs: Bootstrap runs.
        neighbours: As in :func:`~reasonedit.embedding.modularity.similarity`.
        seed: Seed of samples and copies.

    Raises:
        ReasonEditError: There are too few pairs.
    """
    if len(pairs) < 4:
        raise ReasonEditError(f"The selection takes at least 4 pairs of image and text, not {len(pairs)}.")
    started = time.perf_counter()
    config = config or EmbeddingConfig()
    encoder = encoder or SentenceEncoder.from_pretrained(config.encoder)
    layers = vlm.vision_layers
    layer_sample, weight_sample = min(layer_sample, len(pairs) - 1), min(weight_sample, len(pairs) - 1)
    rng = random.Random(seed)
    copies = [[pair, *(augment(*pair, rng) for _ in range(layer_sample - 1))] for pair in pairs]
    flat = [copy for mine in copies for copy in mine]
    forward = time.perf_counter()
    reference = _gathered(vlm, reference_images(config.reference), layers, config.pooling)
    pooled, texts = _pooled(vlm, [i for i, _ in flat], layers, config.pooling), encoder.encode([t for _, t in flat])
    forward = time.perf_counter() - forward
    statistics = {(layer, t): Statistics.of(reference[layer], t) for layer in layers for t in transforms}
    distances = {  # squared, between all copies of all pairs
        (layer, t): _squared(statistics[layer, t].apply(pooled[layer], t)) for layer in layers for t in transforms
    }
    between_texts = _squared(texts)
    drawn = list(_samples(random.Random(f"{seed}-layers"), len(pairs), layer_sample, runs))
    scores = []
    for (layer, t), between in distances.items():
        values = [_bimodal(between, between_texts, sample, layer_sample, neighbours) for sample in drawn]
        scores.append(LayerScore(layer, t, *_summary(values)))
    best = max(scores, key=lambda s: s.mean)
    # The first copy of each pair is the pair itself.
    own = torch.arange(len(pairs)) * layer_sample
    images, sentences = distances[best.layer, best.transform][own][:, own], between_texts[own][:, own]
    drawn = list(_samples(random.Random(f"{seed}-weights"), len(pairs), weight_sample, runs))
    weights = []
    for weight in WEIGHTS:
        found = [
            pair_modularity(images[s][:, s], sentences[s][:, s], weight, neighbours) for s in map(torch.tensor, drawn)
        ]
        vision, language = _summary([v for v, _ in found]), _summary([l for _, l in found])  # noqa: E741
        weights.append(WeightScore(weight, *vision, *language, *_summary([balance(*f) for f in found])))
    chosen = max(weights, key=lambda w: w.balance)
    embedding = EmbeddingConfig(
        best.layer, chosen.weight, encoder.name, config.pooling, best.transform, config.reference
    )
    DualEmbedder(vlm, embedding, encoder)  # refuses what could not be used
    settings = {
        "pairs": len(pairs),
        "layer_sample": layer_sample,
        "weight_sample": weight_sample,
        "runs": runs,
        "neighbours": neighbours,
        "seed": seed,
        "similarity": "exp(-d^2 / (2 b^2)), b the distance below which 2 % of the pairs lie",
    }
    seconds = {"total": time.perf_counter() - started, "forwards": forward}
    return Selection(scores, weights, embedding, seconds, settings)


def _as(tokens: Tensor, pooling: str) -> Tensor:
    return flat(tokens)[-1:] if pooling == "last" else tokens


def _gathered(vlm: VLM, images: Sequence[Image.Image], layers: Sequence[str], pooling: str) -> dict[str, Gathered]:
    """What all layers' statistics are made of, from one pass per image."""
    found = {layer: Gathered() for layer in layers}

    def gather(part: list[int]) -> None:
        vision = vlm.see([images[i] for i in part], layers)
        for layer in layers:
            for tokens in vision.layer(layer):
                found[layer].add(_as(tokens, pooling))

    run_in_parts(range(len(images)), _AT_ONCE, gather)
    return found


def _pooled(vlm: VLM, images: Sequence[Image.Image], layers: Sequence[str], pooling: str) -> dict[str, Tensor]:
    """Pooled tokens of all layers from one pass per image."""
    kept: dict[str, list[Tensor]] = {layer: [] for layer in layers}

    def pool_part(part: list[int]) -> None:
        vision = vlm.see([images[i] for i in part], layers)
        for layer in layers:
            kept[layer] += [flat(_as(tokens, pooling)).float().mean(0).cpu() for tokens in vision.layer(layer)]

    run_in_parts(range(len(images)), _AT_ONCE, pool_part)
    return {layer: torch.stack(rows) for layer, rows in kept.items()}


def _squared(points: Tensor) -> Tensor:
    return torch.cdist(points.double(), points.double()).square()


def _samples(rng: random.Random, total: int, size: int, runs: int) -> Iterator[list[int]]:
    for _ in range(runs):
        yield rng.sample(range(total), size)


def _bimodal(images: Tensor, texts: Tensor, sample: Sequence[int], copies: int, neighbours: int | None) -> float:
    """Bimodal Q of one sample: communities are a pair with its copies; both halves weigh the same."""
    rows = torch.cat([torch.arange(pair * copies, (pair + 1) * copies) for pair in sample])
    adjacency = similarity(images[rows][:, rows] + texts[rows][:, rows], neighbours)
    return modularity(adjacency, torch.arange(len(rows)) // copies)


def _summary(values: Sequence[float]) -> tuple[float, float]:
    data = torch.tensor(values, dtype=torch.float64)
    return float(data.mean()), float(data.std()) if len(values) > 1 else 0.0
