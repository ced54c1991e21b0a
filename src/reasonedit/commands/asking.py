"""A question to whoever sits at the terminal, before something is lost."""

from __future__ import annotations

import sys

from rich.markup import escape

from reasonedit.errors import ReasonEditError

from .screen import Screen


def agreed(question: str) -> bool:
    """Ask for a yes or no; whatever is no yes is a no.

    Args:
        question: The question.

    Raises:
        ReasonEditError: Nobody can be asked: standard input is no terminal.
    """
    if not sys.stdin.isatty():
        raise ReasonEditError(f"{question} Nobody can be asked here: --yes says so. Nothing was changed.")
    try:
        said = Screen(stderr=True, highlight=False, soft_wrap=True).input(escape(f"{question} [y/N] "))
    except EOFError:
        return False
    return said.strip().casefold() in ("y", "yes")
