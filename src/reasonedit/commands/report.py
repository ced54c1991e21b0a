"""``reasonedit report``: one page of a run, or of the results of experiments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .screen import Screen

_console = Screen()


def main(argv: Sequence[str]) -> int:
    """Write the page."""
    arguments = _parser().parse_args(argv)
    from reasonedit.report import write_page, write_run_page
    from reasonedit.traces import PAGE, is_run

    from .run_page import keeping_erasures_out

    folder = arguments.results
    out = arguments.out or folder / PAGE
    if is_run(folder):
        with keeping_erasures_out(folder):
            page = write_run_page(folder, out)
    else:
        page = write_page(folder, out)
    _console.print(f"Written to {page}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reasonedit report",
        description="Make one page, which opens offline. Of a run: which edits took, which did not and why, with their "
        "pictures, evidence and facts. Of experiments: tables with intervals, curves, and a gallery of edits, queries "
        "and failures.",
    )
    parser.add_argument(
        "results", type=Path, help="the folder of a run, or the results folder of reasonedit experiment"
    )
    parser.add_argument("--out", type=Path, default=None, help="the HTML file (default: report.html in that folder)")
    return parser
