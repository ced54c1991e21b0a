"""The codebook's folder: nothing that was acknowledged is lost, and what is damaged is named."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.waiting import wait_until
from helpers.writer import book, make_edit, open_memory, open_or_create
from PIL import Image

import reasonedit.codebook.disk.checksums as checksums
import reasonedit.codebook.disk.snapshot as snapshot
import reasonedit.codebook.disk.tensors as tensors
from reasonedit import ReasonEditError
from reasonedit.codebook import DamagedError, EditMemory, Entry, Store, as_edit
from reasonedit.codebook.disk.journal import Journal
from reasonedit.codebook.disk.lock import WriterLock
from reasonedit.codebook.events import Event
from reasonedit.codebook.stored_edit import picture_name

WRITER = Path(__file__).parent / "helpers" / "writer.py"


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name[0] != "."}


def the_same(one: EditMemory, other: EditMemory) -> None:
    assert torch.equal(one.keys, other.keys)
    assert torch.equal(one.radii, other.radii)
    assert one.entries == other.entries
    assert one.edits == other.edits
    assert one.events == other.events


def test_what_is_written_is_there_again(tmp_path):
    memory = book(tmp_path / "book", 5)
    loaded = open_memory(tmp_path / "book")
    the_same(loaded, memory)
    assert loaded.store.manifest.fingerprint == {"vlm": "v"}
    assert loaded.store.manifest.config == {"model": "m"}
    assert torch.equal(loaded.store.statistics()["mean"], torch.arange(4.0))
    # An edit comes back whole: text, picture, the evidence that a person gave, and who wrote it when.
    edit, _ = make_edit(3)
    again = as_edit(loaded.find("e00003"), {n: loaded.picture(n) for n in loaded.find("e00003").pictures})
    assert (again.question, again.answer, again.reasoning) == (edit.question, edit.answer, edit.reasoning)
    assert again.image.tobytes() == edit.image.tobytes()
    assert again.evidence[0][0].tobytes() == edit.evidence[0][0].tobytes()
    assert loaded.find("e00003").time.startswith("20")
    # And what it wrote, before it merged.
    for old, new in zip(make_edit(3)[1], loaded.entries_of("e00003"), strict=True):
        assert torch.equal(old.key, new.key)
        assert (old.radius, old.fact) == (new.radius, new.fact)
    # It goes on where it was.
    loaded.write(*make_edit(5))
    the_same(open_memory(tmp_path / "book"), loaded)


def test_files_are_joined_and_nothing_is_left_over(tmp_path):
    memory = book(tmp_path, 4)
    memory.undo("e00001")
    assert len(list((tmp_path / "keys").iterdir())) == 4
    memory.settle(join=True)
    assert len(list((tmp_path / "keys").iterdir())) == 1
    the_same(open_memory(tmp_path), memory)
    memory.write(*make_edit(9))
    memory.settle(join=True)
    assert len(list((tmp_path / "keys").iterdir())) == 1
    the_same(open_memory(tmp_path), memory)
    names = {p.name.split("-")[0] for p in tmp_path.iterdir()}
    assert names == {"codebook.json", "journal.jsonl", "keys", "pictures", "statistics.safetensors", "settled", ".lock"}


def test_without_what_merged_where_it_is_found_anew(tmp_path):
    memory = book(tmp_path, 6)
    memory.settle()
    (settled,) = tmp_path.glob("settled-*")
    values = json.loads((tmp_path / "codebook.json").read_text())
    settled.unlink()
    with pytest.raises(DamagedError, match="settled-6"):
        open_memory(tmp_path)
    assert values["settled"]["records"] == 6
    from reasonedit.codebook.repair import repair

    repair(tmp_path)
    assert torch.equal(open_memory(tmp_path).radii, memory.radii)


@pytest.fixture(scope="module")
def writers():
    """Starts processes that write."""
    with subprocess.Popen([sys.executable, WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        yield server
        server.kill()


def kill_again_and_again(writers, folder: Path, times: int) -> None:
    """Each time a process writes until it has acknowledged so many things, and a moment more; then it is killed."""
    rng, wrote, undid = random.Random(0), [], []
    for turn in range(times):
        process, ready, lines = None, False, []
        writers.stdin.write(f"{folder}\n")
        writers.stdin.flush()
        while process is None or not ready:  # the two may come in either order
            word = writers.stdout.readline().split()
            process = int(word[1]) if word[0] == "process" else process
            ready |= word[0] == "ready"
            lines += [word] if word[0] in ("wrote", "undid") else []
        for _ in range(turn % 4):
            lines.append(writers.stdout.readline().split())
        time.sleep(rng.uniform(0, 0.05))  # somewhere within whatever it does next
        os.kill(process, signal.SIGKILL)
        wait_until(lambda gone=Path(f"/proc/{process}"): not gone.exists())
        writers.stdin.write("\n")  # a child without a folder ends at once: its line marks the end of the other's
        writers.stdin.flush()
        while (word := writers.stdout.readline().split())[0] != "process":
            lines.append(word)
        wrote += [name for what, name in lines if what == "wrote"]
        undid += [name for what, name in lines if what == "undid"]
        memory = open_memory(folder)
        known = [*memory.edits, *memory.undone]
        assert set(wrote) <= set(known)
        assert set(undid) <= set(memory.undone)
        # Of what was not acknowledged there may be the last one, and that whole.
        assert len(known) <= len(wrote) + 1
        wrote, undid = sorted(known), sorted(memory.undone)
        assert wrote == [f"e{n:05d}" for n in range(len(wrote))]
        if wrote:
            last = memory.find(wrote[-1])
            for old, kept in zip(make_edit(len(wrote) - 1)[1], memory.entries_of(last.id), strict=True):
                assert torch.equal(old.key, kept.key)
            assert all(memory.picture(name) for name in last.pictures)
    assert len(wrote) >= times  # it came to write


def test_killed_at_any_moment_it_opens_with_all_that_was_acknowledged(tmp_path, writers):
    kill_again_and_again(writers, tmp_path / "book", 12)


@pytest.mark.slow
def test_killed_two_hundred_times_it_opens_with_all_that_was_acknowledged(tmp_path, writers):
    kill_again_and_again(writers, tmp_path / "book", 200)


class Full:
    """A disk that is full, or fails, from the n-th write on."""

    def __init__(self, patch, after: int, code: int = errno.ENOSPC) -> None:
        self.left, self.code = after, code
        for where, name in ((os, "write"), (os, "fsync"), (Path, "replace")):
            patch.setattr(where, name, self.counted(getattr(where, name)))

    def counted(self, real):
        def call(*args, **options):
            self.left -= 1
            if self.left < 0:
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **options)

        return call


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_at_any_write_loses_nothing(tmp_path, monkeypatch, code):
    memory = book(tmp_path, 2)
    before = open_memory(tmp_path)
    failed = 0
    for after in range(40):
        with monkeypatch.context() as patch:
            full = Full(patch, after, code)
            told = None
            try:
                memory.write(*make_edit(2))
            except ReasonEditError as error:
                told = str(error)
            if full.left >= 0:
                break
        assert "cannot be written" in told
        assert os.strerror(code) in told
        failed += 1
        # What was there is there; the edit itself is either whole or not there.
        there = open_memory(tmp_path)
        assert list(there.edits)[:2] == list(before.edits)
        if len(there.edits) == 3:  # the very last step, of which nobody can know whether it took effect
            shutil.rmtree(tmp_path)
            memory = book(tmp_path, 2)
        else:
            the_same(there, before if failed == 1 else open_memory(tmp_path))
            assert len(memory.edits) == 2
    assert failed >= 8
    the_same(open_memory(tmp_path), memory)
    assert len(memory.edits) == 3


def test_a_full_disk_at_the_beginning_leaves_no_codebook(tmp_path, monkeypatch):
    failed = 0
    while not Store.exists(tmp_path):
        with monkeypatch.context() as patch:
            full = Full(patch, failed)
            try:
                EditMemory().copy_to(Store.create(tmp_path, {}, {}, {"mean": torch.zeros(2)}))
            except ReasonEditError:
                assert full.left < 0
                assert not Store.exists(tmp_path)
        failed += 1
    assert failed > 8
    book(tmp_path, 1)


def readable(path: Path) -> bool:
    try:
        return picture_name(Image.open(path).convert("RGB")) == path.stem
    except (OSError, SyntaxError, ValueError):
        return False


def read_all(folder: Path) -> None:
    there = open_memory(folder)
    there.store.statistics()
    for edit in there.edits.values():
        for name in edit.pictures:
            there.picture(name)


@pytest.mark.parametrize(
    "name", ["journal.jsonl", "codebook.json", "statistics.safetensors", "keys", "settled", "pictures"]
)
def test_any_changed_byte_is_found_and_named(tmp_path, name):
    memory = book(tmp_path / "book", 3)
    memory.settle()
    memory.write(*make_edit(3))
    whole = content(tmp_path / "book")
    rng = random.Random(name)
    targets = [n for n in whole if n.startswith(name)]
    for _ in range(12):
        target = rng.choice(targets)
        at, bit = rng.randrange(len(whole[target])), 1 << rng.randrange(8)
        for damaged in (
            whole[target][:at] + bytes([whole[target][at] ^ bit]) + whole[target][at + 1 :],
            whole[target][:at],
            b"",
            b"something else altogether\n" * 20,
        ):
            path = tmp_path / "book" / target
            path.write_bytes(damaged)
            if name == "pictures" and readable(path):
                continue  # PNG has bytes on which no pixel depends
            with pytest.raises(ReasonEditError) as told:
                read_all(tmp_path / "book")
            if isinstance(told.value, DamagedError):
                assert told.value.path == path
                assert 0 <= told.value.offset <= max(len(damaged), len(whole[target]))
                assert f"'{path}' is damaged at byte" in str(told.value)
            else:
                assert name == "codebook.json"  # a number of the format that is none
        path.write_bytes(whole[target])
    the_same(open_memory(tmp_path / "book"), memory)


def test_the_offset_is_where_the_damage_is(tmp_path):
    memory = open_or_create(tmp_path)
    edit, _ = make_edit(0)
    keys = torch.randn(300, 2048, generator=torch.Generator().manual_seed(0))
    memory.write(edit, [Entry(key, 0.0, make_edit(0)[1][0].fact) for key in keys])
    (path,) = (tmp_path / "keys").iterdir()
    data = bytearray(path.read_bytes())
    at = 2 * checksums.BLOCK + 17
    data[at] ^= 4
    path.write_bytes(data)
    with pytest.raises(DamagedError) as told:
        open_memory(tmp_path)
    assert told.value.offset == 2 * checksums.BLOCK
    journal = tmp_path / "journal.jsonl"
    path.write_bytes(bytes(data[:at]) + bytes([data[at] ^ 4]) + bytes(data[at + 1 :]))
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + lines[1].replace(b"What is 0", b"What is 1"))
    with pytest.raises(DamagedError) as told:
        open_memory(tmp_path)
    assert told.value.offset == len(lines[0])


def test_records_that_were_taken_out_or_moved_are_missed(tmp_path):
    book(tmp_path, 3)
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    for wrong in (lines[:2] + lines[3:], [lines[0], lines[2], lines[1], lines[3]], lines[:3], [*lines[:3], lines[2]]):
        journal.write_bytes(b"".join(wrong))
        with pytest.raises(DamagedError, match=r"journal\.jsonl"):
            open_memory(tmp_path)


def test_one_writes_at_a_time_and_says_who(tmp_path):
    book(tmp_path, 1)
    lock = WriterLock(tmp_path, patience=0.1)
    code = (
        "import sys; from pathlib import Path; from reasonedit.codebook.disk.lock import WriterLock\n"
        f"with WriterLock(Path({str(tmp_path)!r})).hold(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(ReasonEditError, match=rf"being written by .*process {other.pid}, since 20"),
            lock.hold(),
        ):
            pass
        assert list(open_memory(tmp_path).edits)  # reading is possible
        other.kill()  # the lock goes with its process
    with lock.hold():
        pass


def test_a_reader_sees_what_others_write(tmp_path):
    memory = book(tmp_path, 2)
    reader = open_memory(tmp_path)
    assert not reader.refresh()
    memory.write(*make_edit(2))
    assert reader.refresh()
    the_same(reader, memory)
    memory.undo("e00000")
    memory.settle(join=True)
    memory.write(*make_edit(3))
    assert reader.refresh()
    the_same(reader, memory)
    # Two who write take turns: each sees what the other wrote before it writes.
    reader.write(*make_edit(4))
    memory.write(*make_edit(5))
    reader.refresh()
    the_same(reader, memory)
    the_same(open_memory(tmp_path), memory)
    with pytest.raises(ReasonEditError, match="edit 'e00004' in the codebook already"):
        memory.write(*make_edit(4))


def test_another_codebook_in_the_same_place_is_noticed(tmp_path):
    reader = book(tmp_path / "a", 1)
    book(tmp_path / "b", 2)
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "b").rename(tmp_path / "a")
    with pytest.raises(ReasonEditError, match="Another codebook has come into"):
        reader.refresh()


def test_what_is_there_is_not_overwritten(tmp_path):
    book(tmp_path, 1)
    with pytest.raises(ReasonEditError, match="There is a codebook in"):
        Store.create(tmp_path, {}, {}, {})
    (tmp_path / "codebook.json").unlink()
    with pytest.raises(ReasonEditError, match=r"holds the journal of a codebook but no codebook\.json"):
        Store.create(tmp_path, {}, {}, {})
    with pytest.raises(ReasonEditError, match="There is no codebook in"):
        Store.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (3, "of format 3: 'reasonedit codebook migrate' embeds its edits again"),
        (99, "of format 99, this version reads up to 5: use a newer version"),
        ("x", "of format x, this version reads up to 5: its manifest was written by something else"),
    ],
)
def test_a_codebook_of_another_format_says_what_to_do(tmp_path, told, said):
    (tmp_path / "codebook.json").write_text(json.dumps({"format": told}))
    with pytest.raises(ReasonEditError, match=said):
        Store.open(tmp_path)


def test_the_format_before_is_read_and_written_on(tmp_path):
    memory = book(tmp_path, 2)
    values = json.loads((tmp_path / "codebook.json").read_text())
    old = {n: v for n, v in values.items() if n not in ("sum", "generation", "journal_file")} | {"format": 4}
    total = hashlib.blake2b(json.dumps(old).encode(), digest_size=8).hexdigest()
    (tmp_path / "codebook.json").write_text(json.dumps({**old, "sum": total}))
    there = open_memory(tmp_path)
    the_same(there, memory)
    there.write(*make_edit(2))
    assert json.loads((tmp_path / "codebook.json").read_text())["format"] == 5
    the_same(open_memory(tmp_path), there)


def test_names_in_a_journal_cannot_lead_out_of_the_folder(tmp_path):
    """A journal with sums that are right, but written by somebody else."""
    memory = book(tmp_path / "book", 1)
    for field, value in (("image", "../../etc/passwd"), ("image", "/etc/passwd"), ("given", [["../x"], []])):
        target = tmp_path / "copy"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(tmp_path / "book", target)
        other = Store.open(target)
        other.news()
        record = memory.events[0].to_dict()
        record["edit"][field] = value
        record["first"] = other.manifest.numbers
        record["facts"] = []
        mark = Journal(target / "journal.jsonl").append([record], other.manifest.journal)
        replace(other.manifest, journal=mark).write(target)
        with pytest.raises(DamagedError, match="is not the name of a picture"):
            open_memory(target)
    manifest = json.loads((tmp_path / "book" / "codebook.json").read_text())
    from reasonedit.codebook.disk.checksums import Checksums

    for name in ("../x", "/etc/passwd"):
        with pytest.raises((TypeError, ValueError)):
            Checksums.from_dict({**manifest["statistics"], "file": name})


@pytest.mark.parametrize("big", [False, True])
def test_big_files_of_keys_are_mapped_and_small_ones_read(tmp_path, monkeypatch, big):
    memory = book(tmp_path, 4)
    memory.settle(join=True)
    (path,) = (tmp_path / "keys").iterdir()
    monkeypatch.setattr(tensors, "LARGEST_READ", path.stat().st_size - 1 if big else 1 << 20)
    there = open_memory(tmp_path)
    assert (str(path) in Path("/proc/self/maps").read_text()) == big
    assert torch.equal(there.keys, memory.keys)
    there.write(*make_edit(4))
    the_same(open_memory(tmp_path), there)


def test_a_picture_that_lies_there_damaged_is_written_anew(tmp_path):
    memory = book(tmp_path, 2)
    name = memory.find("e00001").image
    path = tmp_path / "pictures" / f"{name}.png"
    path.write_bytes(path.read_bytes()[:60])
    edit, entries = make_edit(1)
    again = replace(edit, id="again", question="Another?")
    memory.write(again, [replace(e, fact=replace(e.fact, edit_id="again")) for e in entries])
    assert open_memory(tmp_path).picture(name).tobytes() == edit.image.tobytes()


def test_readers_keep_their_files_until_they_have_read(tmp_path):
    memory = book(tmp_path, 3)
    memory.settle()
    reader = Store.open(tmp_path)
    names = {p.name for p in (tmp_path / "keys").iterdir()}
    with reader.reading():  # as somebody does who read the manifest and goes on with what it names
        memory.settle(join=True)
        memory.rewrite(lambda events: [e for e in events if e.edit_id != "e00000"])
        assert names < {p.name for p in (tmp_path / "keys").iterdir()}
        assert (tmp_path / "journal.jsonl").exists()
        assert {p.name for p in memory.store.leftovers()} > names
        with memory.store.writing():
            assert memory.store.tidy() == memory.store.leftovers()
    with memory.store.writing():
        assert memory.store.tidy() == []
    assert not names & {p.name for p in (tmp_path / "keys").iterdir()}
    assert not (tmp_path / "journal.jsonl").exists()
    the_same(open_memory(tmp_path), memory)


@pytest.mark.slow
@pytest.mark.parametrize("locks", [True, False])
def test_opening_beside_a_writer_raises_no_false_alarm(tmp_path, monkeypatch, locks):
    if not locks:  # as on a file system that has none: what goes under a reader's hands is read again
        monkeypatch.setattr(snapshot, "_lock", lambda *_: True)
    memory = book(tmp_path, 2)
    reader, opens = open_memory(tmp_path), 0
    child = os.fork()
    if child == 0:
        there = open_memory(tmp_path)
        for number in range(2, 60):
            there.write(*make_edit(number))
            there.settle(join=True)
            if number % 10 == 0:
                there.rewrite(lambda events: [e for e in events if e.edit_id != events[0].edit_id])
        os._exit(0)
    while not os.waitpid(child, os.WNOHANG)[0]:
        edits = list(open_memory(tmp_path).edits)
        assert edits == sorted(edits)
        reader.refresh()
        opens += 1
    assert opens > 5
    reader.refresh()
    the_same(open_memory(tmp_path), reader)
    assert len(reader.edits) == 60 - 5
    with memory.changing():
        assert memory.store.tidy() == []


def test_what_killed_runs_left_is_found_and_removed_and_nothing_of_others(tmp_path):
    memory = book(tmp_path, 2)
    picture = "0" * 64
    left = [
        tmp_path / "keys" / ".tmpAb3dE6",
        tmp_path / "keys" / ".000000000006-3.safetensors.17.part",
        tmp_path / "keys" / "000000000006-3.safetensors",
        tmp_path / "keys" / "1-000000000000-6-joined.safetensors",
        tmp_path / ".codebook.json.17.part",
        tmp_path / "settled-1.safetensors",
        tmp_path / "pictures" / f"{picture}.png",
        tmp_path / "pictures" / f".{picture}.png.17.part",
    ]
    others = [tmp_path / "keys" / ".tmp-mine", tmp_path / "pictures" / "cat.png", tmp_path / "journal-x.jsonl"]
    for path in [*left, *others]:
        path.write_text("x")
    assert sorted(open_memory(tmp_path).store.leftovers()) == sorted(left)
    with memory.store.writing():  # somebody who writes has files on their way
        assert open_memory(tmp_path).store.leftovers() == []
        assert memory.store.tidy() == []
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)
    the_same(open_memory(tmp_path), memory)


def test_an_interrupt_after_the_disk_and_before_the_memory_loses_nothing(tmp_path, monkeypatch):
    memory = book(tmp_path, 2)
    with monkeypatch.context() as patch:
        patch.setattr(memory, "_apply", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            memory.write(*make_edit(2))
    assert list(open_memory(tmp_path).edits) == ["e00000", "e00001", "e00002"]
    memory.write(*make_edit(3))
    the_same(open_memory(tmp_path), memory)
    assert len(memory.edits) == 4
    with monkeypatch.context() as patch:
        patch.setattr(memory, "_apply", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            memory.undo("e00001")
    memory.refresh()
    assert list(memory.undone) == ["e00001"]
    the_same(open_memory(tmp_path), memory)


def test_files_are_joined_again_after_that_failed(tmp_path, monkeypatch):
    memory = book(tmp_path, 4)
    for after in range(12):
        with monkeypatch.context() as patch:
            full = Full(patch, after)
            with contextlib.suppress(ReasonEditError):
                memory.settle(join=True)
            if full.left >= 0:
                break
        the_same(open_memory(tmp_path), memory)
        memory.settle()
        the_same(open_memory(tmp_path), memory)
    assert after > 3
    with memory.store.writing():
        memory.store.tidy()
    the_same(open_memory(tmp_path), memory)
    assert len(list((tmp_path / "keys").iterdir())) == 1


def test_what_others_put_into_the_folder_stays(tmp_path):
    (tmp_path / "keys").mkdir()
    others = [tmp_path / "model.safetensors", tmp_path / "keys" / "id_rsa", tmp_path / ".notes.part"]
    for path in others:
        path.write_text("mine")
    memory = book(tmp_path, 3)
    memory.settle(join=True)
    assert all(path.read_text() == "mine" for path in others)
    the_same(open_memory(tmp_path), memory)


def test_half_a_copy_is_none_and_not_in_the_way(tmp_path, monkeypatch):
    memory, failed = book(tmp_path / "one", 3), 0
    while not Store.exists(tmp_path / "two"):
        with monkeypatch.context() as patch:
            Full(patch, failed)
            told = ""
            try:
                memory.copy_to(Store.create(tmp_path / "two", {}, {}, {}))
            except ReasonEditError as error:
                told = str(error)
            assert Store.exists(tmp_path / "two") == (not told)
        if told:
            failed += 1
            assert memory.store.folder == tmp_path / "one"
            the_same(open_memory(tmp_path / "one"), memory)
    assert failed > 12
    the_same(open_memory(tmp_path / "two"), memory)
    the_same(open_memory(tmp_path / "one"), memory)


def kill_before_change(number):
    """Have this process killed before its so-many-th change to the disk."""
    seen = itertools.count()

    def hook(event, args):
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in ("os.rename", "os.remove", "os.truncate", "os.mkdir")) and next(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def killed_before_each(work, changed):
    """Do work in a child that is killed before its first change to the disk, then before its second, and so on.

    Args:
        work: The work.
        changed: Called after each kill.
    """
    for number in range(1000):
        child = os.fork()
        if child == 0:
            kill_before_change(number)
            work()
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            return number
        changed()
    raise AssertionError("it never came to an end")


def test_a_copy_that_is_killed_is_not_there_and_may_be_made_again(tmp_path):
    memory = book(tmp_path / "one", 3)
    memory.undo("e00001")
    states = []

    def copy():
        memory.copy_to(Store.create(tmp_path / "two", {}, {}, {}))

    def look():
        states.append(Store.exists(tmp_path / "two"))
        if states[-1]:
            the_same(open_memory(tmp_path / "two"), memory)
            shutil.rmtree(tmp_path / "two")

    assert killed_before_each(copy, look) > 10  # each time into what the one before left behind
    assert states.count(False) > 8
    the_same(open_memory(tmp_path / "two"), memory)
    assert not open_memory(tmp_path / "two").store.leftovers()


def test_rewritten_and_killed_it_is_the_old_one_or_the_new_one(tmp_path):
    old = book(tmp_path / "book", 4)
    old.undo("e00002")
    expected = EditMemory()
    for number in (0, 1, 3):
        expected.write(*make_edit(number))
    states = []

    def rewrite():
        open_memory(tmp_path / "book").rewrite(lambda events: [e for e in events if e.edit_id != "e00002"])

    def look():
        there = open_memory(tmp_path / "book")
        states.append("e00002" in there.undone)
        if states[-1]:
            the_same(there, old)
        else:
            answers_alike(there, expected)

    assert killed_before_each(rewrite, look) > 6
    look()
    assert states == sorted(states, reverse=True)
    assert set(states) == {True, False}
    there = open_memory(tmp_path / "book")
    there.write(*make_edit(9))
    expected.write(*make_edit(9))
    there.settle(join=True)
    answers_alike(open_memory(tmp_path / "book"), expected)
    assert {p.name for p in (tmp_path / "book").glob("*.jsonl")} == {there.store.manifest.journal_file}
    assert there.store.manifest.id == old.store.manifest.id
    pictures = {name for edit in there.edits.values() for name in edit.pictures}
    assert {p.stem for p in (tmp_path / "book" / "pictures").iterdir()} == pictures


def answers_alike(one: EditMemory, other: EditMemory) -> None:
    assert torch.equal(one.keys, other.keys)
    assert torch.equal(one.radii, other.radii)
    assert one.entries == other.entries
    assert [replace(e, time="") for e in one.edits.values()] == [replace(e, time="") for e in other.edits.values()]
    assert one.undone == other.undone == {}


def test_a_reader_of_what_was_rewritten_reads_it_anew(tmp_path):
    memory = book(tmp_path, 4)
    reader, writer = open_memory(tmp_path), open_memory(tmp_path)
    memory.rewrite(lambda events: [*(e for e in events if e.edit_id != "e00001"), Event.of_erasure(1, "Ada")])
    assert reader.refresh()
    the_same(reader, memory)
    assert list(reader.edits) == ["e00000", "e00002", "e00003"]
    assert (reader.events[-1].op, reader.events[-1].count, reader.events[-1].author) == ("erase", 1, "Ada")
    writer.write(*make_edit(1))  # the id is free again
    reader.refresh()
    the_same(reader, writer)
    the_same(open_memory(tmp_path), writer)
    memory.undo("e00001")
    memory.settle()
    the_same(open_memory(tmp_path), memory)


def test_what_is_only_in_memory_is_rewritten_too(tmp_path):
    memory, kept = EditMemory(), book(tmp_path, 4)
    for number in range(4):
        memory.write(*make_edit(number))
    for one in (memory, kept):
        one.rewrite(lambda events: [e for e in events if e.edit_id not in ("e00000", "e00003")])
    answers_alike(memory, kept)
    assert memory.picture(memory.find("e00002").image) == kept.picture(kept.find("e00002").image)


def test_an_edit_without_keys_stays_in_its_place_and_does_not_answer(tmp_path, caplog):
    memory = book(tmp_path, 3)
    memory.undo("e00001")
    facts = memory.events[1].facts
    memory.rewrite(lambda events: [e.without_keys() if e.edit_id == "e00001" else e for e in events])
    there = open_memory(tmp_path)
    assert "1 of 3 edits in" in caplog.text
    the_same(there, memory)
    assert there.keyless == ["e00001"]
    assert list(there.undone) == ["e00001"]
    assert there.events[1].lost_facts == facts
    assert not there.entries_of("e00001")
    there.restore("e00001")
    assert list(there.edits) == ["e00000", "e00001", "e00002"]
    there.copy_to(Store.create(tmp_path / "copy", {}, {}, {}))
    the_same(open_memory(tmp_path / "copy"), there)
    assert open_memory(tmp_path / "copy").keyless == ["e00001"]


def test_a_full_disk_while_it_is_rewritten_leaves_it_as_it_was(tmp_path, monkeypatch):
    memory = book(tmp_path, 3)
    memory.settle()
    before, failed = content(tmp_path), 0
    while True:
        with monkeypatch.context() as patch:
            full = Full(patch, failed)
            with contextlib.suppress(ReasonEditError):
                memory.rewrite(lambda events: [e for e in events if e.edit_id != "e00001"])
            if full.left >= 0:
                break
        failed += 1
        if list(open_memory(tmp_path).edits) == ["e00000", "e00002"]:  # the very last step
            break
        assert content(tmp_path) == before
    assert failed > 6
    assert list(open_memory(tmp_path).edits) == ["e00000", "e00002"]


def test_threads_edit_and_ask_at_the_same_time(tmp_path):
    import threading

    from reasonedit.retrieval import FactRetriever

    memory = book(tmp_path, 1)
    retriever, failed, done = FactRetriever(memory), [], threading.Event()

    def ask():
        while not done.is_set():
            try:
                memory.refresh()
                assert retriever.retrieve(torch.zeros(1, 8))
            except Exception as error:  # whatever it is, it is told below
                failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 25):
        memory.write(*make_edit(number))
    done.set()
    for thread in threads:
        thread.join()
    assert not failed
    the_same(open_memory(tmp_path), memory)


def test_whoever_undoes_without_a_name_is_nobody(tmp_path):
    memory = book(tmp_path, 2)
    memory.undo("e00000", None)
    with pytest.raises(ReasonEditError, match="author must be text, not int"):
        memory.undo("e00001", 5)
    the_same(open_memory(tmp_path), memory)
