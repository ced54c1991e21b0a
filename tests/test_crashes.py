"""Whatever ends, hinders or cuts off what writes a codebook, and wherever: it opens with what was acknowledged."""

import random

import pytest
from helpers import crashes, disks, faults, flips, recorder
from helpers.powercut import Disk, File, Folder
from helpers.recorder import Call

calls_met = pytest.mark.skipif(bool(faults.missing()), reason=faults.missing())


def check(tally, at_least):
    assert not tally.failures, f"{tally}: {tally.examples}"
    assert tally.tried >= at_least


@pytest.mark.slow
@calls_met
def test_killed_before_any_write(tmp_path):
    check(crashes.kills(tmp_path), 500)


@pytest.mark.slow
@calls_met
def test_a_disk_that_fails_at_any_call(tmp_path):
    check(crashes.disk_errors(tmp_path), 500)


@pytest.mark.slow
@pytest.mark.skipif(bool(recorder.missing()), reason=recorder.missing())
def test_a_power_cut_at_any_moment(tmp_path):
    check(crashes.power_cuts(tmp_path), 1000)


@pytest.mark.slow
@pytest.mark.skipif(bool(disks.missing()), reason=disks.missing())
def test_a_disk_that_is_full(tmp_path):
    check(disks.full_disks(tmp_path), 20)


@pytest.mark.slow
@calls_met
def test_locks_that_exclude_nobody(tmp_path):
    check(disks.hollow_locks(tmp_path), 100)


@pytest.mark.slow
def test_a_flipped_bit_anywhere(tmp_path):
    check(flips.flips(tmp_path), 500)


class Calls:
    """Replays system calls below a folder, as they would be recorded."""

    def __init__(self, root):
        self.root, self.disk = root, Disk(root)

    def __call__(self, name, *arguments, result=0):
        texts = [escape(a) if isinstance(a, bytes) else str(a) for a in arguments]
        return self.disk.replay(Call(name, ", ".join(texts), result))

    def path(self, name):
        return str(self.root / name).encode()

    def states(self):
        rng = random.Random(0)
        states = [self.disk.crash(rng, rng.choice((0, 0.5, 1)), rng.choice((0, 0.5, 1))) for _ in range(200)]
        return {tuple(sorted(state.items())) for state in states}


def escape(text):
    return '"' + "".join(f"\\x{byte:02x}" for byte in text) + '"'


def handle(number):
    return f"{number}<\\x66>"


def test_the_model_of_a_power_cut_keeps_what_was_synced_and_nothing_else(tmp_path):
    (tmp_path / "old").write_bytes(b"first")
    calls = Calls(tmp_path)
    calls("openat", "AT_FDCWD<\\x2f>", calls.path("part"), "O_WRONLY|O_CREAT|O_TRUNC", "0666", result=3)
    calls("write", handle(3), b"second", 6, result=6)
    # Neither name nor content is on the disk; the name may be without the content, and half of it.
    contents = {dict(state).get("part") for state in calls.states()}
    assert {None, b"", b"second"} <= contents
    assert any(content and content != b"second" for content in contents)
    assert {dict(state)["old"] for state in calls.states()} == {b"first"}
    calls("fsync", handle(3))
    assert {dict(state).get("part") for state in calls.states()} == {None, b"second"}
    # A rename is done or not; the folder's sync makes it stay.
    calls("rename", calls.path("part"), calls.path("old"))
    assert {dict(state)["old"] for state in calls.states()} == {b"first", b"second"}
    calls("openat", "AT_FDCWD<\\x2f>", calls.path(""), "O_RDONLY|O_CLOEXEC", result=4)
    calls("fsync", handle(4))
    assert calls.states() == {(("old", b"second"),)}
    calls("unlink", calls.path("old"))
    assert calls.states() == {(), (("old", b"second"),)}


def test_the_model_of_a_power_cut_follows_places_and_sizes(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    calls = Calls(tmp_path)
    calls("openat", "AT_FDCWD<\\x2f>", calls.path("file"), "O_RDWR", result=3)
    calls("ftruncate", handle(3), 4)
    calls("lseek", handle(3), 0, "SEEK_END", result=4)
    calls("write", handle(3), b"ab", 2, result=2)
    calls("pwrite64", handle(3), b"X", 1, 1, result=1)
    calls("openat", "AT_FDCWD<\\x2f>", calls.path("copy"), "O_WRONLY|O_CREAT|O_APPEND", "0666", result=5)
    calls("lseek", handle(3), 0, "SEEK_SET", result=0)
    calls("sendfile", handle(5), handle(3), "NULL", 100, result=6)
    assert calls.disk.root.live["file"].live == calls.disk.root.live["copy"].live == b"0X23ab"
    assert calls.disk.root.live["file"].durable == b"0123456789"
    calls("fdatasync", handle(3))
    assert calls.disk.root.live["file"].durable == b"0X23ab"
    # Folders that are made are there with their content once both are synced.
    calls("mkdir", calls.path("new"), "0777")
    calls("openat", "AT_FDCWD<\\x2f>", calls.path("new/x"), "O_WRONLY|O_CREAT", "0666", result=6)
    assert isinstance(calls.disk.root.live["new"], Folder)
    assert isinstance(calls.disk.root.live["new"].live["x"], File)
    calls("openat", "AT_FDCWD<\\x2f>", calls.path(""), "O_RDONLY", result=7)
    calls("fsync", handle(7))
    assert {("new" in dict(s), "new/x" in dict(s)) for s in calls.states()} == {(True, True), (True, False)}


def test_calls_without_a_model_do_not_go_unseen(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    calls = Calls(tmp_path)
    calls("openat", "AT_FDCWD<\\x2f>", calls.path("file"), "O_RDWR", result=3)
    assert not calls("mmap", "NULL", 80, "PROT_READ", "MAP_SHARED", handle(3), 0)
    for call in (("mmap", "NULL", 80, "PROT_READ|PROT_WRITE", "MAP_SHARED", handle(3), 0), ("dup", handle(3))):
        with pytest.raises(AssertionError, match="no model"):
            calls(*call)
    assert not calls("write", handle(9), b"elsewhere", 9, result=9)
