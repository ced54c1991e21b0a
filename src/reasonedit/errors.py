"""What goes wrong, by what a caller can do about it."""

from __future__ import annotations

import importlib
from typing import Any

from reasonedit.shown import plain


class ReasonEditError(ValueError):
    """Something cannot be done. The message names the thing and says what to do.

    Args:
        message: One line; what it quotes of texts and names is shown by :func:`~reasonedit.shown.plain`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


class InputError(ReasonEditError):
    """What was given cannot be used: an edit, a question, a picture, a setting, a file. Give another one."""


class NotFoundError(ReasonEditError):
    """There is no edit, codebook, model or file of that name."""


class ConflictError(ReasonEditError):
    """What is there already does not go with what was asked for: an edit of the same id, a codebook in the folder."""


class MismatchError(ConflictError):
    """What was saved was made with another model or other settings than those it is used with."""


class UnavailableError(ReasonEditError):
    """It cannot be had or done here or now: a package, a disk, a network. The same call may work later or elsewhere."""


class LockedError(UnavailableError):
    """Somebody else is writing. Try again once they are done."""


def needed(module: str, extra: str) -> Any:
    """A module that only some need.

    Raises:
        UnavailableError: It is not installed; says how it is.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UnavailableError(f"'{module}' is not installed: pip install 'reasonedit[{extra}]'.") from error
