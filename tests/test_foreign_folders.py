"""A folder that somebody sent: it is opened or refused in a sentence, and nothing outside it is ever written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers.hostile import each_change, manifest_of, records_of, reseal, with_value, write_journal, write_manifest
from helpers.tiny import picture
from helpers.writer import make_edit
from safetensors.torch import load, save
from test_store import book, open_memory

from reasonedit import ReasonEditError
from reasonedit.codebook import DamagedError, EditMemory, Store
from reasonedit.codebook.disk.checksums import Checksums
from reasonedit.codebook.disk.filesystem import locks_of_one_machine
from reasonedit.codebook.disk.lock import WriterLock
from reasonedit.codebook.disk.tensors import all_finite, digest_of, write_tensors
from reasonedit.codebook.repair import repair, verify
from reasonedit.design import Design

as_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither pipes in folders nor links for everybody")


@pytest.fixture(scope="module")
def sent(tmp_path_factory) -> Path:
    """A codebook with all there can be: joined and loose keys, saved merges, an undone edit."""
    folder = tmp_path_factory.mktemp("sent") / "book"
    config = {"model": "m", "design": Design().to_dict()}
    memory = EditMemory()
    memory.copy_to(Store.create(folder, {"vlm": "v"}, config, {"mean": torch.arange(4.0)}))
    memory = book(folder, 3)
    memory.undo("e00001")
    memory.settle(join=True)
    memory.write(*make_edit(3))
    return folder


@pytest.fixture
def folder(sent, tmp_path) -> Path:
    shutil.copytree(sent, tmp_path / "book")
    return tmp_path / "book"


def read_everything(folder: Path) -> None:
    """Read all of a codebook's folder."""
    memory = open_memory(folder)
    store = memory.store
    assert store is not None
    store.statistics()
    for edit in [*memory.edits.values(), *memory.undone.values()]:
        memory.entries_of(edit.id)
        for name in edit.pictures:
            memory.picture(name)
    assert len(memory.keys) == len(memory.entries) == len(memory.radii)
    Design.from_dict(store.manifest.design)
    str(store.manifest.model)


def refuses(folder: Path, what: str) -> bool:
    """Whether a folder is refused; fails where it is refused by anything but a sentence."""
    try:
        read_everything(folder)
    except ReasonEditError as error:
        return str(error).endswith(".") and len(str(error)) < 2000
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    return False


def check_verify(folder: Path, what: str) -> None:
    try:
        verify(folder)
    except ReasonEditError:
        pass
    except Exception as error:
        raise AssertionError(f"verify, {what}: {type(error).__name__}: {error}") from error


def try_manifests(folder: Path, step: int, start: int = 0) -> tuple[int, int]:
    """How many manifests there are, and how many of them are refused."""
    whole, values = (folder / "codebook.json").read_bytes(), manifest_of(folder)
    tries = list(each_change(values))[start::step]
    refused = 0
    for i, (what, hostile) in enumerate(tries):
        write_manifest(folder, hostile)
        refused += refuses(folder, what)
        if i % 10 == 0:
            check_verify(folder, what)
    (folder / "codebook.json").write_bytes(whole)
    return len(tries), refused


def try_records(folder: Path, step: int) -> tuple[int, int]:
    records, manifest = records_of(folder), (folder / "codebook.json").read_bytes()
    journal = (folder / "journal.jsonl").read_bytes()
    tries = [(f"record {i}: {what}", i, new) for i, r in enumerate(records) for what, new in each_change(r)][::step]
    refused = 0
    for number, (what, i, new) in enumerate(tries):
        if not isinstance(new, dict):
            continue
        write_journal(folder, [*records[:i], new, *records[i + 1 :]])
        refused += refuses(folder, what)
        if number % 10 == 0:
            check_verify(folder, what)
        (folder / "codebook.json").write_bytes(manifest)
        (folder / "journal.jsonl").write_bytes(journal)
    return len(tries), refused


def test_any_manifest_is_read_or_refused(folder):
    count, refused = try_manifests(folder, 19)
    assert count > 100
    assert refused > count / 4  # what design there is may be said in many ways


def test_any_record_is_read_or_refused(folder):
    count, refused = try_records(folder, 97)
    assert count > 50
    assert refused > count / 4


