"""``reasonedit run``: an edit stream described by a YAML file."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningCLI
from rich import box
from rich.table import Table

import reasonedit.callbacks as cb
from reasonedit.codebook import Store
from reasonedit.config import config_path, content_of, refuse_code, refused
from reasonedit.data.stream import EditStream
from reasonedit.errors import ReasonEditError
from reasonedit.groups import LABELS
from reasonedit.metrics import COMPARISON
from reasonedit.ranks import end_started, end_together
from reasonedit.resume import begin, check, made_with
from reasonedit.runs import abandon, going_on, new_folder, row, versions, write_json
from reasonedit.signals import Watch

from .screen import Screen
from .trust import add_trust

_console = Screen()
_FOLDER = "REASONEDIT_RUN_FOLDER"
_NAMES = {"unedited": "unedited", "reasonedit": "ReasonEdit"}


@dataclass
class Run:
    """A finished run: where it wrote, its table, what is to be said of answers that contain a right one, its parts."""

    folder: Path
    table: dict[str, dict[str, Any]]
    contained: str
    trainer: L.Trainer
    data: L.LightningDataModule | None


def main(argv: Sequence[str]) -> int:
    """Run a stream and print its table."""
    parser = argparse.ArgumentParser(
        prog="reasonedit run",
        description="Run an edit stream. Model, data, callbacks and trainer come from the YAML file; "
        "any of its values can be set here too, such as --trainer.devices 1 or --data.init_args.batch_size 4.",
        epilog="A config is code: whatever class it names is called. Run only configs that you would run as a script. "
        "Example: reasonedit run --config configs/demo.yaml --out runs/mine",
    )
    parser.add_argument("--config", default=None, help="YAML file; the packaged ones can be named as configs/NAME.yaml")
    parser.add_argument(
        "--resume",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="go on with the run in this results folder that was cut short; takes the place of --config",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        help="results folder, or one beside it where it exists (default: runs/ and the file's name)",
    )
    add_trust(parser, config=True)
    arguments, rest = parser.parse_known_args(argv)
    if (arguments.config is None) == (arguments.resume is None):
        parser.error("name a YAML file with --config, or a folder with --resume")
    if arguments.resume is not None:
        if arguments.out is not None:
            parser.error("--resume goes on in its own folder: leave --out out")
        run = resumed(arguments.resume, rest, trusted=arguments.trust_remote_code)
    else:
        run = run_config(arguments.config, arguments.out, rest, trusted=arguments.trust_remote_code)
    if not run.trainer.is_global_zero:
        return 0
    if run.table:
        _console.print(table_of(run.table))
        if run.contained:
            _console.print(run.contained, markup=False, soft_wrap=True)
    _console.print(f"Everything was written to {run.folder}", markup=False, soft_wrap=True)
    return 0


def resumed(folder: Path, overrides: Sequence[str] = (), *, trusted: bool = False) -> Run:
    """Go on with a run that was cut short: nothing is asked or edited twice.

    Args:
        folder: Its results folder.
        overrides: Further arguments in LightningCLI's form.
        trusted: Whether the config may ask for code that comes with a model.

    Raises:
        ReasonEditError: There is no such run, or it is finished; anything the run itself raises.
    """
    config = folder / "config.yaml"
    if not config.is_file():
        raise ReasonEditError(f"There is no run to go on with in '{folder}': it would hold a file config.yaml.")
    folder = folder.resolve()
    _one_of_several()
    with going_on(folder) if _first() else nullcontext():
        if (folder / "metrics.json").exists():
            raise ReasonEditError(f"The run in '{folder}' is finished: its table is in '{folder / 'metrics.json'}'.")
        with _console.status("loading the VLM"):
            cli = _parse(config, folder, list(overrides), trusted=trusted)
        return _shared(cli, folder, resume=True)


def run_config(config: str, out: Path | None, overrides: Sequence[str] = (), *, trusted: bool = False) -> Run:
    """Run the stream that a YAML file describes.

    Args:
        config: The file.
        out: The results folder; a new one beside it is made when it exists.
        overrides: Further arguments in LightningCLI's form.
        trusted: Whether the config may ask for code that comes with a model.

    Raises:
        ReasonEditError: The file cannot be used; anything the run itself raises.
    """
    path = config_path(config)
    # Lightning starts the other ranks by running the same command again: they share the first one's folder.
    shared = os.environ.get(_FOLDER)
    _one_of_several()
    folder = Path(shared) if shared else _new_folder(out, path)
    with going_on(folder) if _first() else nullcontext():
        try:
            with _console.status("loading the VLM (the first time it is also put together, some 20 seconds)"):
                cli = _parse(path, folder, list(overrides), trusted=trusted)
                codebook = cb.beside(cli.trainer, cb.Codebook)
                if shared is None and codebook is not None and codebook.path is not None and Store.there(codebook.path):
                    raise ReasonEditError(
                        f"There is a codebook in '{codebook.path}' already, and a run begins its own: name another "
                        "folder."
                    )
        except BaseException:
            if _first():
                abandon(folder)
            raise
        return _shared(cli, folder)


def _new_folder(out: Path | None, config: Path) -> Path:
    """The results folder; where torchrun or SLURM started the ranks, all must know it beforehand."""
    rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0"
    started = "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS") or 1) > 1
    if not started:
        return new_folder(out or Path("runs") / config.stem)
    if out is None:
        raise ReasonEditError("Under torchrun or SLURM all ranks must know the results folder: name it with --out.")
    if rank == "0" and (out / "config.yaml").exists():
        raise ReasonEditError(f"There is a run in '{out}' already: name another folder, or go on with it by --resume.")
    out.mkdir(parents=True, exist_ok=True)
    return out.resolve()


def _shared(cli: LightningCLI, folder: Path, *, resume: bool = False) -> Run:
    os.environ[_FOLDER] = str(folder)
    try:
        return _predict(cli, folder, resume=resume)
    finally:
        os.environ.pop(_FOLDER)


def _predict(cli: LightningCLI, folder: Path, *, resume: bool) -> Run:
    trainer = cli.trainer
    _listen(trainer, folder)
    codebook = cb.beside(trainer, cb.Codebook)
    if codebook is not None:
        codebook.quiet = True  # said at the end
        codebook.path = codebook.path or folder / "codebook"
    with ExitStack() as held:
        if resume and codebook is not None and codebook.path is not None and Store.there(codebook.path):
            store = Store.open(codebook.path)
            if trainer.is_global_zero:
                held.enter_context(store.writing())  # what is looked at now holds until the run is over
            codebook.go_on(store)
        log = cb.RunLog(folder / "log" / "answers", resume)
        trainer.callbacks.insert(0, log)  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            made = made_with(cli, folder)
            log.run = check(folder, made) if resume else begin(folder, made)
            if resume:
                log.read(codebook)
            else:
                write_json(folder / "versions.json", {**versions(), "seed": cli.config.get("seed_everything")})
                _save_config(cli, folder)
        try:
            return _asked(cli, folder)
        except SystemExit as stop:  # of a signal, or of Lightning after one
            end_started(trainer)
            raise KeyboardInterrupt(_stopped(trainer, folder)) from stop


def _asked(cli: LightningCLI, folder: Path) -> Run:
    trainer, data = cli.trainer, cli.datamodule
    metrics = cb.beside(trainer, cb.EditingMetrics)
    if metrics is not None:
        metrics.quiet = True  # said below the table
    try:
        trainer.predict(cli.model, datamodule=data, return_predictions=False)
    except MisconfigurationException as error:
        raise ReasonEditError(f"The trainer cannot be set up so: {error}") from error
    table = results(trainer, data)
    if table and trainer.is_global_zero:
        write_json(folder / "metrics.json", table)
    if trainer.is_global_zero:
        shutil.rmtree(folder / "log", ignore_errors=True)  # all of it is in the predictions
        for part in folder.glob("predictions.[0-9]*.parquet"):  # of ranks that were interrupted
            part.unlink(missing_ok=True)
    return Run(folder, table, contained(trainer, data), trainer, data)


def _save_config(cli: LightningCLI, folder: Path) -> None:
    """Write what the run was made from; what names this run's own folder is left out, so that it can be run again."""
    config = cli.config.clone()
    del config["trainer"]["default_root_dir"]
    if getattr(config["trainer"]["logger"], "init_args", {}).get("save_dir") == str(folder):
        del config["trainer"]["logger"]
    cli.parser.save(config, folder / "config.yaml", skip_check=True)


