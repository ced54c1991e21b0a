"""Whatever ends, hinders or cuts off what writes a codebook, and wherever: it opens with what was acknowledged."""

import random

import pytest
from helpers import crashes, disks, faults, flips, powercut
from helpers.powercut import Call, Disk, File, Folder

calls_met = pytest.mark.skipif(bool(faults.missing()), reason=faults.missing())


def nothing_went_wrong(tally, at_least):
    assert not tally.failures, f"{tally}: {tally.examples}"
    assert tally.tried >= at_least


@pytest.mark.slow
@calls_met
def test_killed_before_any_write(tmp_path):
    nothing_went_wrong(crashes.kills(tmp_path), 500)


@pytest.mark.slow
@calls_met
def test_a_disk_that_fails_at_any_call(tmp_path):
    nothing_went_wrong(crashes.disk_errors(tmp_path), 500)


@pytest.mark.slow
@pytest.mark.skipif(bool(powercut.missing()), reason=powercut.missing())
def test_a_power_cut_at_any_moment(tmp_path):
    nothing_went_wrong(crashes.power_cuts(tmp_path), 1000)


@pytest.mark.slow
@pytest.mark.skipif(bool(disks.missing()), reason=disks.missing())
def test_a_disk_that_is_full(tmp_path):
    nothing_went_wrong(disks.full_disks(tmp_path), 20)


@pytest.mark.slow
@calls_met
def test_locks_that_exclude_nobody(tmp_path):
    nothing_went_wrong(disks.hollow_locks(tmp_path), 100)


@pytest.mark.slow
def test_a_flipped_bit_anywhere(tmp_path):
    nothing_went_wrong(flips.flips(tmp_path), 500)


class Told:
    """System calls below a folder, as they would be recorded."""

    def __init__(self, root):
        self.root, self.disk = root, Disk(root)

    def __call__(self, name, *arguments, result=0):
        words = [hexed(a) if isinstance(a, bytes) else str(a) for a in arguments]
        return self.disk.replay(Call(name, ", ".join(words), result))

    def path(self, name):
        return str(self.root / name).encode()

    def states(self):
        rng = random.Random(0)
        found = [self.disk.crash(rng, rng.choice((0, 0.5, 1)), rng.choice((0, 0.5, 1))) for _ in range(200)]
        return {tuple(sorted(state.items())) for state in found}


def hexed(text):
    return '"' + "".join(f"\\x{byte:02x}" for byte in text) + '"'


def opened(number):
    return f"{number}<\\x66>"


def test_the_model_of_a_power_cut_keeps_what_was_synced_and_nothing_else(tmp_path):
    (tmp_path / "old").write_bytes(b"first")
    told = Told(tmp_path)
    told("openat", "AT_FDCWD<\\x2f>", told.path("part"), "O_WRONLY|O_CREAT|O_TRUNC", "0666", result=3)
    told("write", opened(3), b"second", 6, result=6)
    # Neither name nor content is on the disk; the name may be without the content, and half of it.
    contents = {dict(state).get("part") for state in told.states()}
    assert {None, b"", b"second"} <= contents
    assert any(content and content != b"second" for content in contents)
    assert {dict(state)["old"] for state in told.states()} == {b"first"}
    told("fsync", opened(3))
    assert {dict(state).get("part") for state in told.states()} == {None, b"second"}
    # A rename is done or not; the folder's sync makes it stay.
    told("rename", told.path("part"), told.path("old"))
    assert {dict(state)["old"] for state in told.states()} == {b"first", b"second"}
    told("openat", "AT_FDCWD<\\x2f>", told.path(""), "O_RDONLY|O_CLOEXEC", result=4)
    told("fsync", opened(4))
    assert told.states() == {(("old", b"second"),)}
    told("unlink", told.path("old"))
    assert told.states() == {(), (("old", b"second"),)}


def test_the_model_of_a_power_cut_follows_places_and_sizes(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    told = Told(tmp_path)
    told("openat", "AT_FDCWD<\\x2f>", told.path("file"), "O_RDWR", result=3)
    told("ftruncate", opened(3), 4)
    told("lseek", opened(3), 0, "SEEK_END", result=4)
    told("write", opened(3), b"ab", 2, result=2)
    told("pwrite64", opened(3), b"X", 1, 1, result=1)
    told("openat", "AT_FDCWD<\\x2f>", told.path("copy"), "O_WRONLY|O_CREAT|O_APPEND", "0666", result=5)
    told("lseek", opened(3), 0, "SEEK_SET", result=0)
    told("sendfile", opened(5), opened(3), "NULL", 100, result=6)
    assert told.disk.root.live["file"].live == told.disk.root.live["copy"].live == b"0X23ab"
    assert told.disk.root.live["file"].durable == b"0123456789"
    told("fdatasync", opened(3))
    assert told.disk.root.live["file"].durable == b"0X23ab"
    # Folders that are made are there with their content once both are synced.
    told("mkdir", told.path("new"), "0777")
    told("openat", "AT_FDCWD<\\x2f>", told.path("new/x"), "O_WRONLY|O_CREAT", "0666", result=6)
    assert isinstance(told.disk.root.live["new"], Folder)
    assert isinstance(told.disk.root.live["new"].live["x"], File)
    told("openat", "AT_FDCWD<\\x2f>", told.path(""), "O_RDONLY", result=7)
    told("fsync", opened(7))
    assert {("new" in dict(s), "new/x" in dict(s)) for s in told.states()} == {(True, True), (True, False)}


def test_calls_without_a_model_do_not_go_unseen(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    told = Told(tmp_path)
    told("openat", "AT_FDCWD<\\x2f>", told.path("file"), "O_RDWR", result=3)
    assert not told("mmap", "NULL", 80, "PROT_READ", "MAP_SHARED", opened(3), 0)
    for call in (("mmap", "NULL", 80, "PROT_READ|PROT_WRITE", "MAP_SHARED", opened(3), 0), ("dup", opened(3))):
        with pytest.raises(AssertionError, match="no model"):
            told(*call)
    assert not told("write", opened(9), b"elsewhere", 9, result=9)
