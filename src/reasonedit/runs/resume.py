"""What a run was made with: it goes on with the same, or not at all."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningCLI

import reasonedit.callbacks as cb
from reasonedit.data.source import ReadsFiles
from reasonedit.errors import MismatchError
from reasonedit.runs.folder import write_json
from reasonedit.util.dependencies import code_of, versions_of
from reasonedit.vlm import VLM

from .data_files import DataFiles
from .provenance import classes_in

FILE = "run.json"

_FORMAT = 1
_LIBRARIES = ("reasonedit", "torch", "transformers", "sentence-transformers", "pillow")
_IRRELEVANT = (
    "accelerator",
    "callbacks",
    "default_root_dir",
    "devices",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "log_every_n_steps",
    "logger",
    "num_nodes",
    "profiler",
    "strategy",
)
"""Settings of the trainer that change no result, or that are looked at by themselves."""
_DISPLAYS = (ProgressBar, cb.TensorBoardCharts)
_WRITERS = (cb.Codebook, cb.PredictionWriter)
_LISTED = 3


def describe_run(cli: LightningCLI, folder: Path) -> dict[str, Any]:
    """Everything that a run's results depend on.

    That is its settings with the content of the files they name, the model, the kind of device, and the code and
    libraries; not how many devices there are, what only shows or logs results, nor where they are written.

    Args:
        cli: What was made of the config.
        folder: The results folder.

    Raises:
        ReasonEditError: A class of the config is in no file.
    """
    config: dict[str, Any] = json.loads(json.dumps(cli.config.as_dict(), default=str))
    trainer = config["trainer"]
    callbacks = _callbacks(trainer.get("callbacks"))
    counting = {name: value for name, value in trainer.items() if name not in _IRRELEVANT}
    settings = dict(
        _flatten("", {"trainer": counting, "model": config["model"], "data": config.get("data"), **callbacks})
    )
    settings |= {"seed_everything": config.get("seed_everything"), "callbacks": list(callbacks)}
    vlm, source = getattr(cli.model, "vlm", None), getattr(cli.datamodule, "source", None)
    read = source.files() if isinstance(source, ReadsFiles) else ()
    named = [config.get("data"), callbacks]
    roots: list[ModuleType | type] = [cb.RunLog, type(cli.model), *(kind for kind, _ in classes_in(named))]
    roots += [type(vlm)] if isinstance(vlm, VLM) else []
    return {
        "format": _FORMAT,
        "settings": settings,
        "files": DataFiles([folder]).of(*named, files=read),
        "model": vlm.identity if isinstance(vlm, VLM) else None,
        "device": cli.trainer.strategy.root_device.type,
        "libraries": versions_of(_LIBRARIES),
        "code": code_of(roots),
    }


def begin(folder: Path, description: Mapping[str, Any]) -> str:
    """Write down what a run is made with.

    Args:
        folder: Its results folder.
        description: What it is made with; see :func:`describe_run`.

    Returns:
        The name of the run, which tells it from all others.

    Raises:
        ReasonEditError: It cannot be written.
    """
    name = uuid.uuid4().hex
    write_json(folder / FILE, {"run": name, **description})
    return name


def check(folder: Path, now: Mapping[str, Any]) -> str:
    """See that a run goes on with what it was begun with.

    Args:
        folder: Its results folder.
        now: What it would be made with now; see :func:`describe_run`.

    Returns:
        The name of the run.

    Raises:
        MismatchError: Something has changed, and the message says what; or an earlier version began the run, which
            noted nothing.
    """
    before = _read(folder)
    differing = [*_differences(before["settings"], now["settings"])]
    differing += [
        f"the content of '{name}' is another"
        for name, checksum in before["files"].items()
        if now["files"].get(name, checksum) != checksum
    ]
    differing += ["the model is another"] if before["model"] != now["model"] else []
    for name in ("device", "libraries"):
        pair = (before[name], now[name])
        differing += _differences(*(value if isinstance(value, dict) else {name: value} for value in pair))
    changed = [name for name in before["code"] if now["code"].get(name) != before["code"][name]]
    changed += [name for name in now["code"] if name not in before["code"]]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        differing.append(f"the code of {changed[0]}{more} is another")
    if differing:
        more = f"; and {len(differing) - _LISTED} more" if len(differing) > _LISTED else ""
        raise MismatchError(
            f"The run in '{folder}' was begun with something else: {'; '.join(differing[:_LISTED])}{more}. Resume it "
            "with what it was begun with (its config.yaml as it was, no other options), or begin a new run."
        )
    return str(before["run"])


def _read(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MismatchError(
            f"The run in '{folder}' was begun by an earlier version, which did not note what it was made with "
            f"({FILE}): begin a new run."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise MismatchError(f"'{folder / FILE}' cannot be read ({error}): begin a new run.") from error
    parts = {"settings": dict, "files": dict, "libraries": dict, "code": dict, "device": str, "run": str}
    complete = isinstance(values, dict) and "model" in values and values.get("format") == _FORMAT
    if not complete or not all(isinstance(values.get(name), kind) for name, kind in parts.items()):
        raise MismatchError(f"'{folder / FILE}' is not what a run writes there: begin a new run.")
    return dict(values)


def _callbacks(given: Any) -> dict[str, Any]:
    """The callbacks that count, each by its name."""
    callbacks: dict[str, Any] = {}
    for config in given if isinstance(given, list) else [given] if given else []:
        ((kind, arguments), *_) = classes_in(config)
        if issubclass(kind, _DISPLAYS):
            continue
        counting = {
            name: value for name, value in arguments.items() if name != "path" or not issubclass(kind, _WRITERS)
        }
        name = kind.__name__
        while name in callbacks:
            name += "'"
        callbacks[name] = {"class_path": config["class_path"], "init_args": counting}
    return callbacks


def _flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Settings by dotted names; a class's arguments stand under what it is given for."""
    if not isinstance(value, Mapping) or not value:
        yield name, value
        return
    for key, inner in value.items():
        skipped = key == "init_args" and "class_path" in value
        yield from _flatten(name if skipped else f"{name}.{key}".lstrip("."), inner)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in [*before, *(name for name in now if name not in before)]:
        if before.get(name) != now.get(name):
            yield f"{name} was {_format_value(before.get(name))}, is {_format_value(now.get(name))} now"


def _format_value(value: Any) -> str:
    return "not set" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
