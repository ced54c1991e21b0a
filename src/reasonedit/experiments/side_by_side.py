"""Runs the cells of an experiment in several processes at once, each with a model of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from reasonedit.errors import NotServedError, UnavailableError
from reasonedit.quiet import quieten

from .cells import Cell
from .experiment import Experiment, with_editors
from .lab import Lab
from .plans import EXPERIMENTS
from .running import run_cell

_GRACE = 4.0
"""Seconds that processes have to end where all of it is interrupted: less than this one has itself."""


@dataclass(frozen=True)
class Work:
    """What processes are to run; all of it can be sent to another process.

    Attributes:
        experiment: The name of the experiment.
        editors: Class paths of its further editors.
        config: The config of the lab.
        edits: The number of edits of each stream.
        folder: The folder of the experiment.
        jobs: How many processes.
        token_accuracy: As in :class:`~reasonedit.experiments.Lab`.
        gpus: The GPUs that they share in turn, as in ``CUDA_VISIBLE_DEVICES``.
    """

    experiment: str
    editors: tuple[str, ...]
    config: Mapping[str, Any]
    edits: int
    folder: Path
    jobs: int
    token_accuracy: bool = False
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        cell: The cell.
        seconds: The seconds that it took, or ``None`` where its result was there already.
        beyond: Why its row is left out, where it takes what the VLM or the data set does not give.
    """

    cell: Cell
    seconds: float | None
    beyond: str = ""


def run_side_by_side(work: Work, cells: Sequence[Cell]) -> Iterator[Outcome]:
    """Run cells in several processes, on all GPUs that there are in turn.

    The first row of every seed comes first, then the second: what the rows of a seed share is then mostly there
    already when the next needs it.

    Args:
        work: What all processes must know.
        cells: The cells of the experiment that are wanted.

    Yields:
        What came of each cell, as they end. Of a row that is left out one cell is enough.

    Raises:
        ReasonEditError: A cell cannot be run: nothing further is begun, and what is under way is brought to its end.
        UnavailableError: A process was killed.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    gpus = context.SimpleQueue()
    for number in range(work.jobs):
        gpus.put(work.gpus[number % len(work.gpus)] if work.gpus else "")
    rows = list(dict.fromkeys(cell.row for cell in cells))
    todo = sorted(cells, key=lambda cell: rows.index(cell.row))  # stable: the seeds stay in their order
    with ProcessPoolExecutor(work.jobs, context, _begin, (work, gpus)) as pool:
        try:
            with _ctrl_c_blocked():  # as the processes begin, which inherit it: they are told by this one
                running: dict[Future[tuple[float | None, str]], Cell] = {
                    pool.submit(_run, cell.row, cell.seed): cell for cell in todo
                }
            while running:
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield Outcome(running.pop(future), *future.result())
        except BrokenProcessPool as error:
            raise UnavailableError(
                f"One of the {work.jobs} processes that run cells was ended from outside, as where there is too little "
                "memory: run the same command with fewer --jobs; what is there already stays."
            ) from error
        except Exception:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        except BaseException:
            _end(pool)
            raise


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Have Ctrl-C wait, in this thread and in all that it begins."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(pool: ProcessPoolExecutor) -> None:
    """End all processes, those that hang as well."""
    processes = multiprocessing.active_children()
    for process in processes:
        process.terminate()
    pool.shutdown(wait=False, cancel_futures=True)
    end = time.monotonic() + _GRACE
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        process.kill()


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return tuple(named[:count] if named else map(str, range(count)))


class _Process:
    """What a process keeps from cell to cell."""

    runs = False
    ended = False
    lab: Lab
    experiment: Experiment
    folder: Path


def _begin(work: Work, gpus: Any) -> None:
    """Prepare a process: its GPU, its share of the CPU's threads, its lab; and its end, once nobody waits for it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, _interrupt)
    quieten()
    gpu = gpus.get()
    if gpu:  # before anything of CUDA is asked in this process
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // work.jobs))
    _Process.lab = Lab(work.config, work.edits, at_once=work.jobs, token_accuracy=work.token_accuracy)
    _Process.experiment = with_editors(EXPERIMENTS[work.experiment], work.editors)
    _Process.folder = work.folder


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Run no further cell; what the one under way has begun to write goes first."""
    _Process.ended = True
    if _Process.runs:
        raise KeyboardInterrupt


def _end_with_parent() -> None:
    """End this process once the one that began it is gone, however that ended: nobody would take its result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(row: str, seed: int) -> tuple[float | None, str]:
    """Run a cell: its seconds, unless its result was there already, and why its row is left out, if it is."""
    [cell] = _Process.experiment.cells([seed], [row])
    started = time.perf_counter()
    _Process.runs = True
    try:
        if _Process.ended:
            raise KeyboardInterrupt
        is_new = run_cell(_Process.lab, cell, _Process.folder)
    except NotServedError as error:
        return None, str(error)
    finally:
        _Process.runs = False
    return (time.perf_counter() - started if is_new else None), ""
