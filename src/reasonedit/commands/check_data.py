"""``reasonedit data check``: every row of a data set that cannot be used, and why."""

from __future__ import annotations

import argparse
import difflib
from collections import Counter
from pathlib import Path

from rich.markup import escape
from rich.table import Column, Table

from reasonedit.data.editfile import COLUMNS, EditFile
from reasonedit.data.named import open_source
from reasonedit.data.pool import Pool
from reasonedit.data.rationale_vqa import HUB_ID, SUBSETS, RationaleVQA
from reasonedit.data.sample import BLANK, Sample
from reasonedit.errors import InputError
from reasonedit.metrics import normalise
from reasonedit.safe_text import to_safe_text

from .screen import Screen, counting

_console = Screen()


def check_data(arguments: argparse.Namespace) -> int:
    """Read every row, and report.

    Returns:
        0, or 1 where a row or a probe of one cannot be used.
    """
    pool = _open_pool(arguments)
    bad: list[tuple[int, str]] = []
    samples: dict[str, Sample] = {}
    rows_of_question: dict[tuple[Path | bytes, str], list[tuple[int, str]]] = {}
    rows = pool.read_samples(open_images=True)
    with counting() as bar:
        for number, sample in bar.track(rows, description="reading"):
            if isinstance(sample, Sample):
                samples[sample.id] = sample
                question = (sample.image, sample.question.strip().casefold())
                rows_of_question.setdefault(question, []).append((number, normalise(sample.answer)))
            else:
                bad.append((number, sample))  # the reason
        edits = [sample.to_edit(lambda _: BLANK) for sample in samples.values()]
        probes = list(bar.track(pool.unusable_probes(edits), description="opening the pictures of its probes"))
    if bad or probes:
        table = Table("row", Column("why it cannot be used", overflow="fold"), box=None, padding=(0, 2, 0, 0))
        for number, reason in [*bad, *probes]:
            table.add_row(str(number), escape(to_safe_text(reason)))
        _console.print(table)
    if arguments.format == "own":
        _report_unused_columns(pool)
    for group in (rows for rows in rows_of_question.values() if len(rows) > 1):
        numbers = ", ".join(str(number) for number, _ in group)
        differ = len({answer for _, answer in group}) > 1
        _console.say(f"Rows {numbers} ask the same of the same picture{', with different answers' if differ else ''}.")
    for remark in pool.remarks(samples):
        _console.tell(remark)
    good = len(samples)
    empty = " There is nothing in it." if not good and not bad else ""
    _console.say(f"{pool.name}: {good + len(bad)} rows, {good} of them good, {len(bad)} bad.{empty}")
    if probes:
        _console.say(f"Of the probes that come with it {len(probes)} cannot be made.")
    return 1 if bad or probes or not good else 0


def _report_unused_columns(pool: Pool) -> None:
    columns: Counter[str] = Counter()
    for row in pool.rows():
        columns.update(list(row.values))
    for name in sorted(set(columns) - set(COLUMNS)):
        near = difflib.get_close_matches(name, COLUMNS, n=1)
        hint = f": did you mean '{near[0]}'?" if near else "."
        _console.say(f"The column '{name}' ({columns[name]} rows) is not used{hint}")


def _open_pool(arguments: argparse.Namespace) -> Pool:
    path, images, name = arguments.path, arguments.images, arguments.format
    for option in {"own": ("split", "subset"), "rationalevqa": ("split",)}.get(name, ()):
        if getattr(arguments, option) is not None:
            raise InputError(f"'{name}' has no --{option}: leave it out, or name another --format.")
    if name == "own":
        return EditFile(path, images)
    if name == "rationalevqa":
        return RationaleVQA(arguments.subset or SUBSETS[0], images or path, path or HUB_ID)
    given = {"coco" if name == "aokvqa" else "images": images, "split": arguments.split, "subset": arguments.subset}
    pool = open_source(f"{name}:{path}", **{key: value for key, value in given.items() if value is not None})
    if not isinstance(pool, Pool):
        raise InputError(f"The data set '{name}' is no pool of corrected samples: there are no rows to check.")
    return pool
