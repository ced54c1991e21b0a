"""The command ``reasonedit run`` in processes of its own: on a tiny VLM with an encoder that needs no model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent

ENTRY = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}]
from helpers.tiny import HashEncoder
from reasonedit.embedding import SentenceEncoder
SentenceEncoder.from_pretrained = classmethod(lambda cls, name="hash", device=None: HashEncoder())
from reasonedit.cli import main
sys.exit(main())
"""


def write_config(path: Path, model: Path, edits: int = 6) -> Path:
    """A config of toy edits in batches of two, with probes after every four."""
    design = {"embedding": {"encoder": "hash", "text_weight": 1.0}}
    source = {"class_path": "helpers.toy.ToySource", "init_args": {"edits": edits}}
    ours = {"Codebook": {"design": design}, "Retriever": {"k": 3}, "EditingMetrics": {}, "PredictionWriter": {}}
    listed = [{"class_path": f"reasonedit.callbacks.{name}", "init_args": given} for name, given in ours.items()]
    content = {
        "seed_everything": 0,
        "model": {
            "class_path": "reasonedit.VLMModule",
            "init_args": {"model": str(model), "max_new_tokens": 3, "dtype": "float32"},
        },
        "data": {
            "class_path": "reasonedit.EditStream",
            "init_args": {"source": source, "batch_size": 2, "interleave": 4},
        },
        "trainer": {"accelerator": "cpu", "callbacks": [*listed, {"class_path": "helpers.waiting.Holds"}]},
    }
    path.write_text(json.dumps(content))
    return path


@contextmanager
def started(
    folder: Path, *words: object, torchrun: bool = False, env: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """``reasonedit`` with some words, in a session of its own, and the file of all that it says.

    Whatever of it is there at the end is killed.
    """
    entry, said = folder / "entry.py", folder / "said"
    entry.write_text(ENTRY)
    agent = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"] if torchrun else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "REASONEDIT_CACHE": str(folder / "cache"), **(env or {})}
    options: dict[str, Any] = {"env": environment, "start_new_session": True, "preexec_fn": _heeds_ctrl_c}
    with (
        said.open("wb") as file,
        subprocess.Popen(
            [sys.executable, *agent, str(entry), *map(str, words)], stdout=file, stderr=file, **options
        ) as process,
    ):
        try:
            yield process, said
        finally:
            for pid in left_of(process):
                os.kill(pid, signal.SIGKILL)


def _heeds_ctrl_c() -> None:
    """A suite that runs in the background of a shell hands it down that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def left_of(process: subprocess.Popen[bytes]) -> list[int]:
    """What is still there of a command, itself included; torchrun gives each of its processes a session of its own."""
    process.poll()
    (entry,) = (word for word in map(str, process.args) if word.endswith("entry.py"))  # type: ignore[arg-type]
    found = subprocess.run(["pgrep", "-f", entry], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split() if int(pid) != process.pid or process.returncode is None]


def ranks_of(process: subprocess.Popen[bytes]) -> dict[int, int]:
    """The processes of a command that are ranks, by their numbers; the agent of torchrun is none."""
    found = {}
    for pid in left_of(process):
        try:
            given = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            called = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if b"entry.py" in called and b"torch.distributed.run" not in called:
            numbers = [value.removeprefix(b"LOCAL_RANK=") for value in given if value.startswith(b"LOCAL_RANK=")]
            found[int(numbers[0]) if numbers else 0] = pid
    return found
