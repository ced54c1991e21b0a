"""Tables that fit the terminal: columns that do not fit beside the first go into a table of their own below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_TITLES = 24
"""Characters that the names of rows are given at least, where they are that long; longer ones are wrapped."""


@dataclass(frozen=True)
class Column:
    """A column of texts, one for each row; line breaks are kept."""

    name: str
    cells: Sequence[str]

    @property
    def width(self) -> int:
        """Its widest line, and what stands between it and the next."""
        return 1 + max(len(line) for text in (self.name, *self.cells) for line in text.split("\n"))


def print_table(
    console: Console, heading: str, names: Sequence[str], groups: Sequence[Sequence[Column]], caption: str = ""
) -> None:
    """Print a table, in parts where it is wider than the console.

    Args:
        console: Where to.
        heading: Its title.
        names: The names of its rows.
        groups: Its columns, those together that are read together: a part ends between groups where it can.
        caption: What is said below it.
    """
    longest = max((len(name) for name in names), default=0)
    parts = split(groups, console.width - min(longest, _TITLES) - 3)
    for i, columns in enumerate(parts):
        table = Table(
            title=escape(heading) if i == 0 else None,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=0,
        )
        table.add_column("", overflow="fold")
        for column in columns:
            table.add_column(escape(column.name), justify="right", no_wrap=True)
        for row, name in enumerate(names):
            table.add_row(escape(name), *(escape(column.cells[row]) for column in columns))
        console.print(table)
    if caption:
        console.print(caption, markup=False, highlight=False, style="dim")


def split(groups: Sequence[Sequence[Column]], width: int) -> list[list[Column]]:
    """The columns of each part, none wider than ``width`` characters unless a column alone is.

    >>> wide = Column("x", ["123456789"])
    >>> [len(part) for part in split([[wide, wide], [wide], [wide]], 30)]
    [3, 1]
    >>> [len(part) for part in split([[wide, wide], [wide, wide]], 30)]
    [2, 2]
    """
    parts: list[list[Column]] = [[]]
    for group in groups:
        if sum(column.width for column in (*parts[-1], *group)) > width and parts[-1]:
            parts.append([])
        for column in group:
            if sum(one.width for one in (*parts[-1], column)) > width and parts[-1]:
                parts.append([])
            parts[-1].append(column)
    return [part for part in parts if part]
