"""How much fits into memory at once, and what happens when it did not."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import torch

from reasonedit.errors import ReasonEditError

_SAID = ("allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_log = logging.getLogger(__name__)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device."""
    if device.type == "cuda":
        # What torch holds in reserve without using it is free for torch.
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reserve
    free = int(psutil.virtual_memory().available)
    try:  # in a container less may be allowed than there is
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # there is no limit, or no such file
        return free
    return min(free, max(limit - used, 0))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _SAID)


def run_in_parts(rows: Sequence[int], size: int, run: Callable[[list[int]], None]) -> None:
    """Run on parts of some rows, one after the other; where memory runs out, halve the parts and go on.

    Args:
        rows: The rows.
        size: How many at once, to begin with.
        run: What is run on each part; on a part for which it failed it is run again.

    Raises:
        ReasonEditError: A single row is too much.
    """
    start = 0
    while start < len(rows):
        part = list(rows[start : start + size])
        try:
            run(part)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(part) == 1:
                raise ReasonEditError(
                    "Memory ran out for a single image: use a smaller model or image, bfloat16, or another device."
                ) from error
        else:
            start += len(part)
            continue
        # Only now, with the error and the frames it held gone, is what they held free.
        size = len(part) // 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _log.info("Memory ran out for %d images at once: going on with %d.", len(part), size)
