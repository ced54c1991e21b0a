"""Choosing layer, transform and w by the topology of the embeddings (section 4 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from reasonedit.errors import InputError
from reasonedit.images.augment import augment
from reasonedit.vlm import VLM

from .dual import DualEmbedder
from .layer_choice import ViewPasses
from .layer_passes import LayerPasses, make_ahead
from .modularity import balance, modularity, pair_modularity, similarity
from .reference import reference_images
from .selection import LayerScore, Selection, SelectionConfig, WeightScore
from .sentence import SentenceEncoder
from .statistics import Statistics, distance_apart

WEIGHTS: tuple[float, ...] = tuple(round(0.1 * 1.25**i, 3) for i in range(22))
"""Values of w that are tried, 0.1 to 10.8: at w = 1 unrelated texts are about as far apart as unrelated pictures."""

_LEAST_PAIRS = 4


@dataclass
class _Scored:
    """A layer and transform: how it scores, and the squared distances between the pairs' own pictures, (P, P)."""

    score: LayerScore
    images: Tensor


def select(
    vlm: VLM,
    pairs: Sequence[tuple[Image.Image, str]],
    config: SelectionConfig | None = None,
    encoder: SentenceEncoder | None = None,
) -> Selection:
    """Choose the vision-side layer by how it tells augmented pictures apart, and w by the balance of both Q.

    Each picture passes the vision part once, for all layers; every w and transform is computed from these passes. A
    vision-side layer sees no text, so the copies of a pair differ in their pictures alone.

    Args:
        vlm: The VLM.
        pairs: Matched images and texts, at least 4; each run draws its sample from them.
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
    scored, forwards = _score_layers(vlm, [image for image, _ in pairs], config)
    best = max(scored, key=lambda layer: layer.score.rank(config.criterion))
    before_texts = time.perf_counter()
    texts = encoder.encode([text for _, text in pairs])
    forwards += time.perf_counter() - before_texts
    weights = _score_weights(best.images, _squared_distances(texts), config)
    weight = max(weights, key=lambda score: score.balance)
    embedding = replace(
        config.embedding,
        layer=best.score.layer,
        text_weight=weight.weight,
        encoder=encoder.name,
        transform=best.score.transform,
        region_source="pooled",
    )
    DualEmbedder(vlm, embedding, encoder)  # refuses what could not be used
    seconds = {"total": time.perf_counter() - started, "forwards": forwards}
    return Selection([layer.score for layer in scored], weights, embedding, seconds, _describe(config, len(pairs)))


def _describe(config: SelectionConfig, pairs: int) -> dict[str, object]:
    """What was done, for the record."""
    return {
        "pairs": pairs,
        "criterion": config.criterion,
        "layer_sample": config.layer_sample,
        "weight_sample": config.weight_sample,
        "runs": config.runs,
        "neighbours": config.neighbours,
        "seed": config.seed,
        "similarity": "exp(-d^2 / (2 b^2)), b the distance below which 2 % of the pairs lie",
    }


def _score_layers(vlm: VLM, images: Sequence[Image.Image], config: SelectionConfig) -> tuple[list[_Scored], float]:
    """Score all layers and transforms on the same samples of the same copies; also the seconds of the passes.

    The first copy of a picture is the picture itself. Only the pooled tokens of all copies are kept, and the distances
    of one layer at a time.
    """
    passes, copies = LayerPasses(vlm, vlm.vision_layers, config.embedding.pooling), config.layer_sample

    def copy(number: int, which: int) -> Image.Image:
        image = images[number]
        return augment(image, random.Random(f"{config.seed}-{number}-{which}")) if which else image

    unrelated = reference_images(config.embedding.reference)
    if any(transform != "raw" for transform in config.transforms):
        wholes, moments = passes.pool_with_moments(unrelated)
    else:
        wholes, moments = passes.pool(unrelated), {}
    jobs = [partial(copy, number, which) for number in range(len(images)) for which in range(copies)]
    pooled = passes.pool(make_ahead(jobs))
    views = ViewPasses(passes, images, config.seed)
    drawn = _draw_samples(random.Random(f"{config.seed}-layers"), len(images), copies, config.runs)
    samples, scored = [_rows_of(sample, copies) for sample in drawn], []
    for layer in passes.layers:
        for transform in config.transforms:
            statistics = Statistics.of(moments[layer], transform) if transform != "raw" else None
            if statistics is None:
                rows = pooled[layer] / distance_apart(wholes[layer])
            else:
                rows = statistics.apply(pooled[layer], transform)
            squared = _squared_distances(rows)
            mean_and_std = _mean_and_std([_bimodal(squared, sample, config) for sample in samples])
            found = views.score(layer, transform, statistics)
            score = LayerScore(layer, transform, *mean_and_std, found.found, found.auc, found.margin)
            scored.append(_Scored(score, squared[::copies, ::copies].double()))
    return scored, passes.seconds


def _bimodal(squared: Tensor, sample: Tensor, config: SelectionConfig) -> float:
    """Bimodal Q of one sample of the copies, by a layer alone: communities are a picture with its copies."""
    adjacency = similarity(squared[sample[:, None], sample], config.neighbours)
    return modularity(adjacency, torch.arange(len(sample)) // config.layer_sample)


def _score_weights(images: Tensor, texts: Tensor, config: SelectionConfig) -> list[WeightScore]:
    """Vision Q, language Q and their balance for all values of w, on the same samples of the pairs without copies."""
    drawn = _draw_samples(random.Random(f"{config.seed}-weights"), len(images), config.weight_sample, config.runs)
    samples = [torch.tensor(sample) for sample in drawn]
    scores = []
    for weight in WEIGHTS:
        values = [
            pair_modularity(images[rows[:, None], rows], texts[rows[:, None], rows], weight, config.neighbours)
            for rows in samples
        ]
        vision = _mean_and_std([of_vision for of_vision, _ in values])
        language = _mean_and_std([of_language for _, of_language in values])
        scores.append(WeightScore(weight, *vision, *language, *_mean_and_std([balance(*both) for both in values])))
    return scores


def _squared_distances(points: Tensor) -> Tensor:
    return torch.cdist(points.double(), points.double()).square().float()


def _draw_samples(rng: random.Random, total: int, size: int, runs: int) -> Iterator[list[int]]:
    for _ in range(runs):
        yield rng.sample(range(total), size)


def _rows_of(sample: Sequence[int], copies: int) -> Tensor:
    """The rows of all copies of some pictures."""
    return torch.cat([torch.arange(picture * copies, (picture + 1) * copies) for picture in sample])


def _mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    data = torch.tensor(values, dtype=torch.float64)
    return float(data.mean()), float(data.std()) if len(values) > 1 else 0.0
