"""An array that grows at its end."""

from __future__ import annotations

from typing import Any

import numpy as np


class Column:
    """An array of numbers that grows."""

    def __init__(self, dtype: Any) -> None:
        self._buffer = np.empty(0, dtype)
        self._used = 0

    @property
    def values(self) -> np.ndarray[Any, Any]:
        """Its numbers: a view, which may be changed in place."""
        return self._buffer[: self._used]

    def fork(self) -> Column:
        """A column that begins with a copy of these numbers."""
        fork = Column(self._buffer.dtype)
        fork.extend(self.values)
        return fork

    def extend(self, values: np.ndarray[Any, Any]) -> None:
        """Append values."""
        needed = self._used + len(values)
        if needed > len(self._buffer):
            grown = np.empty(max(64, 2 * needed), self._buffer.dtype)
            grown[: self._used] = self.values
            self._buffer = grown
        self._buffer[self._used : needed] = values
        self._used = needed
