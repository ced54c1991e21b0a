"""Has a language model judge the answers of an experiment; what it said, and how it was asked, stand beside them."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reasonedit.errors import InputError
from reasonedit.groups import columns_of
from reasonedit.metrics import EditAccuracy
from reasonedit.metrics.judge import Judge, Judged, JudgedAccuracy
from reasonedit.rounds import final_probes

from .agreement import CellRows, Record, select_agreeing
from .extra_tables import ExtraTable
from .tables import Table, is_alone

_AT_ONCE = 256
"""Verdicts that are asked for before those so far are written: what an interruption costs at most."""
_EARLIER = "judged"
"""The name of the files of earlier versions, which kept those of one judge only."""
_JUDGE = b"judge"
Verdicts = dict[Judged, "bool | None"]


def judge_table(
    table: Table, cells: Iterable[CellRows], first: Callable[[Record], bool], judge: Judge, folder: Path
) -> ExtraTable:
    """Judge the answers that a table is made of.

    The folder then holds ``judged-MODEL-….parquet``, each verdict with its question and answers, and a file of the same
    name that ends in ``.json``, the shares by row and group. Both say which model judged and what it was asked; each
    judge (model, endpoint and prompt) has files of its own. Verdicts of the same judge that are there already are not
    asked for again.

    Args:
        table: The table.
        cells: The cells of the experiment's folder.
        first: As for :func:`~reasonedit.experiments.tables.table_of`.
        judge: Who judges.
        folder: The experiment's folder.

    Returns:
        The shares, as a small table.

    Raises:
        UnavailableError: The endpoint cannot be used.
    """
    by_row: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record, answers in select_agreeing(cells, first).cells:
        probes = final_probes(answers, alone=is_alone(record))
        by_row[record["row"]] += (row for row in probes if row["group"] and row["targets"])
    verdicts = _ask(judge, [_judged(a) for answers in by_row.values() for a in answers], folder)
    shares = {row.name: _count(by_row[row.name], verdicts) for row in table if by_row[row.name]}
    content = {"judge": judge.to_dict(), "cells": _cells_of(table), "rows": shares}
    path = folder / f"{_name_of(judge)}.json"
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    return _tabulate(table, content, path)


def judged_before(table: Table, folder: Path) -> list[ExtraTable]:
    """What :func:`judge_table` left in a folder, of those rows of a table that have not been run again since.

    Args:
        table: The table.
        folder: The experiment's folder.

    Returns:
        A small table for each judge; none of those that judged nothing of it.

    Raises:
        InputError: A file is not what was left there.
    """
    tables, judges, now = [], list[Any](), _cells_of(table)
    for path in [*sorted(folder.glob(f"{_EARLIER}-*.json")), *folder.glob(f"{_EARLIER}.json")]:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            same = {name: of_row for name, of_row in content["rows"].items() if content["cells"][name] == now.get(name)}
            if same and content["judge"] not in judges:
                judges.append(content["judge"])
                tables.append(_tabulate(table, {**content, "rows": same}, path))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"'{path}' is not what --judge wrote: delete it, and judge again.") from error
    return tables


def _name_of(judge: Judge) -> str:
    """The name of a judge's files, without what they end in."""
    about = judge.to_dict()
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", str(about["model"]))[:60]
    return f"{_EARLIER}-{model}-{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]}"


def _cells_of(table: Table) -> dict[str, list[str]]:
    """When the cells of each row were made: another run of a cell is another one."""
    made: dict[str, list[str]] = defaultdict(list)
    for cell in table.cells:
        made[cell["row"]].append(cell["made"])
    return {name: sorted(of_row) for name, of_row in made.items()}


