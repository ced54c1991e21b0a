"""What the ranks of a run tell each other."""

from __future__ import annotations

import lightning as L
import torch
from torch import Tensor

from reasonedit.errors import ReasonEditError


def exchange(trainer: L.Trainer, payload: bytes) -> list[bytes]:
    """Give every rank what each has to say, as tensors of one size.

    All ranks must call this at the same time.

    Args:
        trainer: The trainer.
        payload: What this rank says; ranks may say more or less.

    Returns:
        What each rank said, in the order of the ranks.

    Raises:
        ReasonEditError: Another rank is gone.
    """
    if trainer.world_size == 1:
        return [payload]
    device = trainer.strategy.root_device
    sizes = _gathered(trainer, torch.tensor([len(payload)], device=device))[:, 0].tolist()
    padded = torch.zeros(max(1, *sizes), dtype=torch.uint8, device=device)
    if payload:
        padded[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8).to(device)
    rows = _gathered(trainer, padded).cpu()
    return [bytes(row[:size].numpy()) for row, size in zip(rows, sizes, strict=True)]


def _gathered(trainer: L.Trainer, tensor: Tensor) -> Tensor:
    try:
        return trainer.strategy.all_gather(tensor)
    except RuntimeError as error:  # the process group's errors have no base of their own
        reason = str(error).splitlines()[0]
        raise ReasonEditError(
            f"Rank {trainer.global_rank} cannot reach the other ranks any more ({reason}): one of them has ended. What "
            "was edited until then is kept; its own message says why it ended."
        ) from error
