"""Processes that write edits until they are killed, and report each id once the edit is acknowledged."""

import os
import signal
import sys
from pathlib import Path

import torch

from reasonedit import Edit
from reasonedit.codebook import EditMemory, Entry, Fact, Store

sys.path.insert(0, str(Path(__file__).parent.parent))
from helpers.tiny import picture


def make_edit(number: int) -> tuple[Edit, list[Entry]]:
    """An edit that depends on its number alone; some merge, some have two pictures."""
    crop = [[picture(number + 1000)], None] if number % 3 == 0 else ()
    edit = Edit(picture(number), f"What is {number}?", f"thing {number}", ["It is round.", "It is red."],
                id=f"e{number:05d}", evidence=crop)  # fmt: skip
    keys = torch.randn(3, 8, generator=torch.Generator().manual_seed(number // 2))
    return edit, [Entry(key, 1.0, Fact(f"fact {number} {i}", "image", edit.id)) for i, key in enumerate(keys)]


def open_or_create(folder: Path) -> EditMemory:
    if Store.exists(folder):
        return EditMemory.open(Store.open(folder))
    memory = EditMemory()
    memory.copy_to(Store.create(folder, {"vlm": "v"}, {"model": "m"}, {"mean": torch.arange(4.0)}))
    return memory


def book(folder: Path, edits: int = 3) -> EditMemory:
    """A codebook with the first edits, created where it does not exist."""
    memory = open_or_create(folder)
    for number in range(edits):
        memory.write(*make_edit(number))
    return memory


def open_memory(folder: Path) -> EditMemory:
    """Read the codebook in a folder anew."""
    return EditMemory.open(Store.open(folder))


def write_on(folder: Path, pipe: int) -> None:
    """Write until killed; what is acknowledged goes into a pipe."""
    memory = open_or_create(folder)
    number = len(memory.edits) + len(memory.undone)
    os.write(pipe, b"ready\n")
    while True:
        memory.write(*make_edit(number))
        os.write(pipe, b"wrote e%05d\n" % number)
        if number % 7 == 3:
            memory.undo(f"e{number - 1:05d}")
            os.write(pipe, b"undid e%05d\n" % (number - 1))
        if number % 5 == 4:
            memory.settle(join=number % 10 == 9)
        number += 1


def serve() -> None:
    """Fork a process for each folder named on standard input, which writes there; its id is printed first.

    Everything is loaded already when it is forked.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        child = os.fork()
        if child == 0 and not line.strip():
            os._exit(0)
        if child == 0:
            write_on(Path(line.strip()), 1)
        os.write(1, b"process %d\n" % child)


if __name__ == "__main__":
    torch.set_num_threads(1)  # a forked process has no threads but its own
    serve()