def _tabulate(table: Table, content: Mapping[str, Any], path: Path) -> ExtraTable:
    """The shares by row and group, which a file holds, as a small table."""
    shares = content["rows"]
    columns = columns_of(group for of_row in shares.values() for group in of_row)
    columns = {group: label for group, label in columns.items() if any(group in of_row for of_row in shares.values())}
    unread = sum(of_group["unread"] for of_row in shares.values() for of_group in of_row.values())
    text = (
        f"Shares of answers that {content['judge']['model']} calls right, and behind them those that are right by "
        f"comparison (generated). {unread} verdicts could not be read: their answers count in neither. "
        f"The judge's prompt is in {path.name}."
    )
    titles = {row.name: row.title for row in table}
    rows = [[titles[name], *(_cell(of_row.get(group)) for group in columns)] for name, of_row in shares.items()]
    title = f"Judged by a language model: {content['judge']['model']}"
    return ExtraTable(title, text, ["", *columns.values()], rows)


def _judged(row: Mapping[str, Any]) -> Judged:
    """An answer with its question; the facts before it are no part of that.

    Predictions of earlier versions have no question without facts: there it is what follows them.
    """
    facts = " ".join(row.get("facts") or [])
    question = row.get("question") or (row["prompt"].removeprefix(facts).strip() if facts else row["prompt"])
    return Judged(question, tuple(dict.fromkeys(row["targets"])), row["answer"])


def _count(rows: Sequence[Mapping[str, Any]], verdicts: Verdicts) -> dict[str, dict[str, Any]]:
    """Both shares by group, of the same answers: those whose verdict could be read; the others are counted."""
    found = {}
    groups = [row["group"] for row in rows]
    read = [row for row in rows if verdicts[_judged(row)] is not None]
    for group in columns_of(groups):
        judged, generated = JudgedAccuracy(group), EditAccuracy(group)
        judged.update([verdicts[_judged(row)] for row in rows], groups)
        generated.update([row["answer"] for row in read], [row["targets"] for row in read], [r["group"] for r in read])
        if group in groups:
            found[group] = {
                "judged": float(judged.compute()) if int(judged.total) else None,
                "generated": float(generated.compute()) if int(judged.total) else None,
                "answers": int(judged.total),
                "unread": int(judged.unread),
            }
    return found


def _ask(judge: Judge, wanted: Sequence[Judged], folder: Path) -> Verdicts:
    """The verdicts on all answers; each is asked for once."""
    path = folder / f"{_name_of(judge)}.parquet"
    verdicts = {**_read(folder / f"{_EARLIER}.parquet", judge), **_read(path, judge)}
    new = [one for one in dict.fromkeys(wanted) if one not in verdicts]
    for start in range(0, len(new), _AT_ONCE):
        part = new[start : start + _AT_ONCE]
        verdicts |= zip(part, judge.verdicts(part), strict=True)
        _write(path, verdicts, judge)
    return verdicts


def _read(path: Path, judge: Judge) -> Verdicts:
    """The verdicts in a file, if they are those of the same judge."""
    import pyarrow.parquet as pq

    if not path.is_file():
        return {}
    table = pq.read_table(path)
    if json.loads((table.schema.metadata or {}).get(_JUDGE, b"{}")) != judge.to_dict():
        return {}
    rows = table.to_pylist()
    return {Judged(row["question"], tuple(row["right"]), row["answer"]): row["verdict"] for row in rows}


def _write(path: Path, verdicts: Verdicts, judge: Judge) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"question": one.question, "right": list(one.right), "answer": one.answer, "verdict": verdict}
        for one, verdict in verdicts.items()
    ]
    text = pa.string()
    schema = pa.schema(
        {"question": text, "right": pa.list_(text), "answer": text, "verdict": pa.bool_()},
        metadata={_JUDGE: json.dumps(judge.to_dict()).encode()},
    )
    part = path.with_name(f".{path.name}.part")
    pq.write_table(pa.Table.from_pylist(rows, schema), part)
    part.replace(path)


def _cell(of_group: Mapping[str, Any] | None) -> str:
    if of_group is None:
        return "–"
    judged, generated = ("–" if of_group[k] is None else f"{of_group[k]:.3f}" for k in ("judged", "generated"))
    return f"{judged} ({generated})"
