"""Numbers that are not finite: an error where they arise, and never an answer, a key or an edit."""

from __future__ import annotations

import torch
from torch import Tensor

from reasonedit.errors import InputError


def check_finite(tensor: Tensor, what: str) -> Tensor:
    """Check that all numbers of a tensor are finite.

    Args:
        tensor: Any numbers.
        what: What they are, at the beginning of a sentence.

    Returns:
        The tensor.

    Raises:
        InputError: Some are not.
    """
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(
            f"{what} are not finite numbers: the model overflows or its weights are damaged. Load it in bfloat16 or "
            "float32, or fetch its weights again."
        )
    return tensor
