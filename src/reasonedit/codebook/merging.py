"""Which entries are keys, and which merged into one (section 3 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .column import Column
from .key_table import KeyTable
from .neighbours import NeighbourSearch
from .radius import REACH, merges


class Merging:
    """Numbered entries, each of which becomes a key or merges into a key that it nearly coincides with.

    The result depends only on the entries that count and on their order, also after some were taken out again.

    An entry merges into the first key that it may merge into, of whatever kind. Codebooks of earlier versions keep
    their rule: there it merges into the nearest such key of its own kind.

    Args:
        merge: Whether near entries merge; else only equal ones of one kind do.
        across_kinds: Whether an entry may merge into a key of another kind.

    Attributes:
        table: The entries' keys by number: (M, D).
        kinds: The kind of each entry: (M,) uint8.
        kinds_held: By the number of a key the kinds of all entries that are part of it, as the sum of ``1 << kind``:
            (M,) uint8.
        radii: The radius of each entry by itself: (M,) float32.
        reach: The radius of each entry with those that merged into it: (M,) float32.
        founder: The key that each entry is part of: (M,) int64.
        is_key: Whether an entry is a key: (M,) bool.
        counts: Whether an entry counts: (M,) bool.
        members: The entries that merged into a key, by key.
    """

    def __init__(self, merge: bool, across_kinds: bool = True) -> None:
        self.merge, self.across_kinds = merge, across_kinds
        self.table = KeyTable()
        self.kinds_held = Column(np.uint8)
        self.kinds, self.radii, self.reach = Column(np.uint8), Column(np.float32), Column(np.float32)
        self.founder, self.is_key, self.counts = Column(np.int64), Column(np.bool_), Column(np.bool_)
        self.members: dict[int, list[int]] = {}
        self._search = NeighbourSearch()
        self._digests: dict[bytes, int] | None = {}

    def fork(self) -> Merging:
        """Another that begins as this one is and goes on by itself; the keys are shared."""
        self._prepare()
        fork = Merging(self.merge, self.across_kinds)
        fork.table, fork._search = self.table.fork(), self._search.fork()
        fork.kinds, fork.kinds_held = self.kinds.fork(), self.kinds_held.fork()
        fork.radii, fork.reach = self.radii.fork(), self.reach.fork()
        fork.founder, fork.is_key, fork.counts = self.founder.fork(), self.is_key.fork(), self.counts.fork()
        fork.members = {key: list(numbers) for key, numbers in self.members.items()}
        fork._digests = dict(self._digests or {})
        return fork

    def extend(self, kinds: np.ndarray[Any, Any], radii: np.ndarray[Any, Any]) -> None:
        """Describe the next entries, whose keys are in the table already. They do not count yet."""
        self.kinds.extend(kinds)
        self.kinds_held.extend(np.left_shift(1, kinds).astype(np.uint8))
        self.radii.extend(radii)
        self.reach.extend(radii)
        self.founder.extend(np.full(len(kinds), -1))
        self.is_key.extend(np.zeros(len(kinds), np.bool_))
        self.counts.extend(np.zeros(len(kinds), np.bool_))

    def add(self, numbers: range) -> None:
        """Let entries count that come after all that do."""
        self._prepare()
        self.counts.values[numbers.start : numbers.stop] = True
        with_radius = [number for number in numbers if self.merge and self.radii.values[number] > 0]
        near = dict[int, Tensor]()
        if with_radius:
            reach = [REACH * float(self.radii.values[number]) for number in with_radius]
            found = self._search.within_each(self.table[torch.tensor(with_radius)], reach)
            near = dict(zip(with_radius, found, strict=True))
        for number in numbers:
            self._place(number, near.get(number))

    def set_counts(self, numbers: range, counts: bool) -> None:
        """Let entries count that did not, in their own place, or no longer count."""
        self._prepare()
        self.counts.values[numbers.start : numbers.stop] = counts
        region = self._region(numbers)
        assert self._digests is not None
        for number in region:
            self.is_key.values[number] = False
            self.members.pop(number, None)
            self.reach.values[number] = self.radii.values[number]
            self.kinds_held.values[number] = 1 << int(self.kinds.values[number])
            name = self._digest(number)
            if self._digests.get(name) == number:
                del self._digests[name]
        for number in sorted(region):
            if self.counts.values[number]:
                self._place(number)

    @property
    def settled(self) -> np.ndarray[Any, Any]:
        """The key that each entry is part of, -1 for an entry that does not count: (M,) int64."""
        return np.where(self.counts.values, self.founder.values, -1)

    def settle(self, founders: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> None:
        """Take over an earlier result for the first n entries.

        Args:
            founders: Their :attr:`settled`: (n,) int64.
            counts: Whether each of them counts: (n,) bool.
        """
        count = len(founders)
        self.founder.values[:count], self.counts.values[:count] = founders, counts
        own = founders == np.arange(count)
        self.is_key.values[:count] = own & counts
        for number in np.flatnonzero(~own & counts).tolist():
            key = int(founders[number])
            self._join(number, key, float((self.table[number] - self.table[key]).norm()))
        self._digests = None

    def nearby(self, key: Tensor, distance: float, kind: int | None = None) -> Tensor:
        """Entries that count and may lie within a distance of a key, of one kind or any; none that does is left out."""
        self._prepare()
        return self._filter(self._search.within(key, distance), kind)

    def _filter(self, found: Tensor, kind: int | None) -> Tensor:
        """Those of some entries that count, of one kind or any."""
        rows = found.numpy()
        fits = self.counts.values[rows]
        return torch.from_numpy(rows[fits if kind is None else fits & (self.kinds.values[rows] == kind)])

    def _prepare(self) -> None:
        """Build what only writing needs, when it is first needed."""
        if len(self.table):
            self._search.update(self.table)
        if self._digests is None:
            self._digests = {self._digest(n): n for n in np.flatnonzero(self.is_key.values).tolist()}

    def _place(self, number: int, near: Tensor | None = None) -> None:
        """Make an entry a key, or part of one; ``near`` are all entries within its reach, where they are known."""
        assert self._digests is not None
        name = self._digest(number)
        same, found = self._digests.get(name), None
        if self.merge and (same is None or self._compares_all):
            found = self._find_key(number, near)
        if same is not None and (found is None or same <= found[0]):
            found = same, 0.0
        if found is not None:
            self._join(number, *found)
            return
        self.founder.values[number] = number
        self.is_key.values[number] = True
        self._digests[name] = number

    @property
    def _compares_all(self) -> bool:
        """Whether an entry is compared with keys of all kinds: with merging off only equal ones of one kind are one."""
        return self.merge and self.across_kinds

    def _join(self, number: int, key: int, distance: float) -> None:
        self.founder.values[number] = key
        self.members.setdefault(key, []).append(number)
        self.kinds_held.values[key] |= 1 << int(self.kinds.values[number])
        reach = self.reach.values
        reach[key] = max(float(reach[key]), distance + float(self.radii.values[number]))

    def _find_key(self, number: int, near: Tensor | None) -> tuple[int, float] | None:
        """The key that an entry merges into by its radius, and its distance; ``near`` as for :meth:`_place`."""
        radius = float(self.radii.values[number])
        if radius <= 0:
            return None
        key, kind = self.table[number], None if self._compares_all else int(self.kinds.values[number])
        rows = self.nearby(key, REACH * radius, kind) if near is None else self._filter(near, kind)
        rows = rows[torch.from_numpy(self.is_key.values[rows.numpy()])]
        if not len(rows):
            return None
        distances = (self.table[rows] - key).norm(dim=1)
        order = range(len(rows)) if self._compares_all else distances.argsort(stable=True).tolist()
        for i in order:
            row, distance = int(rows[i]), float(distances[i])
            if merges(radius, float(self.reach.values[row]), distance):
                return row, distance
        return None

    def _region(self, numbers: Sequence[int]) -> set[int]:
        """All entries whose merging the given ones can affect: those near them, those near these, and so on.

        An entry is only compared with keys within REACH times its radius, and each key is an entry. So an entry that no
        steps of that length link to the given ones is never compared with them, nor with anything that was.
        """
        region, frontier = set(numbers), list(numbers)
        radii = self.radii.values
        widest = float(radii.max()) if self.merge and len(radii) else 0.0
        while frontier:
            number = frontier.pop()
            key, own = self.table[number], float(radii[number]) if self.merge else 0.0
            kind = None if self._compares_all else int(self.kinds.values[number])
            rows = self.nearby(key, REACH * widest, kind)
            distances = (self.table[rows] - key).norm(dim=1).numpy()
            theirs = radii[rows.numpy()] if self.merge else np.zeros(len(rows), np.float32)
            linked = distances <= REACH * np.maximum(own, theirs) * (1 + 1e-4)
            near = [*rows[torch.from_numpy(linked)].tolist(), *self.members.get(number, ())]
            near += [n for n in (int(self.founder.values[number]),) if n >= 0 and self.counts.values[n]]
            new = [n for n in dict.fromkeys(near) if n not in region]
            region.update(new)
            frontier += new
        return region

    def _digest(self, number: int) -> bytes:
        """Equal for equal keys, of one kind where kinds do not merge."""
        kind = b"" if self._compares_all else bytes([int(self.kinds.values[number])])
        return hashlib.blake2b(self.table[number].numpy().tobytes(), digest_size=16, key=kind).digest()