def results(trainer: L.Trainer, data: L.LightningDataModule | None) -> dict[str, dict[str, Any]]:
    """The table of a finished run: the unedited model's row, where it was asked, and the edited one's."""
    metrics, editor = cb.beside(trainer, cb.EditingMetrics), cb.beside(trainer, cb.Editor)  # type: ignore[type-abstract]
    timer = cb.beside(trainer, cb.QueryTimer)
    table: dict[str, dict[str, Any]] = {}
    if isinstance(data, EditStream) and data.base is not None:
        base = data.base
        table["unedited"] = row(base.metrics, base.exact_match, seconds_per_edit=None, ms_per_query=base.ms_per_query)
    if metrics is not None:
        taken = list(editor.seconds.values()) if editor is not None else []
        name = "reasonedit" if editor is None or isinstance(editor, cb.Codebook) else editor.title
        table[name] = row(
            metrics.results,
            metrics.exact_match,
            seconds_per_edit=sum(taken) / len(taken) if taken else None,
            ms_per_query=timer.ms_per_query if timer is not None else None,
        )
    return table


def table_of(results: dict[str, dict[str, Any]]) -> Table:
    """The table for the terminal."""
    samples = next(iter(results.values()))
    table = Table(
        title="share of right answers (number of questions)",
        caption=f"right by {COMPARISON}; {_exact(results)}",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", no_wrap=True, min_width=max(len(_NAMES.get(key, key)) for key in results))
    for group, name in LABELS.items():
        table.add_column(f"{name}\n({samples[f'{group}_samples']})", justify="right")
    table.add_column("s per\nedit", justify="right")
    table.add_column("ms per\nquery", justify="right")
    for key, values in results.items():
        cells = ["–" if values[g] is None else f"{values[g]:.2f}" for g in LABELS]
        cells += [_time(values["seconds_per_edit"], 3), _time(values["ms_per_query"], 1)]
        table.add_row(_NAMES.get(key, key), *cells)
    return table


def _time(value: float | None, digits: int) -> str:
    """A time in five characters, so that a slow machine's table is no wider."""
    if value is None:
        return "–"
    return next((t for n in range(digits, 0, -1) if len(t := f"{value:.{n}f}") <= 5), f"{value:.0f}")


def _exact(results: dict[str, dict[str, Any]]) -> str:
    """What exact match comes to where it is another figure."""
    others = {
        _NAMES.get(key, key): [
            f"{name} {values[f'{g}_exact_match']:.2f}"
            for g, name in LABELS.items()
            if values[g] is not None and values[f"{g}_exact_match"] != values[g]
        ]
        for key, values in results.items()
    }
    said = "; ".join(f"{key} {', '.join(cells)}" for key, cells in others.items() if cells)
    return f"by exact match: {said}" if said else "the same by exact match"


def contained(trainer: L.Trainer, data: L.LightningDataModule | None) -> str:
    """One sentence on answers that count as wrong although they contain a right one; empty where there are none."""
    metrics = cb.beside(trainer, cb.EditingMetrics)
    counts = {
        "the unedited model": data.base.contained if isinstance(data, EditStream) and data.base is not None else 0,
        "the edited one": metrics.contained if metrics is not None else 0,
    }
    said = " and ".join(f"{count} of {name}" for name, count in counts.items() if count)
    if not said:
        return ""
    return (
        f"Of the answers that count as wrong, {said} contain a right one ('It is a kettle.' for 'kettle'): the column "
        "'contains' of predictions.parquet marks those of the edited one."
    )


def _stopped(trainer: L.Trainer, folder: Path) -> str:
    codebook = cb.beside(trainer, cb.Codebook)
    on = f"'reasonedit run --resume {folder}' goes on."
    if codebook is None:
        return f"Interrupted. {on}"
    counted: list[int] = []

    def count() -> None:
        with suppress(ReasonEditError):
            codebook.memory.refresh()  # what is on the disk counts, and the memory may have been cut short behind it
            counted.append(len(codebook.memory.edits))

    counting = threading.Thread(target=count, daemon=True)
    counting.start()
    counting.join(timeout=1)  # the main thread may hold what it waits for, and hang
    if not counted:
        return f"Interrupted. The edits made so far are saved in '{codebook.path}'. {on}"
    (edits,) = counted
    if not edits:
        return f"Interrupted before the first edit. {on}"
    return f"Interrupted. The {edits} edits made so far are saved in '{codebook.path}'. {on}"


def _first() -> bool:
    """Whether this process is the first rank, as far as that is known before there is a trainer."""
    number = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("NODE_RANK") or "0"
    return _FOLDER not in os.environ and number == "0"


def _one_of_several() -> None:
    """Say how this process ends where it is not the first rank, from before it knows its trainer."""
    watch = Watch.active
    if watch is None:
        return
    watch.speaks = _first()
    if _FOLDER in os.environ:  # Lightning started it: the first rank learns of signals from it
        first = os.getppid()
        watch.code = 0
        watch.heard.append(lambda: None if watch.told else os.kill(first, watch.number))


def _listen(trainer: L.Trainer, folder: Path) -> None:
    """Have all ranks end in good order where a signal comes."""
    watch = Watch.active
    end_together(trainer, watch)
    if watch is not None:
        watch.speaks = trainer.is_global_zero
        watch.say = lambda: _stopped(trainer, folder)


class _CLI(LightningCLI):
    """Refuses what a config may not ask for; here all of it is known, files that it names included."""

    def __init__(self, *args: Any, trusted: bool, **kwargs: Any) -> None:
        self._trusted = trusted
        super().__init__(*args, **kwargs)

    def before_instantiate_classes(self) -> None:
        refuse_code(self.config, trusted=self._trusted)


def _parse(path: Path, folder: Path, overrides: list[str], *, trusted: bool) -> LightningCLI:
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.ERROR)
    content_of(str(path), trusted=trusted)  # within bounds, and before Lightning looks at it
    try:
        return _CLI(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            run=False,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults={
                "default_root_dir": str(folder),
                "logger": {
                    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                    "init_args": {"save_dir": str(folder), "name": "tensorboard", "version": ""},
                },
                "enable_checkpointing": False,
                "enable_model_summary": False,
            },
            parser_kwargs={"exit_on_error": False},
            args=["--config", str(path), *overrides],
            trusted=trusted,
        )
    except MisconfigurationException as error:
        raise ReasonEditError(f"The trainer cannot be made so: {error}") from error
    except (argparse.ArgumentError, ValueError, TypeError, KeyError) as error:
        raise refused(path, error) from error
