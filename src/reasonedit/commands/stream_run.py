"""A run of an edit stream: begun from configs, or gone on with, in a results folder."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningCLI

import reasonedit.callbacks as cb
from reasonedit.codebook import Store
from reasonedit.config.merging import Config
from reasonedit.data.stream import EditStream
from reasonedit.errors import ConflictError, InputError, NotFoundError
from reasonedit.ranks import end_processes
from reasonedit.runs.folder import abandon, lock_folder, new_folder, versions, write_json
from reasonedit.runs.resume import begin, check, describe_run

from .on_the_way import log_on_the_way
from .results_table import collect_results, describe_results
from .run_page import make_page
from .run_parser import parse_run, save_merged_config
from .run_signals import FOLDER, describe_stop, is_first_rank, watch_as_rank, watch_trainer
from .screen import waiting


@dataclass
class Run:
    """A finished run.

    Attributes:
        folder: Where it wrote.
        results: The rows of its table; see :func:`~reasonedit.runs.folder.row`.
        notes: What is to be said below the table.
        trainer: Its trainer.
        data: Its data.
        page: The page of its results, where one could be written.
    """

    folder: Path
    results: dict[str, dict[str, Any]]
    notes: list[str]
    trainer: L.Trainer
    data: L.LightningDataModule | None
    page: Path | None = None


def begin_run(config: Config, out: Path | None) -> Run:
    """Run the stream that configs describe.

    Args:
        config: The configs.
        out: The results folder; a new one beside it is made when it exists.

    Raises:
        ReasonEditError: A config cannot be used; anything the run itself raises.
    """
    # Lightning starts the other ranks by running the same command again: they share the first one's folder.
    shared = os.environ.get(FOLDER)
    watch_as_rank()
    folder = Path(shared) if shared else _make_folder(out, config.paths)
    with lock_folder(folder) if is_first_rank() else nullcontext():
        try:
            with waiting("loading the VLM (the first time it is also put together, some 20 seconds)"):
                cli = parse_run(config, folder)
            if shared is None:
                _refuse_old_codebook(cli.trainer)
        except BaseException:
            if is_first_rank():
                abandon(folder)
            raise
        return _predict(cli, folder)


def resume_run(folder: Path, overrides: Sequence[str] = (), *, trusted: bool = False) -> Run:
    """Go on with a run that was cut short: nothing is asked or edited twice.

    Args:
        folder: Its results folder.
        overrides: Further options in LightningCLI's form.
        trusted: Whether the config may ask for code that comes with a model.

    Raises:
        ReasonEditError: There is no such run, or it is finished; anything the run itself raises.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise NotFoundError(f"There is no run to go on with in '{folder}': it would hold a file config.yaml.")
    folder = folder.resolve()
    watch_as_rank()
    with lock_folder(folder) if is_first_rank() else nullcontext():
        if (folder / "metrics.json").exists():
            raise ConflictError(f"The run in '{folder}' is finished: its table is in '{folder / 'metrics.json'}'.")
        with waiting("loading the VLM"):
            cli = parse_run(Config.read([str(path)], overrides, trusted=trusted), folder)
        return _predict(cli, folder, resume=True)


def _make_folder(out: Path | None, configs: Sequence[Path]) -> Path:
    """The results folder; where torchrun or SLURM started the ranks, all must know it beforehand."""
    rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0"
    launched = "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS") or 1) > 1
    if not launched:
        return new_folder(out or Path("runs") / "+".join(path.stem for path in configs))
    if out is None:
        raise InputError("Under torchrun or SLURM all ranks must know the results folder: name it with --out.")
    if rank == "0" and (out / "config.yaml").exists():
        raise ConflictError(f"There is a run in '{out}' already: name another folder, or continue it with --resume.")
    out.mkdir(parents=True, exist_ok=True)
    return out.resolve()


