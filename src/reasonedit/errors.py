"""What goes wrong, by what a caller can do about it."""

from __future__ import annotations

import errno
import importlib
import importlib.util
from typing import Any

from reasonedit.safe_text import to_safe_text


class ReasonEditError(ValueError):
    """Something cannot be done. The message names the thing and says what to do.

    Args:
        message: One line. Texts that it quotes are shown by :func:`~reasonedit.safe_text.to_safe_text`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(to_safe_text(message))


class InputError(ReasonEditError):
    """What was given cannot be used: an edit, a question, a picture, a setting, a file. Give another one."""


class NotServedError(InputError):
    """It takes what is not given.

    A VLM behind an endpoint gives no weights, no layers, or no likelihoods of texts; a data set may have no samples to
    learn from but those that are tested.
    """


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


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, or the user's share of it."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


RUNS = ("jsonargparse", "matplotlib", "pyarrow", "tensorboard")
"""What runs and experiments take beside what editing and asking do; the extra is named 'runs'."""


def check_runs() -> None:
    """See that runs have all they take, before they begin: some of it is used only at the end.

    Raises:
        UnavailableError: Some of it is not installed; says how it is.
    """
    for module in RUNS:
        if importlib.util.find_spec(module) is None:
            raise _not_installed(module, "runs")


def needed(module: str, extra: str) -> Any:
    """A module that only some need.

    Raises:
        UnavailableError: It is not installed; says how it is.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _not_installed(module, extra) from error


def _not_installed(module: str, extra: str) -> UnavailableError:
    return UnavailableError(f"'{module.partition('.')[0]}' is not installed: pip install 'reasonedit[{extra}]'.")
