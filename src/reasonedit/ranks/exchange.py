"""What all ranks do at the same time: tell each other something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
import torch
from torch import Tensor

from reasonedit.errors import UnavailableError


def exchange(trainer: L.Trainer, payload: bytes) -> list[bytes]:
    """Give every rank the payloads of all, as tensors of one size.

    All ranks must call this at the same time.

    Args:
        trainer: The trainer.
        payload: The payload of this rank; the ranks' payloads may differ in length.

    Returns:
        The payload of each rank, in the order of the ranks.

    Raises:
        UnavailableError: Another rank is gone.
    """
    if trainer.world_size == 1:
        return [payload]
    device = trainer.strategy.root_device
    with collective(trainer):
        sizes = _gather(trainer, torch.tensor([len(payload)], device=device))[:, 0].tolist()
        padded = torch.zeros(max(1, *sizes), dtype=torch.uint8, device=device)
        if payload:
            padded[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8).to(device)
        rows = _gather(trainer, padded).cpu()
    return [bytes(row[:size].numpy()) for row, size in zip(rows, sizes, strict=True)]


@contextmanager
def collective(trainer: L.Trainer) -> Iterator[None]:
    """Surround a collective operation: all ranks run it at the same time, and none can without the others.

    Raises:
        UnavailableError: Another rank is gone.
    """
    try:
        yield
    except RuntimeError as error:  # the errors of process groups have no base class of their own
        if trainer.world_size == 1:
            raise
        reason = str(error).splitlines()[0]
        raise UnavailableError(describe_lost_ranks(trainer.global_rank, reason)) from error


def describe_lost_ranks(rank: int, reason: str) -> str:
    """A message of a rank that cannot reach the others any more."""
    return (
        f"Rank {rank} cannot reach the other ranks any more ({reason}): one of them has ended or hangs, and so the run "
        "ends. What was edited until then is kept; the message of the one that ended first says why."
    )


def _gather(trainer: L.Trainer, tensor: Tensor) -> Tensor:
    return trainer.strategy.all_gather(tensor)