def _refuse_old_codebook(trainer: L.Trainer) -> None:
    codebook = cb.find_callback(trainer, cb.Codebook)
    if codebook is not None and codebook.path is not None and Store.exists(codebook.path):
        raise ConflictError(
            f"There is a codebook in '{codebook.path}' already, and a run begins its own: name another folder."
        )


def _predict(cli: LightningCLI, folder: Path, *, resume: bool = False) -> Run:
    os.environ[FOLDER] = str(folder)
    trainer = cli.trainer
    try:
        watch_trainer(trainer, folder)
        with ExitStack() as stack:
            codebook = _prepare_codebook(trainer, folder, stack, resume=resume)
            _prepare_log(cli, folder, codebook, resume=resume)
            log_on_the_way(trainer, cli.datamodule)
            _replace_bars(trainer)
            try:
                return _ask(cli, folder)
            except SystemExit as stop:  # of a signal, or of Lightning after one
                end_processes(trainer)
                raise KeyboardInterrupt(describe_stop(trainer, folder)) from stop
    finally:
        os.environ.pop(FOLDER)


def _replace_bars(trainer: L.Trainer) -> None:
    """Draw no bar where nobody looks: in a file it would be a line of strokes, so lines are written there."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    watched = sys.stderr is not None and sys.stderr.isatty()  # it is None where it was closed
    if not watched and any(isinstance(c, ProgressBar) for c in callbacks):
        callbacks[:] = [*(c for c in callbacks if not isinstance(c, ProgressBar)), cb.StreamLines()]


def _prepare_codebook(trainer: L.Trainer, folder: Path, stack: ExitStack, *, resume: bool) -> cb.Codebook | None:
    codebook = cb.find_callback(trainer, cb.Codebook)
    if codebook is None:
        return None
    codebook.quiet = True  # said at the end
    codebook.path = codebook.path or folder / "codebook"
    if resume and Store.exists(codebook.path):
        store = Store.open(codebook.path)
        if trainer.is_global_zero:
            stack.enter_context(store.writing())  # what is looked at now holds until the run is over
        codebook.go_on(store)
    return codebook


def _prepare_log(cli: LightningCLI, folder: Path, codebook: cb.Codebook | None, *, resume: bool) -> None:
    """Have the run log its answers; note what it was made with, or see that it goes on with the same."""
    log = cb.RunLog(folder / "log" / "answers", resume)
    cli.trainer.callbacks.insert(0, log)  # type: ignore[attr-defined]
    if not cli.trainer.is_global_zero:
        return
    description = describe_run(cli, folder)
    log.run = check(folder, description) if resume else begin(folder, description)
    if resume:
        log.read(codebook)
    else:
        write_json(folder / "versions.json", {**versions(), "seed": cli.config.get("seed_everything")})
        save_merged_config(cli, folder)


def _ask(cli: LightningCLI, folder: Path) -> Run:
    trainer, data = cli.trainer, cli.datamodule
    metrics = cb.find_callback(trainer, cb.EditingMetrics)
    if metrics is not None:
        metrics.quiet = True  # said below the table
    if isinstance(data, EditStream):
        data.quiet = True
    try:
        trainer.predict(cli.model, datamodule=data, return_predictions=False)
    except MisconfigurationException as error:
        raise InputError(f"The trainer cannot be set up so: {error}") from error
    results = collect_results(trainer, data)
    if results and trainer.is_global_zero:
        write_json(folder / "metrics.json", results)
    if trainer.is_global_zero:
        shutil.rmtree(folder / "log", ignore_errors=True)  # all of it is in the predictions
        for part in folder.glob("predictions.[0-9]*.parquet"):  # of ranks that were interrupted
            part.unlink(missing_ok=True)
    notes = describe_results(trainer, data)
    if not trainer.is_global_zero:
        return Run(folder, results, notes, trainer, data)
    codebook = cb.find_callback(trainer, cb.Codebook)
    page, why = make_page(folder, data, codebook.memory if codebook is not None else None)
    return Run(folder, results, [*notes, *([why] if why else [])], trainer, data, page)
