"""How a signal that ends one rank ends the others: in good order, with no process left behind."""

from __future__ import annotations

import signal
import time

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from reasonedit.util.signals import Watch

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows SIGTERM ends a process at once
_GRACE = 2.0
"""Seconds that processes have to end by themselves before they are sent a signal."""


def share_signals(trainer: L.Trainer, watch: Watch | None) -> None:
    """Have a signal that ends this process also end the processes that Lightning starts out of it, in good order.

    Lightning's own handler of SIGTERM broadcasts, which hangs where it meets an exchange of ours: it is replaced by one
    that does not. Call this before ``trainer.predict``, or in a callback's ``setup``.

    Args:
        trainer: The trainer.
        watch: Our watch for signals, if there is one.
    """
    connector = getattr(trainer, "_signal_connector", None)
    if connector is not None and hasattr(connector, "_sigterm_notifier_fn"):

        def note(number: int, _frame: object) -> None:
            if watch is None and not connector.received_sigterm:
                signal_processes(trainer, number)
            connector.received_sigterm = True

        connector._sigterm_notifier_fn = note
    if watch is not None:
        watch.before_end.append(lambda: signal_processes(trainer, KILL))
        if isinstance(_environment_of(trainer), LightningEnvironment):
            # Where a process that it started fails, Lightning's observer kills this one before it says what was saved.
            watch.code = 0 if trainer.local_rank else None


def leave_signals(trainer: L.Trainer) -> None:
    """Leave signals to Lightning again. It restores the handlers that it found; later they would be out of date."""
    connector = getattr(trainer, "_signal_connector", None)
    if connector is not None:
        connector.teardown()
        vars(connector).pop("_sigterm_notifier_fn", None)


def is_requeued(trainer: L.Trainer) -> bool:
    """Whether SLURM puts the job into its queue again: then signals are Lightning's, which saves and requeues."""
    environment = _environment_of(trainer)
    return isinstance(environment, SLURMEnvironment) and environment.auto_requeue


def end_processes(trainer: L.Trainer) -> None:
    """End the processes that Lightning started out of this one, which a signal ends.

    They hear of the signal from rank to rank, except while they wait for their first meeting: then they are sent it.
    """
    launcher = getattr(trainer.strategy, "launcher", None)
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return
    end = time.monotonic() + _GRACE
    while any(process.poll() is None for process in launcher.procs) and time.monotonic() < end:
        time.sleep(_GRACE / 40)
    signal_processes(trainer, signal.SIGTERM)


def signal_processes(trainer: L.Trainer, number: int) -> None:
    """Send a signal to the processes that Lightning started out of this one."""
    launcher = getattr(trainer.strategy, "launcher", None)
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(number)


def _environment_of(trainer: L.Trainer) -> object:
    return getattr(getattr(trainer, "_accelerator_connector", None), "cluster_environment", None)
