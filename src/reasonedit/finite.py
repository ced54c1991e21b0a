"""Numbers that are not finite are an error where they arise, and never an answer, a key or an edit."""

from __future__ import annotations

import torch
from torch import Tensor

from reasonedit.errors import ReasonEditError


def finite(tensor: Tensor, what: str) -> Tensor:
    """The tensor, if all of its numbers are finite.

    Args:
        tensor: Any numbers.
        what: What they are, to begin a sentence with.

    Raises:
        ReasonEditError: Some are not; says which.
    """
    if not bool(torch.isfinite(tensor).all()):
        raise ReasonEditError(
            f"{what} are not finite numbers: the model overflows or its weights are damaged. Load it in bfloat16 or "
            "float32, or fetch its weights anew."
        )
    return tensor
