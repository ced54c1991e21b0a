"""Where commands print."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from reasonedit.safe_text import to_safe_text


class Screen(Console):
    """A console on which a text that somebody else wrote can do nothing: see :mod:`reasonedit.safe_text`.

    Line breaks stay, as tables need them: a stored text that is to be one line passes :func:`to_safe_text` before.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does it."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(to_safe_text(segment.text, lines=True), segment.style)

    def say(self, text: str) -> None:
        """Print one line that may quote a text that somebody else wrote."""
        self.print(to_safe_text(text), markup=False, highlight=False, soft_wrap=True)


def count_edits(count: int) -> str:
    """So many edits, in words: "1 edit"."""
    return f"{count} {'edit' if count == 1 else 'edits'}"
