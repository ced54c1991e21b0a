"""Signs of life from rank to rank, and signals that one rank was sent."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from datetime import timedelta

import lightning as L
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from reasonedit.util.signals import Watch

from .ending import KILL, signal_processes
from .exchange import describe_lost_ranks, exchange

BEAT, PATIENCE = 1.0, 40.0
"""Seconds: between two signs of life, and after which a rank that gives none counts as gone."""

_GRACE = 5.0
_LOCAL = "127.0.0.1"
_log = logging.getLogger(__name__)


class Pulse:
    """Signs of life from rank to rank, so that none waits for one that is gone.

    In a collective operation all wait for each other. The libraries below notice at once that a process ended, but only
    after half an hour that one hangs, or that a machine went away. Call :meth:`start` on all ranks at the same time.
    Where one rank is sent a signal to end, all end as if they had been sent it.
    """

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed = False
        self._last_contact = 0.0
        self._watch_for_signals: Watch | None = None
        self._trainer: L.Trainer | None = None

    def start(self, trainer: L.Trainer, watch: Watch | None = None) -> None:
        """Begin to give signs of life and to look for those of others; nothing to do for one rank, or a second time.

        Args:
            trainer: The trainer.
            watch: Our watch for the signals that end this process, if there is one.
        """
        if trainer.world_size == 1 or self._thread is not None:
            return
        rank, ranks = trainer.global_rank, trainer.world_size
        self._trainer, self._watch_for_signals = trainer, watch
        store = _open_store(trainer)
        self._stop.clear()
        self._wake.clear()
        self._failed, self._last_contact = False, time.monotonic()
        if watch is not None:
            watch.on_signal.append(self._wake.set)
        self._thread = threading.Thread(target=self._beat, args=(store, rank, ranks), daemon=True)
        self._thread.start()
        threading.Thread(target=self._watch, args=(rank, self._stop), daemon=True).start()

    def stop(self, *, failed: bool = False) -> None:
        """Stop giving signs of life.

        Args:
            failed: Whether this rank cannot go on: then the others end as well.
        """
        watch = self._watch_for_signals
        self._failed = failed and not (watch is not None and watch.signal_number)  # a signal is no failure
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=3 * BEAT)
            self._thread = None
        if watch is not None and self._wake.set in watch.on_signal:
            watch.on_signal.remove(self._wake.set)
        self._trainer = self._watch_for_signals = None

    def _beat(self, store: TCPStore, rank: int, ranks: int) -> None:
        signs = {other: (-1, time.monotonic()) for other in range(ranks) if other != rank}  # count, and since when
        knows = False  # that all are to end
        looked = time.monotonic()
        while True:
            leaving = self._stop.is_set()
            failed = False
            try:
                knows = knows or self._spread_signal(store, rank)
                store.add(f"beat/{rank}", 1)
                if leaving:
                    store.add("failed" if self._failed else "left", 1)
                for other, (count, since) in signs.items():
                    now = store.add(f"beat/{other}", 0)
                    signs[other] = (now, time.monotonic() if now != count else since)
                failed = store.add("failed", 0) > 0
                if store.add("left", 0):  # the others are leaving too: nobody is missed any more
                    signs = {other: (count, time.monotonic()) for other, (count, _) in signs.items()}
                self._last_contact = time.monotonic()
                if leaving and knows:
                    self._wait_until_all_know(store, ranks)
            except (RuntimeError, OSError):  # rank 0 keeps the store: it is gone, or about to be
                pass
            if leaving:
                return
            if time.monotonic() - looked > PATIENCE / 2:  # this process was stopped, and maybe all were
                signs = {other: (count, time.monotonic()) for other, (count, _) in signs.items()}
            missed = [other for other, (_, since) in signs.items() if self._last_contact - since > PATIENCE]
            if failed:
                self._end(rank, "another rank failed")
            elif missed:
                self._end(rank, f"no sign of life from rank {missed[0]} for {PATIENCE:.0f} s")
            looked = time.monotonic()
            self._wake.wait(BEAT)
            if not self._stop.is_set():
                self._wake.clear()

    def _spread_signal(self, store: TCPStore, rank: int) -> bool:
        """Tell the others of a signal that came, or hear of theirs. Returns whether there was one."""
        watch = self._watch_for_signals
        if watch is not None and watch.signal_number:
            store.set("signal", str(watch.signal_number))
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
    def _wait_until_all_know(store: TCPStore, ranks: int) -> None:
        """Stay until all ranks know of the signal: a rank that leaves before would be missed."""
        end = time.monotonic() + 2 * BEAT
        while store.add("knowing", 0) < ranks and time.monotonic() < end:
            time.sleep(BEAT / 10)

    def _watch(self, rank: int, stop: threading.Event) -> None:
        """Notice that rank 0, which keeps the store, hangs: :meth:`_beat` would wait for it forever."""
        looked = time.monotonic()
        while not stop.wait(BEAT):
            if time.monotonic() - looked > PATIENCE / 2:  # this process was stopped
                self._last_contact = time.monotonic()
            looked = time.monotonic()
            if looked - self._last_contact > PATIENCE:
                self._end(rank, f"no sign of life from rank 0 for {PATIENCE:.0f} s")

    def _end(self, rank: int, reason: str) -> None:
        """End this process: its main thread may wait where nothing else reaches it."""
        if not self._stop.wait(_GRACE):  # it may have noticed by itself
            _log.error(describe_lost_ranks(rank, reason))
            if self._trainer is not None:
                signal_processes(self._trainer, KILL)  # a stopped process would stay forever
            os._exit(1)


def _open_store(trainer: L.Trainer) -> TCPStore:
    """The store of all ranks, which rank 0 keeps; reachable from other machines only where ranks are there."""
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
