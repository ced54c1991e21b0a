"""What ``reasonedit experiment`` does: run cells, and print what came out."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from reasonedit.errors import NotFoundError, NotServedError
from reasonedit.experiments import EXPERIMENTS, Cell, Experiment, Lab, run_cell
from reasonedit.experiments.agreement import CellRows, Record
from reasonedit.experiments.experiment import with_editors
from reasonedit.experiments.extra_tables import extra_tables
from reasonedit.experiments.judging import judge_table
from reasonedit.experiments.search_spaces import SPACES, describe_values
from reasonedit.experiments.side_by_side import Work, run_side_by_side, visible_gpus
from reasonedit.experiments.tables import Table, cells_in, table_of, write_summary
from reasonedit.experiments.tuned import TUNED_FILE
from reasonedit.experiments.tuning import choose
from reasonedit.metrics.judge import Judge
from reasonedit.report.answers import answer
from reasonedit.runs.folder import abandon, lock_folder, write_json

from .called import command_line
from .configs import EXPERIMENT_CONFIG, read_configs, source_options
from .experiment_tables import as_json, print_extra, print_shares
from .screen import Screen, print_json, waiting

QUICK_EDITS = 10
"""Edits of a first look."""

_console = Screen()
_Say = Callable[[str], None]


def list_rows(arguments: argparse.Namespace) -> int:
    """Say what an experiment compares."""
    for row in _experiment(arguments).rows:
        _console.print(f"{row.name:<22} {row.title}", markup=False, highlight=False)
    return 0


def run_experiment(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Run what of an experiment is not there yet, and print its table."""
    experiment = _experiment(arguments)
    source = arguments.source or ("" if arguments.config else experiment.source)
    judge = Judge(arguments.judge) if arguments.judge else None  # refused before hours of answers
    arguments.config = arguments.config or [EXPERIMENT_CONFIG]
    chosen = source_options(source) if source else ()
    config = read_configs(arguments, (*chosen, *overrides)).resolve("model", "data")
    seeds = arguments.seeds or ([experiment.seeds[0]] if arguments.quick else list(experiment.seeds))
    edits = arguments.edits or (QUICK_EDITS if arguments.quick else experiment.edits)
    names = _rows_wanted(experiment, arguments)
    cells = experiment.cells(seeds, names)
    results = arguments.out / "quick" if arguments.quick else arguments.out
    folder = results / experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    say = _say_nothing if arguments.quiet or arguments.json else _console.say
    if names and not arguments.rows:
        say(f"A first look: {len(names)} of {len(experiment.rows)} rows; --list shows all, --rows names others.")
    try:
        with lock_folder(folder, "experiment"):
            if arguments.jobs > 1:
                work = Work(
                    experiment.name,
                    tuple(arguments.editor),
                    config,
                    edits,
                    folder,
                    arguments.jobs,
                    arguments.token_accuracy,
                    visible_gpus(),
                )
                beyond = _run_side_by_side(work, cells, say)
            else:
                beyond = _run(cells, Lab(config, edits, token_accuracy=arguments.token_accuracy), folder, say)
    finally:
        abandon(folder)  # where nothing came of it
    wanted = {(cell.row, cell.seed) for cell in cells}

    def first(about: Record) -> bool:
        return (about["row"], about["seed"]) in wanted

    rows = table_of(experiment, _cells_in(folder, beyond), first)
    write_summary(folder / "summary.parquet", rows)
    if experiment.name == "tune":
        rows.notes += _write_tuned(rows, folder / "tuned.json")
    judged = [judge_table(rows, cells_in(folder), first, judge, folder)] if judge is not None else []
    extra = [*extra_tables(rows), *judged]
    if arguments.json:
        print_json({**as_json(experiment.name, folder, rows, extra, beyond), "answer": answer(experiment, rows)})
        return 0
    print_shares(_console, rows, intervals=arguments.intervals)
    for table in extra:
        print_extra(_console, table, intervals=arguments.intervals)
    if answered := answer(experiment, rows):
        _console.tell(answered)
    for sentence in (*beyond, *rows.left_out, *rows.notes):
        _console.tell(sentence)
    if not arguments.quiet:
        _console.say(f"Written to {folder}. A page to look at: {command_line('reasonedit', 'report', str(results))}")
    return 0


def _cells_in(folder: Path, beyond: Sequence[str]) -> list[CellRows]:
    """The cells of a folder.

    Raises:
        NotServedError: There are none, as all rows are left out; says why.
        NotFoundError: There are none.
    """
    try:
        return cells_in(folder)
    except NotFoundError as error:
        if not beyond:
            raise
        raise NotServedError(" ".join(beyond)) from error


def _rows_wanted(experiment: Experiment, arguments: argparse.Namespace) -> list[str]:
    """The rows that are named, or those of a first look, and always the user's own editors; empty where all are."""
    own = [row.name for row in experiment.rows[len(EXPERIMENTS[arguments.name].rows) :]]
    names = arguments.rows or (experiment.quick if arguments.quick else ())
    return [*names, *own] if names else []


def _experiment(arguments: argparse.Namespace) -> Experiment:
    """The experiment that is named, with the editors that are."""
    if arguments.editor:
        sys.path.append(str(Path.cwd()))  # behind all others: what is installed is not hidden by a file's name
    return with_editors(EXPERIMENTS[arguments.name], arguments.editor)


def _say_nothing(_: str) -> None:
    """In the place of what says what is done."""


def _run_side_by_side(work: Work, cells: Sequence[Cell], say: _Say) -> list[str]:
    """:func:`_run` in several processes."""
    beyond: dict[str, str] = {}
    with waiting(f"0/{len(cells)}") as status:
        for i, outcome in enumerate(run_side_by_side(work, cells), 1):
            cell = outcome.cell
            status.update(f"{i}/{len(cells)}")
            if outcome.beyond:
                beyond[cell.row] = f"{cell.title} is left out: {outcome.beyond}"
                continue
            say(_describe_done(f"{i}/{len(cells)}", cell, outcome.seconds))
    return list(beyond.values())


def _describe_done(counted: str, cell: Cell, seconds: float | None) -> str:
    time_taken = f"{seconds:.0f} s" if seconds is not None else "there already"
    return f"{counted}  {cell.title}, seed {cell.seed}: {time_taken}"


def _run(cells: Sequence[Cell], lab: Lab, folder: Path, say: _Say) -> list[str]:
    """Run cells.

    Returns:
        A sentence for each row that takes what the VLM or the data set does not give: it is left out.
    """
    beyond: dict[str, str] = {}
    for i, cell in enumerate(cells, 1):
        if cell.row in beyond:
            continue
        started = time.perf_counter()
        try:
            with waiting(f"{i}/{len(cells)}  {cell.title}, seed {cell.seed}"):
                is_new = run_cell(lab, cell, folder)
        except NotServedError as error:
            beyond[cell.row] = f"{cell.title} is left out: {error}"
            continue
        say(_describe_done(f"{i}/{len(cells)}", cell, time.perf_counter() - started if is_new else None))
    return list(beyond.values())


def _write_tuned(table: Table, path: Path) -> list[str]:
    """Write what was chosen for each editor; what is to be said of it."""
    content, notes = choose(table)
    write_json(path, content)
    chosen = [
        f"{SPACES[name].title} is best at {describe_values(editor['values'])}: {editor['all']:.3f}."
        for name, editor in content["editors"].items()
    ]
    return [*notes, *chosen, f"The rows '(tuned)' are made of {TUNED_FILE}: put '{path}' there."]
