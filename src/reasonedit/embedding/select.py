"""Choosing layer, transform and w by the topology of the embeddings (section 4 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from reasonedit.errors import InputError
from reasonedit.vlm import VLM
from reasonedit.vlm.devices import run_in_parts
from reasonedit.vlm.vision import flat

from .dual import DualEmbedder
from .modularity import balance, modularity, pair_modularity, similarity
from .pooling import tokens_to_pool
from .reference import reference_images
from .selection import LayerScore, Selection, SelectionConfig, WeightScore
from .sentence import SentenceEncoder
from .statistics import ReferenceTokens, Statistics

WEIGHTS: tuple[float, ...] = tuple(round(0.1 * 1.25**i, 3) for i in range(22))
"""Values of w that are tried, 0.1 to 10.8: at w = 1 unrelated texts are about as far apart as unrelated pictures."""

_LEAST_PAIRS = 4
_AT_ONCE = 32
"""Images that pass the vision part at once."""

Augment = Callable[[Image.Image, str, random.Random], tuple[Image.Image, str]]


@dataclass
class _Distances:
    """Squared distances between all copies of all pairs, (pairs * copies, pairs * copies).

    Attributes:
        images: By layer and transform, between the vision halves.
        texts: Between the sentence halves at w = 1.
        seconds: Time of the forward passes.
    """

    images: dict[tuple[str, str], Tensor]
    texts: Tensor
    seconds: float


def select(
    vlm: VLM,
    pairs: Sequence[tuple[Image.Image, str]],
    augment: Augment,
    config: SelectionConfig | None = None,
    encoder: SentenceEncoder | None = None,
) -> Selection:
    """Choose the vision-side layer by bimodal Q and w by the balance of vision and language Q.

    Each picture passes the vision part once, for all layers; every w and transform is computed from these passes.

    Args:
        vlm: The VLM.
        pairs: Matched images and texts, at least 4; each run draws its sample from them.
        augment: Makes a copy of a pair, other in image and text.
        config: What is compared, and on which samples. A sample is always smaller than the pairs.
        encoder: The sentence encoder, loaded by ``config.embedding.encoder`` when not given.

    Raises:
        InputError: There are too few pairs.
    """
    if len(pairs) < _LEAST_PAIRS:
        raise InputError(f"The selection takes at least {_LEAST_PAIRS} pairs of image and text, not {len(pairs)}.")
    started = time.perf_counter()
    config = config or SelectionConfig()
    most = len(pairs) - 1
    config = replace(config, layer_sample=min(config.layer_sample, most), weight_sample=min(config.weight_sample, most))
    encoder = encoder or SentenceEncoder.from_pretrained(config.embedding.encoder)
    distances = _measure_distances(vlm, encoder, pairs, augment, config)
    layers = _score_layers(distances, len(pairs), config)
    layer = max(layers, key=lambda score: score.mean)
    weights = _score_weights(distances.images[layer.layer, layer.transform], distances.texts, len(pairs), config)
    weight = max(weights, key=lambda score: score.balance)
    embedding = replace(
        config.embedding,
        layer=layer.layer,
        text_weight=weight.weight,
        encoder=encoder.name,
        transform=layer.transform,
        region_source="pooled",
    )
    DualEmbedder(vlm, embedding, encoder)  # refuses what could not be used
    settings = {
        "pairs": len(pairs),
        "layer_sample": config.layer_sample,
        "weight_sample": config.weight_sample,
        "runs": config.runs,
        "neighbours": config.neighbours,
        "seed": config.seed,
        "similarity": "exp(-d^2 / (2 b^2)), b the distance below which 2 % of the pairs lie",
    }
    seconds = {"total": time.perf_counter() - started, "forwards": distances.seconds}
    return Selection(layers, weights, embedding, seconds, settings)


def _measure_distances(
    vlm: VLM,
    encoder: SentenceEncoder,
    pairs: Sequence[tuple[Image.Image, str]],
    augment: Augment,
    config: SelectionConfig,
) -> _Distances:
    """Copy the pairs, and embed them with all layers and transforms; the first copy of a pair is the pair itself."""
    layers, embedding, rng = vlm.vision_layers, config.embedding, random.Random(config.seed)
    copies = [copy for pair in pairs for copy in (pair, *(augment(*pair, rng) for _ in range(config.layer_sample - 1)))]
    started = time.perf_counter()
    reference = _read_reference(vlm, reference_images(embedding.reference), layers, embedding.pooling)
    pooled = _pool_images(vlm, [image for image, _ in copies], layers, embedding.pooling)
    texts = encoder.encode([text for _, text in copies])
    seconds = time.perf_counter() - started
    images = {}
    for layer in layers:
        for transform in config.transforms:
            statistics = Statistics.of(reference[layer], transform)
            images[layer, transform] = _squared_distances(statistics.apply(pooled[layer], transform))
    return _Distances(images, _squared_distances(texts), seconds)


def _score_layers(distances: _Distances, pairs: int, config: SelectionConfig) -> list[LayerScore]:
    """Bimodal Q of all layers and transforms, on the same samples."""
    samples = list(_draw_samples(random.Random(f"{config.seed}-layers"), pairs, config.layer_sample, config.runs))
    scores = []
    for (layer, transform), images in distances.images.items():
        values = [
            _bimodal(images, distances.texts, sample, config.layer_sample, config.neighbours) for sample in samples
        ]
        scores.append(LayerScore(layer, transform, *_mean_and_std(values)))
    return scores


def _score_weights(images: Tensor, texts: Tensor, pairs: int, config: SelectionConfig) -> list[WeightScore]:
    """Vision Q, language Q and their balance for all values of w, on the same samples of the pairs without copies."""
    own = torch.arange(pairs) * config.layer_sample  # the first copy of each pair
    images, texts = images[own][:, own], texts[own][:, own]
    drawn = _draw_samples(random.Random(f"{config.seed}-weights"), pairs, config.weight_sample, config.runs)
    samples = [torch.tensor(sample) for sample in drawn]
    scores = []
    for weight in WEIGHTS:
        values = [
            pair_modularity(images[rows][:, rows], texts[rows][:, rows], weight, config.neighbours) for rows in samples
        ]
        vision = _mean_and_std([of_vision for of_vision, _ in values])
        language = _mean_and_std([of_language for _, of_language in values])
        scores.append(WeightScore(weight, *vision, *language, *_mean_and_std([balance(*both) for both in values])))
    return scores


def _read_reference(
    vlm: VLM, images: Sequence[Image.Image], layers: Sequence[str], pooling: str
) -> dict[str, ReferenceTokens]:
    """The unrelated pictures as all layers see them, from one pass per image."""
    tokens_of_layer = {layer: ReferenceTokens() for layer in layers}

    def add(part: list[int]) -> None:
        vision = vlm.see([images[i] for i in part], layers)
        for layer in layers:
            for tokens in vision.layer(layer):
                tokens_of_layer[layer].add(tokens_to_pool(tokens, pooling))

    run_in_parts(range(len(images)), _AT_ONCE, add)
    return tokens_of_layer


def _pool_images(vlm: VLM, images: Sequence[Image.Image], layers: Sequence[str], pooling: str) -> dict[str, Tensor]:
    """Pooled tokens of all layers, (images, D) each, from one pass per image."""
    rows: dict[str, list[Tensor]] = {layer: [] for layer in layers}

    def pool_part(part: list[int]) -> None:
        vision = vlm.see([images[i] for i in part], layers)
        for layer in layers:
            rows[layer] += [
                flat(tokens_to_pool(tokens, pooling)).float().mean(0).cpu() for tokens in vision.layer(layer)
            ]

    run_in_parts(range(len(images)), _AT_ONCE, pool_part)
    return {layer: torch.stack(of_layer) for layer, of_layer in rows.items()}


def _squared_distances(points: Tensor) -> Tensor:
    return torch.cdist(points.double(), points.double()).square()


def _draw_samples(rng: random.Random, total: int, size: int, runs: int) -> Iterator[list[int]]:
    for _ in range(runs):
        yield rng.sample(range(total), size)


def _bimodal(images: Tensor, texts: Tensor, sample: Sequence[int], copies: int, neighbours: int | None) -> float:
    """Bimodal Q of one sample: communities are a pair with its copies; both halves weigh the same."""
    rows = torch.cat([torch.arange(pair * copies, (pair + 1) * copies) for pair in sample])
    adjacency = similarity(images[rows][:, rows] + texts[rows][:, rows], neighbours)
    return modularity(adjacency, torch.arange(len(rows)) // copies)


def _mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    data = torch.tensor(values, dtype=torch.float64)
    return float(data.mean()), float(data.std()) if len(values) > 1 else 0.0
