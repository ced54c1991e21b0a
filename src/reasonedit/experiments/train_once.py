"""Networks of editors: trained once for a model by one of the cells that need them, and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from reasonedit.data.stream import EditStream
from reasonedit.util.cache import cache_folder
from reasonedit.util.dependencies import versions_of

from .cells import LIBRARIES, Cell

if TYPE_CHECKING:
    from .lab import Lab

TRAINING_SEED = 1000
"""The seed of the source that networks are trained on: far from those of development and reporting."""
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


def network_path(lab: Lab, name: str, edits: int, code: Sequence[Any], **settings: Any) -> Path:
    """Where the network of an editor is kept: its name is the checksum of all that it depends on.

    Args:
        lab: Where the model and its data are.
        name: The editor's name; the folder's, too.
        edits: How many edits it is trained on.
        code: The modules and classes that train it, besides those of the VLM and its data.
        **settings: What else it depends on.
    """
    data, classes, arguments = lab.data_record(_cell(name))
    made_by = {
        "model": {name: value for name, value in lab.model_record.items() if name != "name"},
        "steps": lab.mend_steps,
        "edits": edits,
        "data": data,
        "files": lab.checksums(arguments),
        "code": lab.code([*code, type(lab.module.vlm), *classes]),
        "libraries": versions_of(LIBRARIES),
        **settings,
    }
    content = json.dumps(made_by, sort_keys=True, default=str)
    return cache_folder() / name / f"{hashlib.sha256(content.encode()).hexdigest()}.safetensors"


def training_stream(lab: Lab, name: str, edits: int) -> EditStream:
    """The stream that the network of an editor is trained on, of a seed that no experiment uses."""
    stream = lab.stream(_cell(name))
    stream.source.edits = edits
    return stream


def _cell(name: str) -> Cell:
    return Cell(name, name, TRAINING_SEED, lambda _lab: [])
