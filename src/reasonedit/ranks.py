"""What the ranks of a run tell each other, and how they notice that one is gone."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.context import get_spawning_popen

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from reasonedit.errors import ReasonEditError
from reasonedit.signals import Watch

BEAT, PATIENCE = 1.0, 40.0
"""Seconds: between two signs of life, and after which a rank that gives none counts as gone."""

_GRACE = 5.0
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows SIGTERM ends a process at once
_LOCAL = "127.0.0.1"
_ELSEWHERE = (
    "This trainer forks or spawns its processes (ddp_notebook, ddp_fork, ddp_spawn), and their codebook, metrics and "
    "predictions never come back: use strategy='ddp' from a script, or devices=1 with strategy='auto' (in a notebook)."
)
_log = logging.getLogger(__name__)


def launched_elsewhere(trainer: L.Trainer) -> ReasonEditError | None:
    """Why a trainer cannot be used whose processes are forked or spawned by its strategy, where it is one of those.

    What callbacks find in such processes (codebook, metrics, predictions) never comes back to the one that asked.
    """
    strategy = getattr(trainer, "strategy", None)
    if not isinstance(getattr(strategy, "launcher", None), _MultiProcessingLauncher):
        return None
    return ReasonEditError(_ELSEWHERE)


def refuse_spawning() -> None:
    """Say early, before a model is copied, that processes which are spawned keep what they find.

    To be called where something is pickled.

    Raises:
        ReasonEditError: A process is being spawned.
    """
    if get_spawning_popen() is not None:
        raise ReasonEditError(_ELSEWHERE)


def refuse_parts(trainer: L.Trainer, name: str) -> None:
    """Refuse strategies that cut the module's model into parts: a VLM is used whole, and layer by layer.

    Args:
        trainer: The trainer.
        name: The VLM's name.

    Raises:
        ReasonEditError: The trainer has such a strategy.
    """
    strategy = getattr(trainer, "strategy", None)
    if isinstance(strategy, (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)):
        raise ReasonEditError(
            f"{type(strategy).__name__} cuts the model '{name}' into parts, and it must be whole: use strategy='ddp', "
            "or device_map for a model that is larger than a device."
        )


def exchange(trainer: L.Trainer, payload: bytes) -> list[bytes]:
    """Give every rank what each has to say, as tensors of one size.

    All ranks must call this at the same time.

    Args:
        trainer: The trainer.
        payload: What this rank says; ranks may say more or less.

    Returns:
        What each rank said, in the order of the ranks.

    Raises:
        ReasonEditError: Another rank is gone.
    """
    if trainer.world_size == 1:
        return [payload]
    device = trainer.strategy.root_device
    with together(trainer):
        sizes = _gathered(trainer, torch.tensor([len(payload)], device=device))[:, 0].tolist()
        padded = torch.zeros(max(1, *sizes), dtype=torch.uint8, device=device)
        if payload:
            padded[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8).to(device)
        rows = _gathered(trainer, padded).cpu()
    return [bytes(row[:size].numpy()) for row, size in zip(rows, sizes, strict=True)]


def _gathered(trainer: L.Trainer, tensor: Tensor) -> Tensor:
    return trainer.strategy.all_gather(tensor)


@contextmanager
def together(trainer: L.Trainer) -> Iterator[None]:
    """What all ranks do at the same time, and none can without the others.

    Raises:
        ReasonEditError: Another rank is gone.
    """
    try:
        yield
    except RuntimeError as error:  # the errors of process groups have no base of their own
        if trainer.world_size == 1:
            raise
        raise ReasonEditError(_gone(trainer.global_rank, str(error).splitlines()[0])) from error


def _gone(rank: int, reason: str) -> str:
    return (
        f"Rank {rank} cannot reach the other ranks any more ({reason}): one of them has ended or hangs, and so the run "
        "ends. What was edited until then is kept; the message of the one that ended first says why."
    )


def end_together(trainer: L.Trainer, watch: Watch | None) -> None:
    """See to it that a signal which ends one process ends those that Lightning starts out of it, in good order.

    Lightning's own handler of SIGTERM broadcasts, which hangs where it meets an exchange of ours: it is replaced by one
    that does not. Call it before ``trainer.predict``, or in a callback's ``setup``.

    Args:
        trainer: The trainer.
        watch: What listens for signals, if anything of ours does.
    """
    connector = getattr(trainer, "_signal_connector", None)
    if connector is not None and hasattr(connector, "_sigterm_notifier_fn"):

        def note(number: int, _frame: object) -> None:
            if watch is None and not connector.received_sigterm:
                _to_started(trainer, number)
            connector.received_sigterm = True

        connector._sigterm_notifier_fn = note
    if watch is not None:
        watch.last.append(lambda: _to_started(trainer, _KILL))
        if isinstance(_environment(trainer), LightningEnvironment):
            # Lightning's observer kills this process where one that it started fails, before it says what was saved.
            watch.code = 0 if trainer.local_rank else None


def let_go(trainer: L.Trainer) -> None:
    """Leave signals to Lightning again, which puts back what it found; later it would bring back what is gone."""
    connector = getattr(trainer, "_signal_connector", None)
    if connector is not None:
        connector.teardown()
        vars(connector).pop("_sigterm_notifier_fn", None)


def requeued(trainer: L.Trainer) -> bool:
    """Whether SLURM puts the job into its queue again: then signals are Lightning's, which saves and requeues."""
    environment = _environment(trainer)
    return isinstance(environment, SLURMEnvironment) and environment.auto_requeue


