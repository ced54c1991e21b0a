"""Devices: the type they compute fastest in, how much fits into their memory, and what happens when it runs out."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import torch

from reasonedit.errors import UnavailableError

_OUT_OF_MEMORY = ("allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_log = logging.getLogger(__name__)


def best_dtype() -> torch.dtype:
    """bfloat16 where the machine multiplies it in hardware (a recent GPU; AVX-512 BF16 or AMX), else float32."""
    if torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        features = torch.cpu.get_capabilities()
        able = bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return torch.bfloat16 if able else torch.float32


def free_bytes(device: torch.device) -> int:
    """Free memory of a device, in bytes."""
    if device.type == "cuda":
        # What torch holds in reserve without using it is free for torch.
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reserve
    free = int(psutil.virtual_memory().available)
    try:  # a container may be allowed less than the machine has
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # there is no limit, or no such file
        return free
    return min(free, max(limit - used, 0))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def run_in_parts(rows: Sequence[int], size: int, run: Callable[[list[int]], None]) -> None:
    """Run on parts of some rows, one part after the other. Where memory runs out, halve the parts and go on.

    Args:
        rows: The rows.
        size: How many rows a part has at first.
        run: Is called with each part, and again with the halves of a part for which memory ran out.

    Raises:
        UnavailableError: Memory does not suffice for a single row.
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
                raise UnavailableError(
                    "Memory ran out for a single image: use a smaller model or image, bfloat16, or another device."
                ) from error
        else:
            start += len(part)
            continue
        # Memory is free only now that the error and the frames it held are gone.
        size = len(part) // 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _log.info("Memory ran out for %d images at once: going on with %d.", len(part), size)
