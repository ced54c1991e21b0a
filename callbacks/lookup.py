"""Callbacks that work together find each other through the trainer."""

from __future__ import annotations

from typing import Any, TypeVar

import lightning as L

T = TypeVar("T", bound=L.Callback)


def find_callback(trainer: L.Trainer, kind: type[T]) -> T | None:
    """The first callback of a kind in the same trainer, if any."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return next((c for c in callbacks if isinstance(c, kind)), None)