def _environment(trainer: L.Trainer) -> object:
    return getattr(getattr(trainer, "_accelerator_connector", None), "cluster_environment", None)


def end_started(trainer: L.Trainer) -> None:
    """Leave no process behind that Lightning started out of this one, which a signal ends.

    They hear of the signal from rank to rank, but not while they wait for their first meeting: they are sent it then.
    """
    launcher = getattr(trainer.strategy, "launcher", None)
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return
    end = time.monotonic() + 2 * BEAT
    while any(process.poll() is None for process in launcher.procs) and time.monotonic() < end:
        time.sleep(BEAT / 20)
    _to_started(trainer, signal.SIGTERM)


def _to_started(trainer: L.Trainer, number: int) -> None:
    """Send a signal to the processes that Lightning started out of this one."""
    launcher = getattr(trainer.strategy, "launcher", None)
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(number)


class Pulse:
    """Signs of life from rank to rank, so that none waits for one that is gone.

    Where all wait for each other in a collective operation, the libraries below notice a process that ended, but one
    that hangs, or a machine that went away, only after half an hour. Use :meth:`start` on all ranks at the same time.
    Where one rank is sent a signal to end, all end as if they had been sent it.
    """

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed = False
        self._spoke = 0.0
        self._watch_for: Watch | None = None
        self._trainer: L.Trainer | None = None

    def start(self, trainer: L.Trainer, watch: Watch | None = None) -> None:
        """Begin to give and to look for signs of life; nothing to do where there is one rank, or it is done already.

        Args:
            trainer: The trainer.
            watch: What listens for the signals that end this process, if anything does.
        """
        if trainer.world_size == 1 or self._thread is not None:
            return
        rank, ranks = trainer.global_rank, trainer.world_size
        self._trainer, self._watch_for = trainer, watch
        store = _meeting(trainer)
        self._stop.clear()
        self._wake.clear()
        self._failed, self._spoke = False, time.monotonic()
        if watch is not None:
            watch.heard.append(self._wake.set)
        self._thread = threading.Thread(target=self._beat, args=(store, rank, ranks), daemon=True)
        self._thread.start()
        threading.Thread(target=self._watch, args=(rank, self._stop), daemon=True).start()

    def stop(self, *, failed: bool = False) -> None:
        """Take leave.

        Args:
            failed: Whether this rank cannot go on: then the others end, too.
        """
        watch = self._watch_for
        self._failed = failed and not (watch is not None and watch.number)  # a signal is told as what it is
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=3 * BEAT)
            self._thread = None
        if watch is not None and self._wake.set in watch.heard:
            watch.heard.remove(self._wake.set)
        self._trainer = self._watch_for = None

    def _beat(self, store: TCPStore, rank: int, ranks: int) -> None:
        seen = {other: (-1, time.monotonic()) for other in range(ranks) if other != rank}
        knows = False  # that all are to end
        looked = time.monotonic()
        while True:
            leaving = self._stop.is_set()
            failed = False
            try:
                knows = knows or self._ends(store, rank)
                store.add(f"beat/{rank}", 1)
                if leaving:
                    store.add("failed" if self._failed else "left", 1)
                for other, (count, since) in seen.items():
                    now = store.add(f"beat/{other}", 0)
                    seen[other] = (now, time.monotonic() if now != count else since)
                failed = store.add("failed", 0) > 0
                if store.add("left", 0):  # the others are leaving too: nobody is missed any more
                    seen = {other: (count, time.monotonic()) for other, (count, _) in seen.items()}
                self._spoke = time.monotonic()
                if leaving and knows:
                    self._wait_for_all(store, ranks)
            except (RuntimeError, OSError):  # rank 0 keeps the store: it is gone, or about to be
                pass
            if leaving:
                return
            if time.monotonic() - looked > PATIENCE / 2:  # this process was stopped, and maybe all were
                seen = {other: (count, time.monotonic()) for other, (count, _) in seen.items()}
            missed = [other for other, (_, since) in seen.items() if self._spoke - since > PATIENCE]
            if failed:
                self._end(rank, "another rank failed")
            elif missed:
                self._end(rank, f"no sign of life from rank {missed[0]} for {PATIENCE:.0f} s")
            looked = time.monotonic()
            self._wake.wait(BEAT)
            if not self._stop.is_set():
                self._wake.clear()

    def _ends(self, store: TCPStore, rank: int) -> bool:
        """Tell the others of a signal that came, or hear of it; whether there was one."""
        watch = self._watch_for
        if watch is not None and watch.number:
            store.set("signal", str(watch.number))
            store.add("signalled", 1)
        elif store.add("signalled", 0) == 0:
            return False
        elif watch is None:
            self._end(rank, "a signal ended another")
        else:
            watch.pass_on(int(store.get("signal")))
        store.add("knowing", 1)
        return True

    @staticmethod
    def _wait_for_all(store: TCPStore, ranks: int) -> None:
        """Stay until all know that it is over: a rank that is gone before would be missed."""
        end = time.monotonic() + 2 * BEAT
        while store.add("knowing", 0) < ranks and time.monotonic() < end:
            time.sleep(BEAT / 10)

    def _watch(self, rank: int, stop: threading.Event) -> None:
        """Notice that rank 0, which keeps the store, hangs: then :meth:`_beat` waits for it without an end."""
        looked = time.monotonic()
        while not stop.wait(BEAT):
            if time.monotonic() - looked > PATIENCE / 2:  # this process was stopped
                self._spoke = time.monotonic()
            looked = time.monotonic()
            if looked - self._spoke > PATIENCE:
                self._end(rank, f"no sign of life from rank 0 for {PATIENCE:.0f} s")

    def _end(self, rank: int, reason: str) -> None:
        """End this process: its main thread may wait in a place where nothing else reaches it."""
        if not self._stop.wait(_GRACE):  # it may have noticed by itself
            _log.error(_gone(rank, reason))
            if self._trainer is not None:
                _to_started(self._trainer, _KILL)  # one that is stopped would stay for ever
            os._exit(1)


def _meeting(trainer: L.Trainer) -> TCPStore:
    """Where ranks meet: rank 0 keeps it; nobody on another machine can reach it where there are no ranks."""
    address = _LOCAL if trainer.num_nodes == 1 else os.environ.get("MASTER_ADDR", _LOCAL)
    limit = timedelta(seconds=PATIENCE)
    own, port = None, 0
    if trainer.global_rank == 0:
        with socket.socket() as listening:
            listening.bind((_LOCAL if trainer.num_nodes == 1 else "", 0))
            port = listening.getsockname()[1]
            own = TCPStore(
                address,
                port,
                is_master=True,
                wait_for_workers=False,
                timeout=limit,
                master_listen_fd=listening.detach(),
            )
    port = int(exchange(trainer, str(port).encode())[0])
    return own or TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=limit)
