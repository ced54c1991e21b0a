"""What makes an editor for the model of a lab."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import lightning as L

import reasonedit.callbacks as cb
from reasonedit.design import Design
from reasonedit.errors import InputError

from .cells import MakeCallbacks
from .evidence_cache import CachedEvidenceFinder
from .lab import Lab


def editing(design: Callable[[Design], Design] | Design) -> MakeCallbacks:
    """Codebook and retriever with a design, or with what is made of the model's own."""

    def make(lab: Lab) -> list[L.Callback]:
        chosen = design if isinstance(design, Design) else design(lab.design)
        return [cb.Codebook(design=chosen, finder=CachedEvidenceFinder), cb.Retriever()]

    return make


def baseline(path: str, **options: Any) -> MakeCallbacks:
    """An editor that needs nothing but the model.

    Args:
        path: Its class path; after a leading dot it starts from ``reasonedit.callbacks.baselines``.
        **options: Its arguments.
    """
    return lambda _lab: [load_editor(path)(**options)]


def load_editor(path: str) -> type[cb.Editor]:
    """The class of an editor.

    Args:
        path: As for :func:`baseline`.

    Raises:
        InputError: There is no such class, or it is no editor.
    """
    module, _, name = path.removeprefix(".").rpartition(".")
    package = "reasonedit.callbacks.baselines." if path.startswith(".") else ""
    try:
        kind = getattr(importlib.import_module(package + module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"There is no editor '{path}' ({error}): name it by module and class.") from error
    if not (isinstance(kind, type) and issubclass(kind, cb.Editor)):
        raise InputError(f"'{path}' is not an editor: derive it from reasonedit.callbacks.Editor.")
    return kind
