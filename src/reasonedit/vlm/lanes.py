"""Lanes: images and texts of several questions side by side in few rows of the language model.

Rows of one question each are padded to the longest. Rows that several questions share waste less, and attention, which
a mask keeps within each question, costs more the longer a row is: :func:`place_images` weighs the two.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .trie import Trie

NOBODY = -1
"""The owner of columns that fill up a lane."""

_WIDTHS = 6
"""Numbers of columns, in widths of the model, over which attention costs as much as all else: a block's weights are
some 12 widths squared and are used once per token; attention's two products take two widths per pair of tokens."""


@dataclass
class Block:
    """Columns that stand next to each other in all lanes.

    Attributes:
        inputs: Inputs that have a value per token, (lanes, columns) each.
        positions: Position ids, (lanes, columns), or (axes, lanes, columns).
        owners: The number of the image that each column belongs to, (lanes, columns).
        sees: Which columns of the block each one sees, bool (lanes, columns, columns).
    """

    inputs: dict[str, Tensor]
    positions: Tensor
    owners: Tensor
    sees: Tensor


@dataclass
class Packed:
    """Tries in lanes, on the CPU.

    Attributes:
        ids: Token ids (lanes, columns).
        depths: How far behind its image each token stands, (lanes, columns).
        owners: As in :class:`Block`.
        sees: As in :class:`Block`.
        first: The column in which the trie of each image begins.
    """

    ids: Tensor
    depths: Tensor
    owners: Tensor
    sees: Tensor
    first: dict[int, int] = field(default_factory=dict)


def place_images(lengths: Mapping[int, int], loads: Sequence[int], width: int) -> dict[int, int]:
    """Place images in lanes: the longest first, each in the lane that is shortest by then (Graham 1969).

    As many lanes are used as cost least: the columns of all of them, padding included, times what a column costs.

    Args:
        lengths: For each new image, by its number, how many columns it takes with its texts.
        loads: How many columns come into each lane that there is already.
        width: The width of the language model.

    Returns:
        For each new image its lane; those beyond ``loads`` are new.

    >>> place_images({0: 50, 1: 30, 2: 20}, [], 64)
    {0: 0, 1: 1, 2: 1}
    """
    order = sorted(lengths, key=lambda image: (-lengths[image], image))
    best: tuple[int, dict[int, int]] | None = None
    for count in range(len(loads) + len(order), max(1, len(loads)) - 1, -1):
        shortest = [(load, lane) for lane, load in enumerate([*loads, *[0] * (count - len(loads))])]
        heapq.heapify(shortest)
        lanes = {}
        longest = max(loads, default=0)
        for image in order:
            load, lane = shortest[0]
            lanes[image] = lane
            longest = max(longest, load + lengths[image])
            heapq.heapreplace(shortest, (load + lengths[image], lane))
        cost = count * longest * (_WIDTHS * width + longest)
        if best is None or cost < best[0]:
            best = (cost, lanes)
        if count * longest == sum(loads) + sum(lengths.values()):
            break  # nothing is padded: fewer lanes would only be longer
    return best[1] if best is not None else {}


def pack_rows(
    inputs: Mapping[str, Tensor],
    positions: Tensor,
    images: Sequence[int],
    lanes: Mapping[int, int],
    count: int,
    pad: int,
) -> Block:
    """Lay left-padded rows of single images one behind the other into lanes.

    Args:
        inputs: Inputs with a value per token: (images, columns) each, among them ids and the mask.
        positions: Their position ids.
        images: The numbers of the images; those of one lane follow each other.
        lanes: The lane of each.
        count: Number of lanes.
        pad: The token that fills up lanes.
    """
    columns = inputs["input_ids"].shape[1]
    sizes = inputs["attention_mask"].sum(1).tolist()
    used = [0] * count
    spans = []
    for row, (image, size) in enumerate(zip(images, sizes, strict=True)):
        spans.append((row, image, lanes[image], used[lanes[image]], size))
        used[lanes[image]] += size
    source = torch.zeros(count, max(used), dtype=torch.long)
    owners = torch.full((count, max(used)), NOBODY)
    for row, image, lane, start, size in spans:
        source[lane, start : start + size] = torch.arange((row + 1) * columns - size, (row + 1) * columns)
        owners[lane, start : start + size] = image
    device = inputs["input_ids"].device
    source, owners = source.to(device), owners.to(device)
    packed = {}
    for name, value in inputs.items():
        if name != "attention_mask":
            fill = pad if name == "input_ids" else 0
            packed[name] = value.reshape(-1)[source].masked_fill(owners == NOBODY, fill)
    before = torch.ones(max(used), max(used), dtype=torch.bool, device=device).tril()
    sees = (owners[:, :, None] == owners[:, None]) & before
    flat = positions.reshape(*positions.shape[:-2], -1)
    return Block(packed, flat[..., source].masked_fill(owners == NOBODY, 0), owners, sees)


def pack_tries(tries: Mapping[int, Trie], lanes: Mapping[int, int], count: int, pad: int) -> Packed:
    """Lay the tries of images one behind the other into lanes.

    Args:
        tries: The trie of each image, by its number.
        lanes: The lane of each image.
        count: Number of lanes.
        pad: The token that fills up lanes.
    """
    used, first = [0] * count, {}
    for image, trie in tries.items():
        first[image] = used[lanes[image]]
        used[lanes[image]] += len(trie.ids)
    width = max(used)
    packed = Packed(
        torch.full((count, width), pad, dtype=torch.long),
        torch.zeros(count, width, dtype=torch.long),
        torch.full((count, width), NOBODY),
        torch.eye(width, dtype=torch.bool).repeat(count, 1, 1),
        first,
    )
    for image, trie in tries.items():
        lane, span = lanes[image], slice(first[image], first[image] + len(trie.ids))
        packed.ids[lane, span], packed.depths[lane, span], packed.owners[lane, span] = trie.ids, trie.depths, image
        packed.sees[lane, span, span] = trie.sees
    return packed


def visible_columns(before: Tensor, blocks: Sequence[Block]) -> Tensor:
    """Which columns the new ones see: bool (lanes, 1, new, all).

    Args:
        before: The owners of the columns that were read already, (lanes, columns): a column sees those of its image.
        blocks: The new columns: each sees those of its image in earlier blocks, and in its own what that says.
    """
    rows = []
    for i, block in enumerate(blocks):
        known = torch.cat([before, *(b.owners for b in blocks[:i])], dim=1)
        seen = (block.owners[:, :, None] == known[:, None]) & (block.owners != NOBODY)[:, :, None]
        later = sum(b.owners.shape[1] for b in blocks[i + 1 :])
        rows.append(torch.nn.functional.pad(torch.cat([seen, block.sees], dim=2), (0, later)))
    return torch.cat(rows, dim=1)[:, None]
