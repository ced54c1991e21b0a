"""Strategies of Lightning that cannot be used, and why."""

from __future__ import annotations

from multiprocessing.context import get_spawning_popen

import lightning as L

from reasonedit.errors import InputError

_SPAWNS = (
    "This trainer forks or spawns its processes (ddp_notebook, ddp_fork, ddp_spawn), and their codebook, metrics and "
    "predictions never come back: use strategy='ddp' from a script, or devices=1 with strategy='auto' (in a notebook)."
)
_CUT = ("DeepSpeedStrategy", "FSDPStrategy", "ModelParallelStrategy")


def _is_one_of(part: object, names: tuple[str, ...]) -> bool:
    """Whether a part of a trainer is of a class: ``lightning`` and ``pytorch_lightning`` have the same names."""
    return any(kind.__name__ in names for kind in type(part).__mro__)


def spawning_error(trainer: L.Trainer) -> InputError | None:
    """The error for a trainer whose strategy forks or spawns its processes; ``None`` for any other trainer.

    What callbacks find in such processes (codebook, metrics, predictions) never comes back to the process that asked.
    """
    strategy = getattr(trainer, "strategy", None)
    if not _is_one_of(getattr(strategy, "launcher", None), ("_MultiProcessingLauncher",)):
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
    if _is_one_of(strategy, _CUT):
        raise InputError(
            f"{type(strategy).__name__} cuts the model '{name}' into parts, and it must be whole: use strategy='ddp', "
            "or device_map for a model that is larger than a device."
        )
