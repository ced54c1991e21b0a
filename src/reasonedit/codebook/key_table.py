"""The keys of all entries by number, in memory or in mapped files. They are only ever appended to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class KeyTable:
    """All keys that were ever written, (M, D) float32, numbered in the order in which they came.

    Keys that were read from files stay there (the files are mapped, not copied). Later keys are kept in memory.
    """

    def __init__(self) -> None:
        self._mapped: list[Tensor] = []
        self._starts = np.zeros(1, np.int64)
        self._buffer = torch.empty(0, 0)
        self._used = 0

    def fork(self) -> KeyTable:
        """A table that begins with these keys, which are shared and not copied; what either appends is its own."""
        fork = KeyTable()
        fork._mapped, fork._starts = list(self._mapped), self._starts
        fork.map(self._buffer[: self._used])  # rows that are there never change
        return fork

    def __len__(self) -> int:
        return int(self._starts[-1]) + self._used

    @property
    def shape(self) -> tuple[int, int]:
        """(M, D)."""
        return len(self), self.width or 0

    @property
    def width(self) -> int | None:
        """D; ``None`` while there is no key."""
        if self._mapped:
            return int(self._mapped[0].shape[1])
        return int(self._buffer.shape[1]) if self._used else None

    def map(self, keys: Tensor) -> None:
        """Add keys that lie in a file, before any is appended."""
        assert not self._used
        if len(keys):
            self._mapped.append(keys)
            self._starts = np.append(self._starts, self._starts[-1] + len(keys))

    @torch.inference_mode(False)  # the buffer is changed later, also outside of that mode
    def append(self, keys: Tensor) -> None:
        """Add a copy of keys (n, D)."""
        needed = self._used + len(keys)
        if needed > len(self._buffer):
            grown = torch.empty(max(64, 2 * needed), keys.shape[1])
            if self._used:
                grown[: self._used] = self._buffer[: self._used]
            self._buffer = grown
        self._buffer[self._used : needed] = keys
        self._used = needed

    def __getitem__(self, wanted: Tensor | slice | int) -> Tensor:
        """Keys by number: a view for a single number or a range within one file, else a copy."""
        if isinstance(wanted, int):
            return self[wanted : wanted + 1][0]
        if isinstance(wanted, slice):
            start, stop, step = wanted.indices(len(self))
            assert step == 1
            chunk = int(np.searchsorted(self._starts, start, side="right")) - 1
            inside = self._chunk(chunk)
            first = start - int(self._starts[chunk])
            if stop <= start or stop - int(self._starts[chunk]) <= len(inside):
                return inside[first : first + max(0, stop - start)]
            wanted = torch.arange(start, stop)
        if not self._mapped:
            return self._buffer[wanted]
        numbers = wanted.numpy()
        chunks = np.searchsorted(self._starts, numbers, side="right") - 1
        keys = torch.empty(len(numbers), self.width or 0)
        for chunk in np.unique(chunks):
            rows = torch.from_numpy(np.flatnonzero(chunks == chunk))
            keys[rows] = self._chunk(int(chunk))[wanted[rows] - int(self._starts[chunk])]
        return keys

    def _chunk(self, number: int) -> Tensor:
        return self._mapped[number] if number < len(self._mapped) else self._buffer[: self._used]


class KeyView:
    """Some keys of a table in their order, indexed from 0."""

    def __init__(self, table: KeyTable, numbers: Tensor) -> None:
        self._table = table
        self._numbers = numbers
        self._all = len(numbers) == len(table)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return len(self._numbers), self._table.width or 0

    def __getitem__(self, wanted: Tensor | slice | int) -> Tensor:
        if self._all:
            return self._table[wanted]
        if isinstance(wanted, int):
            return self._table[int(self._numbers[wanted])]
        return self._table[self._numbers[wanted]]
