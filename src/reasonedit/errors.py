"""The one exception that a user is meant to read."""

from __future__ import annotations

import importlib
from typing import Any

from reasonedit.shown import plain


class ReasonEditError(ValueError):
    """Something in the input cannot be used. The message names the thing and says what to do.

    Args:
        message: One line; what it quotes of texts and names is shown by :func:`~reasonedit.shown.plain`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


def needed(module: str, extra: str) -> Any:
    """A module that only some need.

    Raises:
        ReasonEditError: It is not installed; says how it is.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ReasonEditError(f"'{module}' is not installed: pip install 'reasonedit[{extra}]'.") from error