@pytest.mark.slow
def test_every_manifest_and_every_record_is_read_or_refused(folder):
    read_everything(folder)
    for tried in (try_manifests, try_records):
        count, refused = tried(folder, 1)
        assert count > 1000
        assert refused > count / 4


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["keys", "radii"])
def test_numbers_that_are_none_are_refused_by_the_name_of_their_file(folder, name, number):
    file = sorted((folder / "keys").iterdir())[-1]
    tensors = load(file.read_bytes())
    tensors[name].view(-1)[0] = number
    reseal(folder, f"keys/{file.name}", save(tensors))
    with pytest.raises(DamagedError, match=rf"{file.name}.*not finite") as caught:
        open_memory(folder)
    assert caught.value.path == file


def test_a_negative_radius_is_refused(folder):
    file = sorted((folder / "keys").iterdir())[-1]
    tensors = load(file.read_bytes())
    tensors["radii"][0] = -1
    reseal(folder, f"keys/{file.name}", save(tensors))
    with pytest.raises(DamagedError, match="a radius is not finite, or negative"):
        open_memory(folder)


@pytest.mark.parametrize("tensors", [
    {}, {"keys": torch.zeros(9, 8)}, {"keys": torch.zeros(9, 8, dtype=torch.float64), "radii": torch.zeros(9)},
    {"keys": torch.zeros(9, 0), "radii": torch.zeros(9)}, {"keys": torch.zeros(0, 8), "radii": torch.zeros(0)},
    {"keys": torch.zeros(9, 8).bfloat16(), "radii": torch.zeros(9)},
    {"keys": torch.zeros(9, 7), "radii": torch.zeros(9)}, {"keys": torch.zeros(72), "radii": torch.zeros(9)},
    {"keys": torch.zeros(9, 8), "radii": torch.zeros(9, 1)},
])  # fmt: skip
def test_keys_of_another_shape_are_refused(folder, tensors):
    file = next(p for p in (folder / "keys").iterdir() if "joined" in p.name)
    reseal(folder, f"keys/{file.name}", save(tensors))
    with pytest.raises(DamagedError, match=r"keys/.*safetensors.* damaged"):
        open_memory(folder)


@pytest.mark.parametrize("founders", [
    torch.arange(9).float(), torch.full((9,), float("nan")), torch.arange(9).bfloat16(), torch.arange(8),
    torch.arange(99), torch.full((9,), -1), torch.full((9,), -2),
    torch.tensor([1, 2, 0, 3, 4, 5, 6, 7, 8]), torch.arange(9)[:, None],
])  # fmt: skip
def test_what_merged_otherwise_than_can_be_is_refused(folder, founders):
    name = manifest_of(folder)["settled"]["sums"]["file"]
    reseal(folder, name, save({"founders": founders}))
    with pytest.raises(DamagedError, match="settled"):
        open_memory(folder)


RADII = '"radii":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}'
HEADERS = [
    "", "[]", "{" * 3000, '{"a":', '{"keys":1}', '{"__metadata__":{"a":1}}',
    '{"keys":{"dtype":"F32","shape":[-1,8],"data_offsets":[0,0]}}',
    '{"keys":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]},' + RADII + "}",
    '{"keys":{"dtype":"F4","shape":[8],"data_offsets":[0,4]},' + RADII + "}",
    '{"keys":{"dtype":"F32","shape":[99999999999,99999999999],"data_offsets":[0,4]}}',
]  # fmt: skip


@pytest.mark.parametrize("size", [None, 0, 2**40, 2**63])
@pytest.mark.parametrize("header", HEADERS)
def test_any_header_of_tensors_is_read_or_refused(folder, header, size):
    file = next(p for p in (folder / "keys").iterdir() if "joined" in p.name)
    data = (len(header) if size is None else size).to_bytes(8, "little") + header.encode() + b"\0" * 4
    for name in (f"keys/{file.name}", "statistics.safetensors"):
        reseal(folder, name, data)
        assert refuses(folder, header)
        check_verify(folder, header)


