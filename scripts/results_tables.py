"""The tables of the page of results whose figures are kept beside it, made from these figures.

A table stands between two comments: ``<!-- table NAME | ROW ROW … | METRIC METRIC … -->`` and ``<!-- end -->``, where
NAME is a file ``results/NAME.parquet`` beside the page (an experiment's ``summary.parquet``). ``METRIC`` shows a share,
``METRIC-`` its difference from the experiment's reference, with the interval where there is one. Whatever stands between
is replaced.

Use: scripts/results_tables.py [--check]
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from reasonedit.errors import InputError
from reasonedit.report.comparing import NAMES

PAGE = Path(__file__).parents[1] / "src/reasonedit/docs/results.md"
_MARKED = re.compile(
    r"(?P<head><!-- table (?P<name>\S+) \| (?P<rows>[^|]+?) \| (?P<metrics>[^|]+?) -->\n).*?(?P<end><!-- end -->)", re.S
)


def fill(text: str, folder: Path) -> str:
    """A page with its marked tables made from the figures in a folder.

    Raises:
        InputError: A table names a row or a metric that its figures do not have.
    """
    return _MARKED.sub(lambda m: f"{m['head']}{_table(folder, m['name'], m['rows'], m['metrics'])}{m['end']}", text)


def _table(folder: Path, name: str, rows: str, metrics: str) -> str:
    figures = {(line["row"], line["metric"]): line for line in pq.read_table(folder / f"{name}.parquet").to_pylist()}
    heads = [NAMES[m.rstrip("-")] + (", difference" if m.endswith("-") else "") for m in metrics.split()]
    lines = [["", *heads], ["---"] * (len(heads) + 1)]
    for row in rows.split():
        found = [figures.get((row, metric.rstrip("-"))) for metric in metrics.split()]
        known = [figure for figure in found if figure is not None]
        if len(known) < len(found):
            raise InputError(f"'{name}.parquet' does not have the row '{row}' with all of: {metrics}.")
        cells = [_show(figure, m.endswith("-")) for figure, m in zip(known, metrics.split(), strict=True)]
        lines.append([known[0]["title"], *cells])
    return "".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in line)}|\n" for line in lines)


def _show(figure: dict[str, Any], difference: bool) -> str:
    if not difference:
        return _share(figure["mean"])
    if figure["difference"] is None:
        return ""
    difference, ends = _share(figure["difference"], "+"), (figure["difference_low"], figure["difference_high"])
    return difference if None in ends else f"{difference} [{', '.join(map(_share, ends))}]"  # of few there is none


def _share(value: float, sign: str = "") -> str:
    """A share as the page writes it: three places, no zero before the point."""
    text = f"{value:{sign}.3f}".replace("0.", ".", 1)
    return ".000" if float(text) == 0 else text


def main() -> None:
    """Fill the tables in, or say that one is not as its figures have it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a table differs")
    text = PAGE.read_text()
    filled = fill(text, PAGE.parent / "results")
    if parser.parse_args().check:
        sys.exit(0 if filled == text else "A table of results.md is not as its figures have it: run this script.")
    PAGE.write_text(filled)


if __name__ == "__main__":
    main()
