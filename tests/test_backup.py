"""A backup is one moment of a codebook, whole or not there, whoever writes meanwhile."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from helpers.writer import make_edit, open_or_create, write_on
from test_store import content, open_memory, the_same

import reasonedit.codebook.backup as module
from reasonedit import ReasonEditError
from reasonedit.cli import main
from reasonedit.codebook import DamagedError
from reasonedit.codebook.backup import backup
from reasonedit.codebook.repair import LOST, verify

F_SETPIPE_SZ = 1031  # of Linux


def book(folder: Path, edits: int = 4):
    memory = open_or_create(folder)
    for number in range(edits):
        memory.write(*make_edit(number))
    memory.undo("e00002")
    return memory


def test_a_backup_is_the_same_codebook(tmp_path):
    memory = book(tmp_path / "book")
    memory.settle(join=True)
    memory.write(*make_edit(7))
    (tmp_path / "book" / LOST).write_text("{}\n")
    (tmp_path / "book" / "mine.txt").write_text("not of the codebook")
    (tmp_path / "book" / ".erasing.json").write_text('["e00001"]')
    copy = backup(tmp_path / "book", tmp_path / "all" / "kept")
    there = tmp_path / "all" / "kept"
    assert (copy.folder, copy.edits, copy.undone) == (there, 4, 1)
    assert copy.bytes == sum(len(data) for data in content(there).values())
    expected = {name: data for name, data in content(tmp_path / "book").items() if name != "mine.txt"}
    assert content(there) == expected
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["kept"]
    the_same(open_memory(there), memory)
    # It is a copy: what happens to one happens to it alone.
    assert all((there / name).stat().st_nlink == 1 for name in expected)
    open_memory(there).undo("e00001")
    memory.write(*make_edit(8))
    assert (len(open_memory(there).edits), len(memory.edits)) == (3, 5)
    assert verify(there).damages == []


def test_it_is_refused_where_it_would_harm(tmp_path):
    book(tmp_path / "book")
    backup(tmp_path / "book", tmp_path / "kept")
    before = content(tmp_path / "kept")
    with pytest.raises(ReasonEditError, match=r"kept' exists already"):
        backup(tmp_path / "book", tmp_path / "kept")
    with pytest.raises(ReasonEditError, match="lies within the codebook itself"):
        backup(tmp_path / "book", tmp_path / "book" / "kept")
    with pytest.raises(ReasonEditError, match=r"There is no codebook in '.*nothing'"):
        backup(tmp_path / "nothing", tmp_path / "other")
    assert content(tmp_path / "kept") == before
    assert not (tmp_path / "other").exists()
    (tmp_path / "empty").mkdir()
    assert backup(tmp_path / "book", tmp_path / "empty").edits == 3


@pytest.mark.parametrize("name", ["keys/000000000003-3.safetensors", "journal.jsonl", "pictures"])
def test_a_damaged_codebook_is_not_copied_as_if_it_were_whole(tmp_path, name):
    book(tmp_path / "book")
    path = tmp_path / "book" / name
    path = sorted(path.iterdir())[0] if path.is_dir() else path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError) as refused:
        backup(tmp_path / "book", tmp_path / "kept")
    assert refused.value.path == path  # not one of the copy, which is gone
    path.unlink()
    with pytest.raises(DamagedError, match=path.name):
        backup(tmp_path / "book", tmp_path / "kept")
    assert [p.name for p in tmp_path.iterdir()] == ["book"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    book(tmp_path / "book")
    write_atomically, files_left = module.write_atomically, [3]

    def full(path):
        files_left[0] -= 1
        if files_left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write_atomically(path)

    monkeypatch.setattr(module, "write_atomically", full)
    with pytest.raises(ReasonEditError, match=r"cannot be written to '.*kept' \(No space left on device\)"):
        backup(tmp_path / "book", tmp_path / "kept")
    assert [p.name for p in tmp_path.iterdir()] == ["book"]


def test_what_a_killed_one_left_goes_with_the_next(tmp_path):
    book(tmp_path / "book")
    part = tmp_path / ".kept.part"
    (part / "keys").mkdir(parents=True)
    (part / "keys" / "000000000099-3.safetensors").write_bytes(b"half")
    (part / "journal-3.jsonl").write_bytes(b"half")
    backup(tmp_path / "book", tmp_path / "kept")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["book", "kept"]
    assert content(tmp_path / "kept").keys() == content(tmp_path / "book").keys()


def while_written(folder: Path, out: Path, times: int) -> None:
    """Back up again and again what a process writes, undoes, joins and puts in order."""
    hears, says = os.pipe()
    fcntl.fcntl(says, F_SETPIPE_SZ, 4096)  # some 300 words ahead the writer waits for us
    child = os.fork()
    if child == 0:
        os.close(hears)  # so that it ends where we do
        torch.set_num_threads(1)  # a forked process has no threads but its own
        with contextlib.suppress(BaseException):
            write_on(folder, says)
        os._exit(1)
    os.close(says)
    wrote, histories = 0, []
    with open(hears) as lines:
        for turn in range(times):
            for line in lines:  # what it says is acknowledged; it goes on writing meanwhile
                wrote += line.startswith("wrote")
                if wrote > 5 * turn:
                    break
            done = backup(folder, out / str(turn))
            there = open_memory(done.folder)
            histories.append(there.events)
            assert len(there.edits) + len(there.undone) >= wrote
            assert done.edits == len(there.edits)
            shutil.rmtree(done.folder)
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL  # it wrote to the end
    last = open_memory(folder).events
    assert all(history == last[: len(history)] for history in histories)


def test_backups_while_somebody_writes(tmp_path):
    while_written(tmp_path / "book", tmp_path / "out", 3)


@pytest.mark.slow
def test_many_backups_while_somebody_writes(tmp_path):
    while_written(tmp_path / "book", tmp_path / "out", 12)


def test_the_command_says_what_it_made(tmp_path, capsys):
    book(tmp_path / "book")
    assert main(["codebook", "backup", str(tmp_path / "book"), str(tmp_path / "kept")]) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"{tmp_path / 'kept'} holds 3 edits, and 1 undone")
    assert "read again" in output
    assert main(["codebook", "backup", str(tmp_path / "book"), str(tmp_path / "kept")]) == 1
    assert "exists already" in capsys.readouterr().err
