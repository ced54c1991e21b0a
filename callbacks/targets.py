"""The right answers in somebody's batch, whatever they are made of."""

from __future__ import annotations

from typing import Any


def targets_of(batch: dict[str, Any], samples: int) -> list[list[str]]:
    """The right answers of each sample, as texts; none where the batch has none for it.

    Args:
        batch: The batch.
        samples: How many samples it has.
    """
    values = batch.get("targets")
    return [[] for _ in range(samples)] if values is None else [_texts(value) for value in values]


def text_of(value: Any) -> str | None:
    """An id, a group or the like as a text; what holds one value (a tensor, an array) as that value."""
    value = _plain(value)
    return None if value is None else str(value)


def _texts(value: Any) -> list[str]:
    value = _plain(value)
    values = value if isinstance(value, (list, tuple)) else [value]
    return [text for text in map(text_of, values) if text is not None]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
