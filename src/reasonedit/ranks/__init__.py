"""The ranks of a run: what they tell each other, how they end together, and how they notice that one is gone."""

from __future__ import annotations

from .ending import end_processes, is_requeued, leave_signals, share_signals
from .exchange import collective, exchange
from .pulse import Pulse
from .strategies import refuse_parts, refuse_spawning, spawning_error

__all__ = [
    "Pulse",
    "collective",
    "end_processes",
    "exchange",
    "is_requeued",
    "leave_signals",
    "refuse_parts",
    "refuse_spawning",
    "share_signals",
    "spawning_error",
]
