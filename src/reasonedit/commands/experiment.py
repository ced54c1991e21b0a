"""``reasonedit experiment``: compare editors, or settings of one, on several seeds."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from reasonedit.errors import NotServedError
from reasonedit.experiments import EXPERIMENTS, Cell, Estimate, Lab, run_cell
from reasonedit.experiments.agreement import Record
from reasonedit.experiments.experiment import with_editors
from reasonedit.experiments.extra_tables import ExtraTable, extra_tables
from reasonedit.experiments.judging import judge_table
from reasonedit.experiments.search_spaces import SPACES, describe_values
from reasonedit.experiments.side_by_side import Work, run_side_by_side, visible_gpus
from reasonedit.experiments.tables import Table as ExperimentTable
from reasonedit.experiments.tables import TableRow, cells_in, table_of, write_summary
from reasonedit.experiments.tuned import TUNED_FILE
from reasonedit.experiments.tuning import choose
from reasonedit.groups import columns_of
from reasonedit.metrics import COMPARISON
from reasonedit.metrics.judge import Judge
from reasonedit.runs.folder import abandon, lock_folder, write_json

from .configs import add_config, parse_with_overrides, read_configs, source_options
from .results_table import fold
from .screen import Screen

_CONFIG = "configs/experiment.yaml"
_console = Screen()


def main(argv: Sequence[str]) -> int:
    """Run what of an experiment is not there yet, and print its table."""
    arguments, overrides = parse_with_overrides(_parser(), argv)
    experiment = with_editors(EXPERIMENTS[arguments.name], arguments.editor)
    if arguments.list:
        for row in experiment.rows:
            _console.print(f"{row.name:<22} {row.title}", markup=False, highlight=False)
        return 0
    source = arguments.source or ("" if arguments.config else experiment.source)
    judge = Judge(arguments.judge) if arguments.judge else None  # refused before hours of answers
    arguments.config = arguments.config or [_CONFIG]
    chosen = source_options(source) if source else ()
    config = read_configs(arguments, (*chosen, *overrides)).resolve("model", "data")
    seeds = arguments.seeds or ([experiment.seeds[0]] if arguments.quick else list(experiment.seeds))
    edits = arguments.edits or (20 if arguments.quick else experiment.edits)
    cells = experiment.cells(seeds, arguments.rows)
    folder = arguments.out / (experiment.name if not arguments.quick else f"quick/{experiment.name}")
    folder.mkdir(parents=True, exist_ok=True)
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
                beyond = _run_side_by_side(work, cells)
            else:
                beyond = _run(cells, Lab(config, edits, token_accuracy=arguments.token_accuracy), folder)
    finally:
        abandon(folder)  # where nothing came of it
    wanted = {(cell.row, cell.seed) for cell in cells}

    def first(about: Record) -> bool:
        return (about["row"], about["seed"]) in wanted

    rows = table_of(experiment, cells_in(folder), first)
    write_summary(folder / "summary.parquet", rows)
    if experiment.name == "tune":
        rows.notes += _write_tuned(rows, folder / "tuned.json")
    _console.print(_table(rows))
    judged = [judge_table(rows, cells_in(folder), first, judge, folder)] if judge is not None else []
    for extra in (*extra_tables(rows), *judged):
        _console.print(_small_table(extra))
    for sentence in (*beyond, *rows.left_out, *rows.notes):
        _console.print(sentence, markup=False, highlight=False)
    _console.print(f"Written to {folder}. A page to look at: reasonedit report {arguments.out}", markup=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reasonedit experiment",
        description="Compare editors on several seeds. Results that are there are kept: the same command goes on with "
        "an interrupted experiment.",
        epilog="\n".join(f"  {e.name:<10} {e.question}" for e in EXPERIMENTS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=list(EXPERIMENTS), metavar="NAME", help="one of those below")
    add_config(parser, f"YAML file with the model and its stream, as for reasonedit run (default: {_CONFIG})")
    parser.add_argument(
        "--source",
        metavar="NAME[:FOLDER]",
        help="a data set in place of the config's: a name that a package offers, and the folder that it reads, such as "
        "vlkeb:FOLDER; its other arguments with --data.init_args.source.init_args.NAME VALUE",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="seeds of the stream")
    parser.add_argument("--edits", type=int, default=None, help="number of edits for each seed")
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="ROW",
        help="these rows only, of 'tune' also all of an editor; --list shows them",
    )
    parser.add_argument(
        "--editor",
        action="append",
        default=[],
        metavar="CLASS",
        help="one more row: an editor of your own, by class path",
    )
    parser.add_argument(
        "--jobs",
        type=_count,
        default=1,
        help="cells that run at once, each with a model of its own, on all GPUs in turn: times are no measure then",
    )
    parser.add_argument(
        "--token-accuracy",
        action="store_true",
        help="also the share of the right answers' tokens under teacher forcing, as older tables have it",
    )
    parser.add_argument(
        "--judge",
        metavar="openai:MODEL",
        help="also have a language model judge the answers, behind the endpoint of OPENAI_BASE_URL and OPENAI_API_KEY; "
        "its verdicts, with the prompt, are written beside the cells",
    )
    parser.add_argument("--quick", action="store_true", help="one seed, 20 edits")
    parser.add_argument("--list", action="store_true", help="say what the experiment compares, and stop")
    parser.add_argument("--out", type=Path, default=Path("results"), help="results folder (default: %(default)s)")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _run_side_by_side(work: Work, cells: Sequence[Cell]) -> list[str]:
    """:func:`_run` in several processes."""
    beyond: dict[str, str] = {}
    with _console.status(f"0/{len(cells)}") as status:
        for i, outcome in enumerate(run_side_by_side(work, cells), 1):
            cell = outcome.cell
            status.update(f"{i}/{len(cells)}")
            if outcome.beyond:
                beyond[cell.row] = f"{cell.title} is left out: {outcome.beyond}"
                continue
            _say_done(f"{i}/{len(cells)}", cell, outcome.seconds)
    return list(beyond.values())


def _say_done(counted: str, cell: Cell, seconds: float | None) -> None:
    time_taken = f"{seconds:.0f} s" if seconds is not None else "there already"
    _console.print(f"{counted}  {cell.title}, seed {cell.seed}: {time_taken}", highlight=False)


def _run(cells: Sequence[Cell], lab: Lab, folder: Path) -> list[str]:
    """Run cells.

    Returns:
        A sentence for each row that takes what the VLM does not give: it is left out.
    """
    beyond: dict[str, str] = {}
    for i, cell in enumerate(cells, 1):
        if cell.row in beyond:
            continue
        started = time.perf_counter()
        try:
            with _console.status(f"{i}/{len(cells)}  {cell.title}, seed {cell.seed}"):
                is_new = run_cell(lab, cell, folder)
        except NotServedError as error:
            beyond[cell.row] = f"{cell.title} is left out: {error}"
            continue
        _say_done(f"{i}/{len(cells)}", cell, time.perf_counter() - started if is_new else None)
    return list(beyond.values())


def _write_tuned(table: ExperimentTable, path: Path) -> list[str]:
    """Write what was chosen for each editor; what is to be said of it."""
    content, notes = choose(table)
    write_json(path, content)
    chosen = [
        f"{SPACES[name].title} is best at {describe_values(editor['values'])}: {editor['all']:.3f}."
        for name, editor in content["editors"].items()
    ]
    return [*notes, *chosen, f"The rows '(tuned)' are made of {TUNED_FILE}: put '{path}' there."]


def _table(rows: Sequence[TableRow]) -> Table:
    table = Table(
        title="share of right answers, 95 % interval",
        caption=f"right by {COMPARISON}; exact match is in summary.parquet",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("")
    labels = columns_of(group for row in rows for group in row.metrics)
    names = {"now": "Rel, at once", **labels, "gen": "Gen", "all": "All"}
    for name in names.values():
        table.add_column(fold(name), justify="right")
    for name in ("s per\nedit", "ms per\nquery", "keys per\nedit"):
        table.add_column(name, justify="right")
    for row in rows:
        cells = []
        for group in names:
            share = row.metrics.get(group)
            cells.append("–" if share is None else _format_share(share))
        cost = row.costs
        cells += [_format(cost.get("seconds_per_edit"), 2), _format(cost.get("ms_per_query"), 0)]
        edits, keys = cost.get("edits"), cost.get("keys")
        cells.append(_format(keys / edits if edits and keys is not None else None, 1))
        table.add_row(row.title, *cells)
    return table


def _small_table(extra: ExtraTable) -> Table:
    table = Table(title=extra.title, caption=extra.text, caption_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for i, name in enumerate(extra.head):
        table.add_column(name, justify="right" if i else "left")
    for row in extra.rows:
        table.add_row(*map(escape, row))
    return table


def _format_share(share: Estimate) -> str:
    """A share, and below it its interval where it has one."""
    interval = f"\n[dim]{share.low:.2f}–{share.high:.2f}[/dim]" if share.samples else ""
    return f"{share.mean:.2f}{interval}"


def _format(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
