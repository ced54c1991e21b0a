"""Right answers and names in somebody's batch, as texts: they may be texts, numbers, tensors or arrays."""

from __future__ import annotations

from typing import Any

from .batch import column, of_length


def targets_of(batch: dict[str, Any], samples: int, owner: object) -> list[list[str]]:
    """The right answers of each sample, as texts; an empty list for a sample without any.

    Args:
        batch: The batch.
        samples: How many samples it has.
        owner: The callback that reads them, for messages.

    Raises:
        InputError: Their number is another than that of the samples.
    """
    if batch.get("targets") is None:
        return [[] for _ in range(samples)]
    targets = [texts_of(value) for value in column(batch, "targets", owner)]
    of_length(targets, samples, "targets", "answers")
    return targets


def text_of(value: Any) -> str | None:
    """An id, a group or the like as a text; a tensor or an array with one value counts as that value.

    Half of a surrogate pair, as Python has it in a name of a file that is no UTF-8, is spelt out: no file takes it.
    """
    value = _plain(value)
    return None if value is None else str(value).encode("utf-8", "backslashreplace").decode()


def texts_of(value: Any) -> list[str]:
    """Choices, right answers or the like as texts."""
    value = _plain(value)
    values = value if isinstance(value, (list, tuple)) else [value]
    return [text for text in map(text_of, values) if text is not None]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
