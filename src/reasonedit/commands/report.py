"""``reasonedit report``: one page of the results of experiments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reasonedit.report import write_page

from .screen import Screen

_console = Screen()


def main(argv: Sequence[str]) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(
        prog="reasonedit report",
        description="Make one page, which opens offline, of what reasonedit experiment wrote: tables with intervals, "
        "curves, a gallery of edits, queries and failures.",
    )
    parser.add_argument("results", type=Path, help="the results folder")
    parser.add_argument("--out", type=Path, default=None, help="the HTML file (default: report.html in that folder)")
    arguments = parser.parse_args(argv)
    page = write_page(arguments.results, arguments.out or arguments.results / "report.html")
    _console.print(f"Written to {page}", markup=False, highlight=False, soft_wrap=True)
    return 0
