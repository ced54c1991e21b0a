"""What editors learn from before they are tested, and their networks, which are trained once and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from reasonedit.data.source import GivesTraining
from reasonedit.data.stream import EditStream
from reasonedit.errors import InputError, NotFoundError, NotServedError
from reasonedit.util.cache import cache_folder
from reasonedit.util.dependencies import versions_of

from .cells import LIBRARIES, Cell

if TYPE_CHECKING:
    from .lab import Lab

_log = logging.getLogger(__name__)


def train_once(path: Path, name: str, train: Callable[[Path], None]) -> None:
    """Have a network made where it is missing; whoever comes meanwhile waits for it.

    Args:
        path: Its file in the cache.
        name: The editor that needs it.
        train: Trains it and writes it to the path that it is given, which is moved into place once it is complete.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if path.exists():
            return
        _log.warning("What %s needs is trained, once: a few minutes.", name)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        train(part)
        part.replace(path)


class LearnsFirst:
    """Marks an editor that learns from other samples of the source before its first run."""


def network_path(lab: Lab, name: str, edits: int, code: Sequence[Any], **settings: Any) -> Path:
    """Where the network of an editor is kept: its name is the checksum of all that it depends on.

    Args:
        lab: Where the model and its data are.
        name: The editor's name; the folder's, too.
        edits: How many edits it is trained on.
        code: The modules and classes that train it, besides those of the VLM and its data.
        **settings: What else it depends on.

    Raises:
        NotServedError: As for :func:`training_stream`.
    """
    data = training_config(lab, edits)
    classes, _ = lab.parts_of(data)
    with _left_out(lab, data):
        files = lab.checksums(data)
    made_by = {
        "model": {name: value for name, value in lab.model_record.items() if name != "name"},
        "steps": lab.mend_steps,
        "data": data,
        "files": files,
        "code": lab.code([*code, type(lab.module.vlm), *classes]),
        "libraries": versions_of(LIBRARIES),
        **settings,
    }
    content = json.dumps(made_by, sort_keys=True, default=str)
    return cache_folder() / name / f"{hashlib.sha256(content.encode()).hexdigest()}.safetensors"


def training_stream(lab: Lab, edits: int) -> EditStream:
    """The stream that an editor learns from: other samples of the source than those that are tested.

    Args:
        lab: Where the data are.
        edits: How many edits, whatever the number of those that are tested.

    Raises:
        NotServedError: The source does not say how it gives others, or they are not there.
    """
    data = training_config(lab, edits)
    with _left_out(lab, data):
        return lab.open_stream(data)


def training_config(lab: Lab, edits: int) -> dict[str, Any]:
    """The config of :func:`training_stream`, which see."""
    kind, _ = _source_of(lab, lab.config_with({}))
    return lab.config_with({**_training_of(kind), "edits": edits})


def check_apart(lab: Lab, cell: Cell) -> None:
    """See that a cell is not tested on what editors learn from.

    Args:
        lab: Where the data are.
        cell: The cell of an editor that learns first.

    Raises:
        NotServedError: It is, or the source does not say how it gives other samples.
    """
    kind, arguments = _source_of(lab, lab.data_config(cell))
    if all(arguments.get(name) == value for name, value in _training_of(kind).items()):
        raise NotServedError(f"It learns from {_describe(kind)}, which are those that are tested here: test others.")


@contextmanager
def _left_out(lab: Lab, data: Mapping[str, Any]) -> Iterator[None]:
    """What of the samples that are learnt from cannot be read is a reason to leave the row out, not to end."""
    try:
        yield
    except (InputError, NotFoundError) as error:
        kind, _ = _source_of(lab, data)
        raise NotServedError(f"It learns from {_describe(kind)}, which cannot be used: {error}") from error


def _source_of(lab: Lab, data: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    classes, arguments = lab.parts_of(data)
    return classes[1], arguments[1]


def _training_of(kind: type) -> Mapping[str, Any]:
    if not isinstance(kind, GivesTraining):
        raise NotServedError(
            f"It learns from samples that are not tested, and {kind.__name__} does not say how it gives others: its "
            "class has no 'training'."
        )
    return kind.training


def _describe(kind: type) -> str:
    values = " and ".join(f"{name} {value!r}" for name, value in _training_of(kind).items())
    return f"the samples of {kind.__name__} with {values}"
