"""Whether the query's image shows the picture of a key (ours)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reasonedit.codebook import EditMemory
from reasonedit.embedding.unrelated import cohort_count, levels, match_scores
from reasonedit.kinds import KINDS

_REGIONS = [kind.number for kind in KINDS if kind.picture == "region"]
_WHOLES = [kind.number for kind in KINDS if kind.picture == "whole"]
_SAME = 0.5
"""Of the way to the nearest unrelated pictures. Pictures of the embedded world (seed 106, 20 edits) that were saved as
JPEG of quality 60, halved in size or cut by a twentieth at each side lay at most 0.46 of it from themselves, other
pictures at least 0.65."""
_AT_ONCE = 65536


class VisualMatch:
    """How near a key's picture comes to a query's, compared with how near unrelated pictures come to either.

    Some pictures are near to many others. So a distance is counted from the mean distance to the nearest unrelated
    pictures, in their standard deviations, once for the key and once for the query, and the two are averaged: the
    adaptive symmetric score normalisation of speaker verification (Matejka et al., Interspeech 2017, doi
    10.21437/Interspeech.2017-803).

    Args:
        cohort: Vision halves of regions of unrelated pictures, (C, Dv).
    """

    def __init__(self, cohort: Tensor) -> None:
        self.cohort = cohort
        self._count = cohort_count(cohort)
        self._levels = torch.empty(0, 2)

    def update(self, memory: EditMemory) -> None:
        """Take in the keys that came since the last call."""
        for start in range(len(self._levels), len(memory.table), _AT_ONCE):
            new = self.level(memory.table[start : min(start + _AT_ONCE, len(memory.table))])
            self._levels = torch.cat([self._levels, new])

    def score(self, memory: EditMemory, query: Tensor, level: Tensor, numbers: Tensor) -> Tensor:
        """Score keys for one query: the key of a region by the query's nearest region, that of an image by the whole.

        Args:
            memory: The memory, as at the last :meth:`update`.
            query: The query's keys, (R, D), that of the whole image last.
            level: Their :meth:`level`, (R, 2).
            numbers: Numbers of keys, (N,).

        Returns:
            (N,) scores: by how many standard deviations the picture is nearer than unrelated ones, the average of key
            and query.
        """
        width = self.cohort.shape[1]
        distances = torch.cdist(memory.table[numbers][:, :width], query[:, :width])  # (N, R)
        scores = match_scores(distances, self._levels[numbers], level)
        shows_region = torch.from_numpy(np.isin(memory.kinds[numbers.numpy()], _REGIONS))
        return torch.where(shows_region, scores.amax(1), scores[:, -1])

    def same_picture(self, memory: EditMemory, query: Tensor, level: Tensor, numbers: Tensor) -> Tensor:
        """Whether the query's picture is that of a key, perhaps stored in another way or cut a little.

        It is if it is less than half as far from it as the nearest unrelated pictures are from either. Arguments as for
        :meth:`score`; only keys of whole images can be.

        Returns:
            (N,) bool.
        """
        width = self.cohort.shape[1]
        distances = torch.linalg.vector_norm(memory.table[numbers][:, :width] - query[-1, :width], dim=1)
        usual = torch.minimum(self._levels[numbers, 0], level[-1, 0])
        shows_whole = torch.from_numpy(np.isin(memory.kinds[numbers.numpy()], _WHOLES))
        return torch.logical_and(distances < _SAME * usual, shows_whole)

    def level(self, keys: Tensor) -> Tensor:
        """Mean and standard deviation of the distances of keys (..., D) to the nearest of the cohort, (..., 2)."""
        flat = keys.reshape(-1, keys.shape[-1])[:, : self.cohort.shape[1]]
        return levels(torch.cdist(flat, self.cohort), self._count).reshape(*keys.shape[:-1], 2)
