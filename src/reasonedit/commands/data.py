"""``reasonedit data``: look at a data set before it is used."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from reasonedit.registry import names


def main(argv: Sequence[str]) -> int:
    """Check a data set.

    Returns:
        0, or 1 where a row cannot be used.
    """
    parser = argparse.ArgumentParser(prog="reasonedit data", description="Look at a data set before it is used.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="read every row and open every image; report each row that cannot be used",
        description="Read every row and open every image; report each row that cannot be used, with its number.",
        epilog="Example: reasonedit data check corrections.jsonl --images photos",
    )
    check.add_argument("path", help="your own file (.jsonl, .parquet, .json), or the folder of a published data set")
    check.add_argument("--images", help="folder that the images' paths start from (of A-OKVQA: that of COCO 2017)")
    check.add_argument(
        "--format",
        choices=("own", "rationalevqa", *(name for name in names("datasets") if name not in ("world", "linked"))),
        default="own",
        help="what it is (default: own)",
    )
    check.add_argument("--split", help="of A-OKVQA train or val (default), of a benchmark train or eval")
    check.add_argument(
        "--subset", help="of RationaleVQA AOKVQA (default) or FVQA, of MMKE-Bench entity, visual or user"
    )
    arguments = parser.parse_args(argv)
    from .check_data import check_data

    return check_data(arguments)
