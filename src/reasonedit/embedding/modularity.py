"""How clearly a graph of embeddings falls into communities (section 4 of the method; arXiv 2602.02408).

The weight of an edge is ``exp(-d^2 / (2 b^2))``: d is the Euclidean distance of its two nodes, and b the distance below
which one pair of nodes in 50 lies. So weights are never negative, and the same for embeddings of any scale. (With the
median for b all nodes would be about equally similar: Q of the layers of the embedded VLM would lie between 0.020 and
0.025; with this b it lies between 0.33 and 0.88.) There are no self-loops. With ``neighbours`` only the edges between a
node and its nearest ones stay.
"""

from __future__ import annotations

import torch
from torch import Tensor

_NEAR = 0.02
"""Share of the pairs that are nearer than b."""


def similarity(squared: Tensor, neighbours: int | None = None) -> Tensor:
    """Adjacency matrix from squared distances (N, N): symmetric, non-negative, zero on the diagonal.

    Args:
        squared: Squared Euclidean distances.
        neighbours: Only the edges from a node to so many nearest ones stay; all when not given.
    """
    count = len(squared)
    between = squared.clone().fill_diagonal_(torch.inf)  # the weight of infinity is 0
    nearest = max(1, round(_NEAR * count * (count - 1)))
    bandwidth = between.flatten().kthvalue(nearest).values.clamp(min=1e-12)
    weights = between.div_(-2 * bandwidth).exp_()
    if neighbours is not None and neighbours < count - 1:
        rows = weights.topk(neighbours, dim=1).indices
        is_near = torch.zeros_like(weights, dtype=torch.bool).scatter_(1, rows, True)
        weights = weights * (is_near | is_near.T)
    return weights


def modularity(adjacency: Tensor, communities: Tensor) -> float:
    """Newman's modularity of a weighted graph and a partition.

    ``Q = sum_c [ w_c / 2m - (k_c / 2m)^2 ]``, w_c the weight inside community c (each edge from both ends), k_c the
    sum of its nodes' degrees, 2m the sum of all degrees.

    Args:
        adjacency: (N, N), symmetric and non-negative.
        communities: The community of each node, (N,) integers from 0.

    Returns:
        Q; 0 for a graph without edges.
    """
    member = torch.nn.functional.one_hot(communities.to(adjacency.device)).to(adjacency.dtype)  # (N, C)
    between = (member.T @ (adjacency @ member)).double()  # the weight between each two communities, (C, C)
    total = between.sum()
    if not total:
        return 0.0
    return float(between.trace() / total - (between.sum(1) / total).square().sum())


def pair_modularity(images: Tensor, texts: Tensor, weight: float, neighbours: int | None = None) -> tuple[float, float]:
    """Vision and language modularity of all pairs of some images and some texts.

    Args:
        images: Squared distances between the images' halves, (n, n).
        texts: Squared distances between the texts' halves at w = 1, (m, m).
        weight: w.
        neighbours: As in :func:`similarity`.

    Returns:
        Q of the partition by image, and Q of the partition by text.
    """
    n, m = len(images), len(texts)
    squared = images.repeat_interleave(m, 0).repeat_interleave(m, 1) + weight**2 * texts.repeat(n, n)
    adjacency = similarity(squared, neighbours)
    pairs = torch.arange(n * m)
    return modularity(adjacency, pairs // m), modularity(adjacency, pairs % m)


def balance(vision: float, language: float) -> float:
    """Harmonic mean of the two; 0 where either is not positive."""
    return 0.0 if min(vision, language) <= 0 else 2 * vision * language / (vision + language)
