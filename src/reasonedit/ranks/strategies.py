"""Strategies of Lightning that cannot be used, and why."""

from __future__ import annotations

from multiprocessing.context import get_spawning_popen

import lightning as L
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from reasonedit.errors import InputError

_SPAWNS = (
    "This trainer forks or spawns its processes (ddp_notebook, ddp_fork, ddp_spawn), and their codebook, metrics and "
    "predictions never come back: use strategy='ddp' from a script, or devices=1 with strategy='auto' (in a notebook)."
)


def spawning_error(trainer: L.Trainer) -> InputError | None:
    """The error for a trainer whose strategy forks or spawns its processes; ``None`` for any other trainer.

    What callbacks find in such processes (codebook, metrics, predictions) never comes back to the process that asked.
    """
    strategy = getattr(trainer, "strategy", None)
    if not isinstance(getattr(strategy, "launcher", None), _MultiProcessingLauncher):
        return None
    return InputError(_SPAWNS)


def refuse_spawning() -> None:
    """Refuse to be sent to a process that is spawned, before a model is copied. Call it where something is pickled.

    Raises:
        InputError: A process is being spawned.
    """
    if get_spawning_popen() is not None:
        raise InputError(_SPAWNS)


def refuse_parts(trainer: L.Trainer, name: str) -> None:
    """Refuse strategies that cut the module's model into parts: a VLM is used whole, and layer by layer.

    Args:
        trainer: The trainer.
        name: The VLM's name.

    Raises:
        InputError: The trainer has such a strategy.
    """
    strategy = getattr(trainer, "strategy", None)
    if isinstance(strategy, (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)):
        raise InputError(
            f"{type(strategy).__name__} cuts the model '{name}' into parts, and it must be whole: use strategy='ddp', "
            "or device_map for a model that is larger than a device."
        )
