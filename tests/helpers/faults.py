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
    """Why no such process can run here; nothing where one can."""
    if not sys.platform.startswith("linux"):
        return "calls are met by LD_PRELOAD, on Linux"
    return "" if which("cc") else "there is no C compiler"


def build_library(folder: Path) -> Path:
    """Compile the library that intercepts the calls."""
    made = folder / "faults.so"
    command = ["cc", "-O1", "-Wall", "-shared", "-fPIC", "-o", str(made), str(HERE / "faults.c"), "-ldl"]
    subprocess.run(command, check=True)
    return made


@dataclass
class Outcome:
    """What came of a scenario.

    Attributes:
        acknowledged: What each acknowledged step yielded.
        killed: Whether the process was killed.
        calls: A letter for each call that writes, as in faults.c.
        error: The message of a ReasonEditError.
        raw: The traceback of any other error.
        seen: What the codebooks showed then, as by :func:`~helpers.scenarios.look`.
        again: The traceback of what went wrong when the same process tried once more without a fault.
    """

    acknowledged: list[Any] = field(default_factory=list)
    killed: bool = False
    calls: str = ""
    error: str = ""
    raw: str = ""
    seen: dict[str, list[str]] = field(default_factory=dict)
    again: str = ""


class FaultyProcesses:
    """Runs scenarios in processes of their own, forked from one that has loaded everything."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self, scenario: str, root: Path, kind: int = NOTHING, at: int = 0, code: int = 0, *, hollow: bool = False
    ) -> Outcome:
        """Run one scenario with one fault; ``hollow`` for locks that exclude nobody."""
        asked = {"scenario": scenario, "root": str(root), "kind": kind, "at": at, "code": code, "hollow": hollow}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        ran = Outcome()
        for line in self._process.stdout:
            message = json.loads(line)
            ran.acknowledged += [message["acknowledged"]] if "acknowledged" in message else []
            for name in ("calls", "error", "raw", "seen", "again"):
                setattr(ran, name, message.get(name, getattr(ran, name)))
            if "ended" in message:
                ran.killed = message["ended"] == signal.SIGKILL
                assert ran.killed or message["ended"] == 0, message
                return ran
        raise AssertionError("the process that forks has ended")


@contextmanager
def run_with_faults(scratch: Path) -> Iterator[FaultyProcesses]:
    """Start the process that forks those in which scenarios run with faults."""
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


def _report(**message: Any) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


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
    try:  # the disk works again: the same process goes on
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
