"""A question to whoever sits at the terminal, before something is lost."""

from __future__ import annotations

import sys

from rich.markup import escape

from reasonedit.errors import UnavailableError

from .screen import Screen


def confirm(question: str) -> bool:
    """Ask for a yes or no; anything but a yes is a no.

    Args:
        question: The question.

    Raises:
        UnavailableError: Nobody can be asked: standard input is no terminal.
    """
    if sys.stdin is None or not sys.stdin.isatty():  # it is None where it was closed
        raise UnavailableError(f"{question} There is no terminal to ask at: confirm with --yes. Nothing was changed.")
    try:
        reply = Screen(stderr=True, highlight=False, soft_wrap=True).input(escape(f"{question} [y/N] "))
    except EOFError:
        return False
    return reply.strip().casefold() in ("y", "yes")
