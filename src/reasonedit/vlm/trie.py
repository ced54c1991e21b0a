"""Token sequences laid out so that a common beginning is there once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Trie:
    """Token sequences whose common beginnings are there once.

    Attributes:
        ids: One token per node.
        depths: Distance of each node from the root, 0 for the first token of a sequence.
        sees: (nodes, nodes) bool: for each node, its ancestors and itself.
        paths: For each sequence, the nodes of its tokens in order.
    """

    ids: Tensor
    depths: Tensor
    sees: Tensor
    paths: list[list[int]]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> Trie:
        """Lay out sequences."""
        nodes: dict[tuple[int, int], int] = {}  # (parent, token) -> node
        ids: list[int] = []
        parents: list[int] = []
        paths = []
        for sequence in sequences:
            node, path = -1, []
            for token in sequence:
                parent, node = node, nodes.setdefault((node, token), len(ids))
                if node == len(ids):
                    ids.append(token)
                    parents.append(parent)
                path.append(node)
            paths.append(path)
        sees = np.eye(len(ids), dtype=np.bool_)
        depths = [0] * len(ids)
        for node, parent in enumerate(parents):
            if parent >= 0:
                sees[node] |= sees[parent]
                depths[node] = depths[parent] + 1
        return cls(
            torch.tensor(ids, dtype=torch.long), torch.tensor(depths, dtype=torch.long), torch.from_numpy(sees), paths
        )
