"""Where commands print: results to standard output, what is under way to standard error and only to a person there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from reasonedit.safe_text import to_safe_text

if TYPE_CHECKING:
    from rich.progress import Progress


class Screen(Console):
    """A console on which a text that somebody else wrote can do nothing: see :mod:`reasonedit.safe_text`.

    Line breaks stay, as tables need them: a stored text that is to be one line passes :func:`to_safe_text` before.

    Args:
        **options: Those of rich's console.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)  # which would show ``:key:`` in a text as a picture of a key

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does it."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(to_safe_text(segment.text, lines=True), segment.style)

    def say(self, text: str) -> None:
        """Print one line that may quote a text that somebody else wrote."""
        self.print(to_safe_text(text), markup=False, highlight=False, soft_wrap=True)

    def tell(self, text: str) -> None:
        """Print sentences, which may quote a text of others: at a terminal folded between words, elsewhere one line."""
        text = to_safe_text(text)
        words = text.lstrip()
        indent = len(text) - len(words)
        width = max(self.width - indent, 1) if self.is_terminal else cell_len(words)
        for line in Text(words).wrap(self, max(width, 1)):
            self.print(" " * indent + line.plain.rstrip(), markup=False, highlight=False, soft_wrap=True)


def waiting(text: str) -> AbstractContextManager[Any]:
    """Show that something is under way, at a terminal; elsewhere nothing is printed."""
    return Screen(stderr=True).status(Text(text))  # as it is: what rich reads as a style may be a name


def counting() -> Progress:
    """A bar that counts what is done, at a terminal; elsewhere a line a minute."""
    from reasonedit.util.progress_lines import progress_on

    return progress_on(Screen(stderr=True), transient=True)


def print_json(value: Any) -> None:
    """Print what a program reads, as JSON; texts of others are escaped as JSON escapes them."""
    Screen().out(json.dumps(value, indent=2, allow_nan=False), highlight=False)


def count_edits(count: int) -> str:
    """So many edits, in words: "1 edit"."""
    return f"{count} {'edit' if count == 1 else 'edits'}"
