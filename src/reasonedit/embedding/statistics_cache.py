"""Statistics are kept on disk: measuring them costs some thousand passes of the vision part."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable, Sequence

from reasonedit.errors import ReasonEditError
from reasonedit.util.cache import cache_folder

from .statistics import Statistics, statistics_of, tensors_of

_log = logging.getLogger(__name__)


def load_or_measure(made_by: Sequence[str], measure: Callable[[], Statistics]) -> Statistics:
    """Statistics from the cache, or measured now and put there.

    Args:
        made_by: All that they depend on, the code included.
        measure: Measures them.
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
    statistics = measure()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{name}.{uuid.uuid4().hex}")
        save_file({n: t.contiguous() for n, t in tensors_of(statistics).items()}, part)
        part.replace(path)
    except (OSError, SafetensorError) as error:  # they are measured again next time
        _log.info("The cache '%s' cannot be written: %s", path.parent, error)
    return statistics
