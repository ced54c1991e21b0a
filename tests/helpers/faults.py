"""Processes in which the n-th call that writes fails, writes by half, or ends the process: see faults.c."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any

HERE = Path(__file__).parent
# What a fault does at its call; the same in faults.c.
NOTHING, FAIL, FAIL_FROM_HERE, SHORT, HALF_THEN_FAIL, KILL, HALF_THEN_KILL = range(7)


def missing() -> str:
    """Why no such process can be had here; nothing where it can."""
    if not sys.platform.startswith("linux"):
        return "calls are met by LD_PRELOAD, on Linux"
    return "" if which("cc") else "there is no C compiler"


def build_library(folder: Path) -> Path:
    """The library that stands in between."""
    made = folder / "faults.so"
    command = ["cc", "-O1", "-Wall", "-shared", "-fPIC", "-o", str(made), str(HERE / "faults.c"), "-ldl"]
    subprocess.run(command, check=True)
    return made


@dataclass
class Outcome:
    """How it went.

    Attributes:
        acknowledged: What each step that was acknowledged handed over.
        killed: Whether it was.
        calls: A letter for each call that writes, as in faults.c.
        error: The sentence that was said.
        raw: The error that was no sentence.
        seen: What the codebooks showed then, as :func:`~helpers.scenarios.look` tells it.
        again: What went wrong when the same process tried once more, with no fault.
    """

    acknowledged: list[Any] = field(default_factory=list)
    killed: bool = False
    calls: str = ""
    error: str = ""
    raw: str = ""
    seen: dict[str, list[str]] = field(default_factory=dict)
    again: str = ""


class FaultyProcesses:
    """Runs scenarios in processes of their own, which are forked from one that has loaded everything."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self, scenario: str, root: Path, kind: int = NOTHING, at: int = 0, code: int = 0, *, hollow: bool = False
    ) -> Outcome:
        """One scenario with one fault; ``hollow`` for locks that exclude nobody."""
        asked = {"scenario": scenario, "root": str(root), "kind": kind, "at": at, "code": code, "hollow": hollow}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        ran = Outcome()
        for line in self._process.stdout:
            told = json.loads(line)
            ran.acknowledged += [told["acknowledged"]] if "acknowledged" in told else []
            for name in ("calls", "error", "raw", "seen", "again"):
                setattr(ran, name, told.get(name, getattr(ran, name)))
            if "ended" in told:
                ran.killed = told["ended"] == signal.SIGKILL
                assert ran.killed or told["ended"] == 0, told
                return ran
        raise AssertionError("the process that forks has ended")


@contextmanager
def run_with_faults(scratch: Path) -> Iterator[FaultyProcesses]:
    """Where scenarios run with faults."""
    environment = {**os.environ, "LD_PRELOAD": str(build_library(scratch)), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "helpers.faults"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield FaultyProcesses(process)
        finally:
            process.kill()


def _report(**told: Any) -> None:
    os.write(1, json.dumps(told).encode() + b"\n")


def _run_child(asked: dict[str, Any]) -> None:
    from helpers.scenarios import SCENARIOS, WRITERS, look
    from reasonedit import ReasonEditError

    shim = ctypes.CDLL(None)
    shim.faults_seen.restype = ctypes.c_char_p
    scenario, root = {**SCENARIOS, **WRITERS}[asked["scenario"]], Path(asked["root"])
    shim.faults_hollow_locks(int(asked["hollow"]))
    shim.faults_arm(os.fsencode(root), ctypes.c_long(asked["at"]), asked["kind"], asked["code"])
    try:
        for step in scenario.act(root):
            _report(acknowledged=step)
    except ReasonEditError as error:
        _report(error=str(error))
    except Exception:
        _report(raw=traceback.format_exc(limit=-4))
    shim.faults_disarm()
    _report(calls=shim.faults_seen().decode())
    _report(seen={name: [seen.words, seen.content] for name, seen in look(root).items()})
    try:  # the disk is well again: the same process goes on
        for _ in scenario.act(root):
            pass
    except Exception:
        _report(again=traceback.format_exc(limit=-4))


def _serve() -> None:
    import torch

    import helpers.scenarios  # noqa: F401  # loaded once, before the forks

    logging.getLogger("reasonedit").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # a forked process has no threads but its own
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run_child(json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        _report(ended=os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


if __name__ == "__main__":
    _serve()
