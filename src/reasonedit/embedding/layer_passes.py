"""Passes of the vision part that keep all layers at once: of the tokens only means and moments stay."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import torch
from PIL import Image
from torch import Tensor

from reasonedit.vlm import VLM, Vision
from reasonedit.vlm.devices import run_in_parts

from .pooling import QUERY_REGIONS, check_activations, pool, tokens_to_pool
from .statistics import ReferenceTokens

AT_ONCE = 32
"""Images that pass the vision part at once."""

_AHEAD = 3 * AT_ONCE
"""Images that are made ahead of the passes, at most."""
_THREADS = 4


def make_ahead(jobs: Sequence[Callable[[], Image.Image]]) -> Iterator[Image.Image]:
    """Make images in their order, while the VLM looks at those before them.

    Pillow lets other threads run while it works, so that images cost no time of their own where a core is free.

    Args:
        jobs: Makes each image; none may depend on another.
    """
    waiting: deque[Future[Image.Image]] = deque()
    remaining = iter(jobs)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="augment") as pool_of_threads:
        waiting.extend(pool_of_threads.submit(job) for job in islice(remaining, _AHEAD))
        while waiting:
            image = waiting.popleft().result()
            waiting.extend(pool_of_threads.submit(job) for job in islice(remaining, 1))
            yield image


class LayerPasses:
    """Runs the vision part on images, each of which passes once for all layers.

    Args:
        vlm: The VLM.
        layers: The vision-side layers that are kept.
        pooling: One of :data:`~reasonedit.embedding.pooling.POOLINGS`.

    Attributes:
        seconds: Time of the forward passes alone.
    """

    def __init__(self, vlm: VLM, layers: Sequence[str], pooling: str) -> None:
        self.vlm, self.layers, self.pooling = vlm, list(layers), pooling
        self.seconds = 0.0

    def pool(self, images: Iterable[Image.Image]) -> dict[str, Tensor]:
        """Pooled tokens of each layer, (images, D), float32 on the CPU.

        Raises:
            InputError: A layer's activations are not finite.
        """
        rows: dict[str, list[Tensor]] = {layer: [] for layer in self.layers}
        for vision in self._passes(images):
            for layer in self.layers:
                rows[layer] += [check_activations(pooled, layer) for pooled in self._pool_wholes(vision.layer(layer))]
        return {layer: torch.cat(of_layer) for layer, of_layer in rows.items()}

    def pool_with_moments(self, images: Iterable[Image.Image]) -> tuple[dict[str, Tensor], dict[str, ReferenceTokens]]:
        """Pooled tokens as :meth:`pool`, and of all tokens what statistics are made of, by layer; errors as there."""
        rows: dict[str, list[Tensor]] = {layer: [] for layer in self.layers}
        moments = {layer: ReferenceTokens() for layer in self.layers}
        for vision in self._passes(images):
            for layer in self.layers:
                for tokens in _stack_alike([tokens_to_pool(t, self.pooling) for t in vision.layer(layer)]):
                    pooled = check_activations(tokens.flatten(1, -2).mean(1), layer)
                    rows[layer].append(pooled)
                    # All images of a stack are added in one step, as if they were one: a single product of matrices.
                    moments[layer].add(tokens.flatten(0, -2), _pool_regions(tokens))
                    moments[layer].wholes[-1] = pooled
        return {layer: torch.cat(of_layer) for layer, of_layer in rows.items()}, moments

    def _passes(self, images: Iterable[Image.Image]) -> Iterator[Vision]:
        remaining = iter(images)
        while batch := list(islice(remaining, AT_ONCE)):
            seen: list[Vision] = []

            def see(part: list[int], batch: list[Image.Image] = batch, seen: list[Vision] = seen) -> None:
                started = time.perf_counter()
                seen.append(self.vlm.see([batch[i] for i in part], self.layers))
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                self.seconds += time.perf_counter() - started

            run_in_parts(range(len(batch)), AT_ONCE, see)
            yield from seen

    def _pool_wholes(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        stacks = _stack_alike([tokens_to_pool(t, self.pooling) for t in tokens])
        return [stack.flatten(1, -2).mean(1) for stack in stacks]


def _stack_alike(tokens: Sequence[Tensor]) -> list[Tensor]:
    """Stack neighbours of one shape, float32 on the CPU: their order stays."""
    stacks: list[list[Tensor]] = []
    for one in tokens:
        if stacks and stacks[-1][0].shape == one.shape:
            stacks[-1].append(one)
        else:
            stacks.append([one])
    return [torch.stack(stack).float().cpu() for stack in stacks]


def _pool_regions(tokens: Tensor) -> Tensor:
    """Mean tokens of the query regions of some images, (images * regions, D); of the wholes where there is no grid.

    Args:
        tokens: (images, rows, columns, D) or (images, tokens, D).
    """
    if tokens.dim() != 4:
        return tokens.mean(1)
    # One image with the images' tokens side by side in the last axis: each region is cut out once for all.
    count, rows, columns, width = tokens.shape
    together = tokens.permute(1, 2, 0, 3).reshape(rows, columns, count * width)
    regions = pool(together, QUERY_REGIONS).view(len(QUERY_REGIONS), count, width)
    return regions.transpose(0, 1).reshape(-1, width)
