"""Forks: the child holds nothing that its parent holds, hangs on nothing, and writes in its turn."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from helpers.children import run_in_child
from helpers.waiting import wait_until
from helpers.writer import book, make_edit, open_memory

from reasonedit import ReasonEditError
from reasonedit.call_batcher import CallBatcher
from reasonedit.codebook import EditMemory
from reasonedit.codebook.disk.lock import WriterLock
from reasonedit.codebook.key_table import KeyTable
from reasonedit.codebook.repair import verify
from reasonedit.util.threads import Guard, guard_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")


def whole(folder: Path, ids: list[str]) -> None:
    """The folder holds these edits and no others, and nothing of it is damaged."""
    assert verify(folder).damages == []
    memory = open_memory(folder)
    assert sorted(memory.edits) == ids
    for number, name in enumerate(ids):
        assert torch.equal(memory.entries_of(name)[0].key, make_edit(number)[1][0].key)


def names(count: int) -> list[str]:
    return [f"e{number:05d}" for number in range(count)]


class Elsewhere:
    """A thread that does something and stops in the middle of it until it is let go on."""

    def __init__(self, run) -> None:
        self.there, self.on = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=run, args=(self,), daemon=True)

    def stop(self) -> None:
        self.there.set()
        self.on.wait()

    def __enter__(self) -> Elsewhere:
        self._thread.start()
        self.there.wait()
        return self

    def __exit__(self, *raised: object) -> None:
        self.on.set()
        self._thread.join()


def test_a_child_does_not_hold_what_its_parent_holds(tmp_path):
    lock = WriterLock(tmp_path, patience=0)

    def child():
        assert not lock.held
        with lock.hold():
            return "taken"

    with lock.hold():
        assert f"process {os.getpid()}" in run_in_child(child).result()
        assert lock.held
        # And that the child ends does not let go of it.
        with pytest.raises(ReasonEditError, match="is being written by"), WriterLock(tmp_path, 0).hold():
            pass
        assert (tmp_path / ".writer.json").exists()
    assert run_in_child(child).result() == "taken"


def test_a_child_that_leaves_the_block_lets_go_of_nothing(tmp_path):
    lock, other = WriterLock(tmp_path), WriterLock(tmp_path, patience=0)
    reading, writing = os.pipe()
    with lock.hold():
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
            with pytest.raises(ReasonEditError, match="is being written by"), other.hold():
                pass
    if not child:
        os._exit(int(lock.held))
    os.close(reading)
    os.close(writing)
    with other.hold():
        pass


def test_a_child_that_lives_on_keeps_nobody_out(tmp_path):
    """Its parent is killed with the lock in its hands; the child shares the opening of the file, and has closed it."""
    reading, writing = os.pipe()

    def parent():
        with WriterLock(tmp_path).hold():
            child = os.fork()
            if not child:
                signal.alarm(600)
                os.read(reading, 1)
                os._exit(0)
            os.write(said, b"%d" % child)
            os.kill(os.getpid(), signal.SIGKILL)

    heard, said = os.pipe()
    killed = run_in_child(parent)
    child = int(os.read(heard, 20))
    os.waitpid(killed.process, 0)
    try:
        with WriterLock(tmp_path, patience=0).hold():
            os.kill(child, 0)
    finally:
        os.write(writing, b".")
        for end in (reading, writing, heard, said):
            os.close(end)


def test_parent_and_child_write_in_turn(tmp_path):
    """Forked while the lock is held: what either acknowledges is there."""
    memory = book(tmp_path / "book", 2)
    heard, said = os.pipe()

    def child():
        os.write(said, b".")
        memory.write(*make_edit(3))  # waits for its parent
        return sorted(memory.edits)

    with memory.store.writing():
        process = run_in_child(child)
        os.read(heard, 1)
        memory.write(*make_edit(2))
    assert process.result() == str(names(4))
    memory.write(*make_edit(4))
    os.close(heard)
    os.close(said)
    whole(tmp_path / "book", names(5))


def test_what_wrote_before_the_fork_writes_in_the_child_too(tmp_path):
    memory = book(tmp_path / "book", 2)

    def child():
        memory.write(*make_edit(2))
        memory.undo("e00000")
        memory.restore("e00000")
        memory.settle(join=True)
        return sorted(memory.edits)

    assert run_in_child(child).result() == str(names(3))
    memory.write(*make_edit(3))
    assert run_in_child(lambda: (memory.write(*make_edit(4)), sorted(memory.edits))[1]).result() == str(names(5))
    memory.refresh()
    assert sorted(memory.edits) == names(5)
    whole(tmp_path / "book", names(5))


def test_a_fork_while_others_hold_locks_hangs_nothing(tmp_path):
    memory = book(tmp_path / "book", 2)
    guard, model = Guard(), torch.nn.Linear(1, 1)

    def hold(where):
        with memory.guard, guard, guard_of(model):
            where.stop()

    def child():
        with guard, guard_of(model):
            memory.write(*make_edit(2))
        return sorted(memory.edits)

    with Elsewhere(hold):
        assert run_in_child(child).result() == str(names(3))
    memory.write(*make_edit(3))
    whole(tmp_path / "book", names(4))


def test_a_fork_while_another_thread_asks_hangs_no_question(tmp_path):
    where: list[Elsewhere] = []

    def run(items):
        if items == ["first"]:
            where[0].stop()
        return [item.upper() for item in items]

    batcher = CallBatcher(run)
    where.append(Elsewhere(lambda _: batcher.ask("first")))
    waiting = threading.Thread(target=lambda: batcher.ask("second"), daemon=True)
    with where[0]:
        waiting.start()
        wait_until(lambda: len(batcher._waiting) == 1)
        assert run_in_child(lambda: batcher.ask("third")).result() == "THIRD"
    waiting.join()
    assert batcher.ask("fourth") == "FOURTH"


def half_changed(memory: EditMemory, monkeypatch) -> Elsewhere:
    """A thread that stops in the middle of an edit, when its keys are there and nothing else is."""

    def write(where):
        append = KeyTable.append

        def and_stop(table, keys):
            append(table, keys)
            if threading.current_thread() is not threading.main_thread():
                where.stop()

        monkeypatch.setattr(KeyTable, "append", and_stop)
        memory.write(*make_edit(2))

    return Elsewhere(write)


def test_what_another_thread_left_half_changed_is_read_again(tmp_path, monkeypatch):
    memory = book(tmp_path / "book", 2)

    def child():
        assert sorted(memory.edits) == names(3)  # the edit is on the disk: it was acknowledged a moment later
        assert len(memory.table) == 9
        memory.write(*make_edit(3))
        return sorted(memory.edits)

    with half_changed(memory, monkeypatch):
        process = run_in_child(child)  # it waits for the lock that the thread holds
    assert process.result() == str(names(4))
    memory.refresh()
    whole(tmp_path / "book", names(4))


def test_what_cannot_be_read_again_is_not_used_in_halves(monkeypatch):
    memory = EditMemory()
    for number in range(2):
        memory.write(*make_edit(number))
    with half_changed(memory, monkeypatch):
        told = run_in_child(lambda: len(memory.edits)).result()
        again = run_in_child(lambda: memory.write(*make_edit(3))).result()
    assert told.startswith("refused: ")
    assert "was forked" in told
    assert again == told
    assert sorted(memory.edits) == names(3)
    assert run_in_child(lambda: sorted(memory.edits)).result() == str(names(3))


@pytest.mark.slow
def test_many_forks_beside_threads_that_write(tmp_path):
    """Two threads edit all the time, and so do forked processes: nothing acknowledged is lost, nothing hangs."""
    memory, done, turns = book(tmp_path / "book", 0), threading.Event(), threading.Semaphore(0)
    wrote: list[int] = []

    def write(start):
        number = start
        while turns.acquire() and not done.is_set():
            memory.write(*make_edit(number))
            wrote.append(number)
            number += 2

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 1)]
    for thread in threads:
        thread.start()
    numbers = range(50_000, 50_060)
    try:
        for number in numbers:
            turns.release(2)
            assert run_in_child(lambda number=number: memory.write(*make_edit(number))).result() in ("0", "1", "2", "3")
    finally:
        done.set()
        turns.release(4)
        for thread in threads:
            thread.join()
    assert len(wrote) > 50
    assert verify(tmp_path / "book").damages == []
    assert sorted(open_memory(tmp_path / "book").edits) == [f"e{n:05d}" for n in sorted([*wrote, *numbers])]
