"""The right answers in somebody's batch, whatever they are made of."""

from __future__ import annotations

from typing import Any

from .batch import column, of_length


def targets_of(batch: dict[str, Any], samples: int, owner: object) -> list[list[str]]:
    """The right answers of each sample, as texts; none where the batch has none for it.

    Args:
        batch: The batch.
        samples: How many samples it has.
        owner: Whoever reads them, for messages.

    Raises:
        ReasonEditError: There are some, but not as many.
    """
    if batch.get("targets") is None:
        return [[] for _ in range(samples)]
    found = [texts_of(value) for value in column(batch, "targets", owner)]
    of_length(found, samples, "targets", "answers")
    return found


def text_of(value: Any) -> str | None:
    """An id, a group or the like as a text; what holds one value (a tensor, an array) as that value."""
    value = _plain(value)
    return None if value is None else str(value)


def texts_of(value: Any) -> list[str]:
    """Choices, right answers or the like as texts."""
    value = _plain(value)
    values = value if isinstance(value, (list, tuple)) else [value]
    return [text for text in map(text_of, values) if text is not None]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
