"""Statistics that were taken once are not taken again: they cost some thousand passes of the vision part."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from reasonedit.cache import cache_folder, code_version
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
    shapes = {name: tuple(tensors[name].shape) if name in tensors else None for name in ("mean", "projection", "scale")}
    mean, projection, cohort = shapes["mean"], shapes["projection"], tensors.get("cohort")
    fit = mean is not None and projection is not None and len(mean) == 1 and len(projection) == 2
    if not fit or projection[0] != mean[0] or shapes["scale"] != () or cohort is None or cohort.ndim != 2:
        raise ReasonEditError("The statistics of the codebook are none: 'reasonedit codebook verify' says more.")
    return Statistics(tensors["mean"], tensors["projection"], float(tensors["scale"]), tensors["cohort"])


def kept(made_by: Sequence[str], take: Callable[[], Statistics]) -> Statistics:
    """Statistics from the cache, or taken now and put there.

    Args:
        made_by: All that they depend on beside the code.
        take: Takes them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    import reasonedit.data.world
    import reasonedit.embedding

    told = [*made_by, code_version(reasonedit.embedding, reasonedit.data.world)]
    name = hashlib.sha256("\n".join(told).encode()).hexdigest()[:24]
    path = cache_folder() / "statistics" / f"{name}.safetensors"
    try:
        there = statistics_of(load_file(path))
    except (OSError, SafetensorError, ReasonEditError):
        there = None
    if there is not None:
        return there
    found = take()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{name}.{uuid.uuid4().hex}")
        save_file({n: t.contiguous() for n, t in tensors_of(found).items()}, part)
        part.replace(path)
    except (OSError, SafetensorError) as error:  # they are taken again next time
        _log.info("The cache '%s' cannot be written: %s", path.parent, error)
    return found
