"""Records the system calls of a process that does scenarios, as strace sees them."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

CALLS = (
    "open openat creat read write pread64 pwrite64 readv writev pwritev lseek ftruncate truncate fallocate fsync "
    "fdatasync rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat mkdir mkdirat rmdir sendfile "
    "copy_file_range mmap dup dup2 dup3 fcntl close ioctl"
)
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
_TEXT = r'"((?:\\x[0-9a-f]{2})*)"'
_OPEN_FILE = r"(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)(?:>\(deleted\)|>)"
_ACKNOWLEDGED = b'{"acknowledged"'


def missing() -> str:
    """Why nothing can be recorded here; nothing where something can."""
    return "" if which("strace") else "there is no strace"


@dataclass(frozen=True)
class Call:
    """A system call that succeeded: its name, its arguments as strace prints them, and what it returned."""

    name: str
    arguments: str
    result: int

    @property
    def texts(self) -> list[bytes]:
        """Its strings: paths, or what is written."""
        return [_unescape(text) for text in re.findall(_TEXT, self.arguments)]

    @property
    def files(self) -> list[int]:
        """The numbers of the open files among its arguments, -1 for the working folder."""
        return [-1 if number == "AT_FDCWD" else int(number) for number, _ in re.findall(_OPEN_FILE, self.arguments)]

    @property
    def numbers(self) -> list[int]:
        """Its plain numbers."""
        bare = re.sub(f"{_TEXT}|{_OPEN_FILE}", "", self.arguments)
        return [int(number) for number in re.findall(r"(?<![\w\[])-?\d+(?![\w\]])", bare)]


def _unescape(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class Recorder:
    """A process that does scenarios while its system calls are recorded."""

    def __init__(self, scratch: Path) -> None:
        self._log = scratch / "calls"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        here = str(Path(__file__).parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "helpers.recorder"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def record(self, scenario: str, root: Path) -> list[Call]:
        """The calls of one scenario."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        trace = ["strace", "-f", "-y", "-xx", "-s", str(1 << 28), "-o", str(self._log), "-p", str(self._process.pid)]
        with subprocess.Popen(
            [*trace, "-e", f"trace={','.join(CALLS.split())}"], stderr=subprocess.PIPE, text=True
        ) as recorder:
            assert recorder.stderr is not None
            for line in recorder.stderr:  # until it is there
                if "attached" in line:
                    break
            else:
                raise RuntimeError("strace may not look into other processes here")
            self._process.stdin.write(json.dumps({"scenario": scenario, "root": str(root)}) + "\n")
            self._process.stdin.flush()
            while "done" not in (line := self._process.stdout.readline()):
                assert line, "the process that is recorded has ended"
            recorder.terminate()
            recorder.stderr.read()
        return _parse_log(self._log)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def _parse_log(log: Path) -> list[Call]:
    calls, cut = [], dict[str, str]()
    for line in log.read_text().splitlines():
        process = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            cut[process] = line.removesuffix("<unfinished ...>")
            continue
        resumed = re.sub(r"^\d+ +<\.\.\. \w+ resumed>", "", line)
        if resumed != line:
            line = cut.pop(process) + resumed
        if (found := _CALL.match(line)) and int(found[3]) >= 0:
            calls.append(Call(found[1], found[2], int(found[3])))
    return calls


def acknowledges(call: Call) -> bool:
    """Whether a call says that a step is acknowledged."""
    return call.name == "write" and call.texts[0].startswith(_ACKNOWLEDGED)


def _serve() -> None:
    import torch

    from helpers.scenarios import SCENARIOS

    logging.getLogger("reasonedit").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    os.write(1, b"ready\n")
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        for _ in SCENARIOS[asked["scenario"]].act(Path(asked["root"])):
            os.write(1, _ACKNOWLEDGED + b": true}\n")
        os.write(1, b"done\nready\n")


if __name__ == "__main__":
    _serve()