def test_statistics_that_were_exchanged_are_refused(folder):
    """Their sums and the manifest's are right, but the journal says which statistics they were."""
    values = manifest_of(folder)
    other = save({"mean": torch.arange(4.0) + 1})
    (folder / "statistics.safetensors").write_bytes(other)
    sums = Checksums.of_file(folder / "statistics.safetensors", "statistics.safetensors")
    told = {"file": sums.file, "bytes": sums.bytes, "blocks": list(sums.blocks)}
    write_manifest(folder, {**values, "statistics": told})
    with pytest.raises(DamagedError, match="another statistics"):
        open_memory(folder)
    write_manifest(folder, {**values, "statistics": told, "statistics_digest": digest_of(load(other))})
    with pytest.raises(DamagedError, match="another statistics, statistics_digest"):
        open_memory(folder)
    write_manifest(folder, {**values, "statistics": told})
    # Even where their sums are the same: CRC-32 does not keep out somebody who tries.
    write_journal(
        folder, [with_value(r, ("statistics",), told) if r["op"] == "create" else r for r in records_of(folder)]
    )
    with pytest.raises(DamagedError, match="not what the codebook was made with"):
        open_memory(folder).store.statistics()


def test_statistics_that_are_not_finite_are_refused(tmp_path):
    memory = EditMemory()
    memory.copy_to(Store.create(tmp_path, {}, {}, {"mean": torch.tensor([1.0, float("nan")])}))
    with pytest.raises(DamagedError, match="not finite"):
        open_memory(tmp_path).store.statistics()


def test_tensors_are_written_as_safetensors_writes_them(tmp_path):
    tensors = {"keys": torch.randn(5, 7), "radii": torch.rand(5), "scale": torch.tensor(2.0, dtype=torch.float64)}
    tensors |= {
        "none": torch.zeros(0, 4),
        "half": torch.ones(3).half(),
        "b": torch.ones(2).bool(),
        "n": torch.arange(3),
    }
    with (tmp_path / "a").open("wb") as file:
        write_tensors(file, tensors)
    assert (tmp_path / "a").read_bytes() == save(tensors)


def test_what_is_not_finite_is_found_wherever_it_is():
    numbers = torch.zeros(3, 1 << 21)
    assert all_finite(numbers)
    assert all_finite(torch.full((4,), 3e38))
    for number in (float("nan"), float("inf"), float("-inf")):
        numbers[2, -5] = number
        assert not all_finite(numbers)
        assert not all_finite(torch.tensor([number]).half())


# ---- links and what is no file


SECRET = b"what anybody else has\n" * 50


@pytest.fixture
def victim(tmp_path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "victim").write_bytes(SECRET)
    return tmp_path / "home" / "victim"


def change_everything(folder: Path) -> list[str]:
    """Do everything that writes into a folder; the messages with which it is refused."""

    def write_edit():
        open_memory(folder).write(*make_edit(7))

    def save_there():
        memory = EditMemory()
        memory.write(*make_edit(8))
        memory.copy_to(Store.create(folder, {}, {}, {"mean": torch.arange(4.0)}))

    told = []
    changes = (
        lambda: open_memory(folder).undo("e00000"),
        write_edit,
        lambda: open_memory(folder).settle(join=True),
        lambda: repair(folder, accept_loss=True),
        save_there,
    )
    for change in changes:
        try:
            change()
        except ReasonEditError as error:
            told.append(str(error))
    return told


@as_posix
@pytest.mark.parametrize(
    "name",
    [".lock", ".writer.json", "codebook.json", "journal.jsonl", "statistics.safetensors", ".codebook.json.{}.part",
     "settled-5.safetensors", "keys/000000000012-3.safetensors", ".settled-6.safetensors.{}.part", ".begun.json",
     "keys/.000000000012-3.safetensors.{}.part", "journal-1.jsonl", ".journal-1.jsonl.{}.part", ".probe-0.{}.part"],
)  # fmt: skip
def test_nothing_is_written_through_a_link(folder, victim, name):
    path = folder / name.format(os.getpid())
    path.unlink(missing_ok=True)
    path.symlink_to(victim)
    for _ in change_everything(folder):
        pass
    assert victim.read_bytes() == SECRET
    assert os.listdir(victim.parent) == ["victim"]


@as_posix
@pytest.mark.parametrize("name", ["keys", "pictures"])
def test_nothing_is_written_into_a_folder_elsewhere(folder, tmp_path, name):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    before = sorted(os.listdir(tmp_path / "elsewhere"))
    read_everything(folder)  # it may be read, as what DVC or git-annex put there
    told = change_everything(folder)
    assert told
    assert all("is a link" in line or "already" in line for line in told)
    assert sorted(os.listdir(tmp_path / "elsewhere")) == before


