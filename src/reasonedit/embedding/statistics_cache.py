"""Statistics on disk: taken once they are not taken again, as they cost some thousand passes of the vision part."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from reasonedit.cache import cache_folder
from reasonedit.errors import ReasonEditError

from .vision import Statistics

_log = logging.getLogger(__name__)


def tensors_of(statistics: Statistics) -> dict[str, Tensor]:
    """Statistics as tensors, to be stored."""
    return {
        "mean": statistics.mean,
        "projection": statistics.projection,
        "scale": torch.tensor(statistics.scale, dtype=torch.float64),
        "cohort": statistics.cohort,
    }


def statistics_of(tensors: Mapping[str, Tensor]) -> Statistics | None:
    """Statistics from what :func:`tensors_of` made; none where nothing was stored.

    Raises:
        ReasonEditError: They are none.
    """
    if not tensors:
        return None
    expected = {"mean": 1, "projection": 2, "scale": 0, "cohort": 2}
    fit = all(name in tensors and tensors[name].ndim == axes for name, axes in expected.items())
    if not fit or len(tensors["projection"]) != len(tensors["mean"]):
        raise ReasonEditError(
            "These statistics are not what the embedding needs: 'reasonedit codebook verify' says what is damaged."
        )
    return Statistics(tensors["mean"], tensors["projection"], float(tensors["scale"]), tensors["cohort"])


def load_or_take(made_by: Sequence[str], take: Callable[[], Statistics]) -> Statistics:
    """Statistics from the cache, or taken now and put there.

    Args:
        made_by: All that they depend on, the code included.
        take: Takes them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    name = hashlib.sha256("\n".join(made_by).encode()).hexdigest()[:24]
    path = cache_folder() / "statistics" / f"{name}.safetensors"
    try:
        stored = statistics_of(load_file(path))
    except (OSError, SafetensorError, ReasonEditError):
        stored = None
    if stored is not None:
        return stored
    statistics = take()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{name}.{uuid.uuid4().hex}")
        save_file({n: t.contiguous() for n, t in tensors_of(statistics).items()}, part)
        part.replace(path)
    except (OSError, SafetensorError) as error:  # they are taken again next time
        _log.info("The cache '%s' cannot be written: %s", path.parent, error)
    return statistics