@as_posix
def test_links_to_files_are_read(folder, tmp_path):
    """As the Hub's cache, DVC and git-annex lay files out."""
    for path in [p for p in folder.rglob("*") if p.is_file() and p.name[0] != "."]:
        target = tmp_path / f"blob-{path.name}"
        path.rename(target)
        path.symlink_to(target)
    read_everything(folder)
    assert not verify(folder).damages


@as_posix
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize(
    "name",
    [
        "codebook.json",
        "journal.jsonl",
        "statistics.safetensors",
        "settled",
        "keys",
        "pictures",
        ".lock",
        ".writer.json",
    ],
)
def test_what_is_no_file_is_refused_and_not_waited_for(folder, name, kind):
    """By readers; and by writers, who need no more to be there than can be read."""
    path = folder / name
    if name == "settled":
        path = next(folder.glob("settled-*"))
    elif name in ("keys", "pictures"):
        path = sorted((folder / name).iterdir())[0]
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    refused = refuses(folder, f"{name} is a {kind}")
    assert refused == (name not in (".lock", ".writer.json"))
    check_verify(folder, name)
    for told in change_everything(folder):
        assert "Errno" not in told


@as_posix
def test_a_hole_is_not_read_into_memory(folder):
    """A file of a TiB that takes no room on the disk."""
    refused = {"journal.jsonl": False, "codebook.json": True, "statistics.safetensors": True, ".writer.json": False}
    for name in refused:
        path = folder / name
        whole = path.read_bytes() if path.exists() else b""
        with path.open("r+b" if path.exists() else "wb") as file:
            file.truncate(1 << 40)
        assert refuses(folder, name) == refused[name]
        path.write_bytes(whole)


# ---- the file system


def test_locks_that_keep_nobody_out_are_refused(tmp_path, monkeypatch):
    book(tmp_path / "one", 1)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", lambda handle, how: None)
    memory = open_memory(tmp_path / "two")
    assert len(memory.edits) == 1
    with pytest.raises(ReasonEditError, match="locks that keep nobody out"):
        memory.undo("e00000")
    monkeypatch.undo()
    memory.undo("e00000")


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    import errno

    fcntl = pytest.importorskip("fcntl")

    def no_locks(handle, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(ReasonEditError, match=r"cannot be locked for writing \(No locks available\)"):
        book(tmp_path / "book", 1)


def test_a_lock_whose_file_was_exchanged_is_taken_anew(tmp_path):
    lock, other = WriterLock(tmp_path), WriterLock(tmp_path, patience=0)
    with lock.hold():
        (tmp_path / ".lock").unlink()  # somebody tidied up
        with other.hold():  # and the next one has a file of its own
            third = WriterLock(tmp_path, patience=0)
            with pytest.raises(ReasonEditError, match="is being written by"), third.hold():
                pass


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        ("rw,local_lock=none - nfs4 server:/home rw,vers=4.2,local_lock=none", ""),
        ("rw - nfs server:/home rw,vers=3,local_lock=all", "nfs"),
        ("rw - cifs //server/share rw,nobrl,vers=3.0", "cifs"),
        ("rw - cifs //server/share rw,vers=3.0", ""),
        ("rw - fuse.sshfs server:/home rw,user_id=1000", "fuse.sshfs"),
        ("rw - ext4 /dev/sda1 rw", ""),
    ],
)
def test_file_systems_whose_locks_hold_on_one_machine_are_known(tmp_path, mount, said):
    device = os.stat(tmp_path).st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 {os.major(device)}:{os.minor(device)} / {tmp_path} {mount}\nnonsense\n")
    assert locks_of_one_machine(tmp_path, mounts) == said
    assert locks_of_one_machine(tmp_path, tmp_path / "none") == ""


def test_a_picture_that_is_a_secret_is_not_shown(folder, victim):
    """A link in place of a picture: what it leads to is not that picture."""
    name = open_memory(folder).find("e00000").image
    (folder / "pictures" / f"{name}.png").unlink()
    picture(3).save(victim.with_suffix(".png"))
    (folder / "pictures" / f"{name}.png").symlink_to(victim.with_suffix(".png"))
    with pytest.raises(DamagedError, match="not what was written"):
        open_memory(folder).picture(name)
    assert json.loads((folder / "codebook.json").read_text())["format"] == 5
