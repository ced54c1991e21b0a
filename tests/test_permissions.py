"""Other users: a codebook is theirs as far as its folder says, and what they must not read is not damaged."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from helpers.children import run_in_child
from helpers.writer import book, make_edit, open_memory

from reasonedit import ReasonEditError
from reasonedit.codebook import DamagedError, Store
from reasonedit.codebook.disk.errors import UnreadableError
from reasonedit.codebook.repair import repair, verify

ONE, OTHER, GROUP = 2001, 2002, 3000
as_root = pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can be somebody else")
not_as_root = pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may read everything")


def modes(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): stat.S_IMODE(p.lstat().st_mode) for p in folder.rglob("*")}


@pytest.fixture
def ours():
    """A folder of a group that anybody of the group may write into, and whose files are the group's."""
    folder = Path(tempfile.mkdtemp())  # pytest's own are closed to others
    os.chown(folder, 0, GROUP)
    folder.chmod(0o2775)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.name == "nt", reason="there are no modes")
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027, 0o077])
def test_every_file_is_as_the_umask_says(tmp_path, umask):
    before = os.umask(umask)
    try:
        memory = book(tmp_path / "book", 4)
        memory.undo("e00001")
        alone = modes(tmp_path / "book")
        memory.settle(join=True)
        with memory.store.writing():
            found = {**alone, **modes(tmp_path / "book")}
    finally:
        os.umask(before)
    kinds = {Path(name).suffix or Path(name).name for name in found}
    assert kinds == {".json", ".jsonl", ".safetensors", ".png", ".lock", "keys", "pictures"}
    assert {".lock", ".writer.json", "statistics.safetensors"} <= set(found)
    for name, mode in found.items():
        assert mode == (0o777 if name in ("keys", "pictures") else 0o666) & ~umask, name


@as_root
def test_two_of_a_group_write_in_turn(ours):
    folder = ours / "book"
    assert run_in_child(lambda: len(book(folder).edits), ONE, GROUP, 0o002).result() == "3"

    def on():
        memory = open_memory(folder)
        memory.write(*make_edit(len(memory.edits)))
        memory.undo("e00000")
        memory.restore("e00000")
        memory.settle(join=True)
        return len(memory.edits), len(verify(folder).damages)

    for count, user in ((4, OTHER), (5, ONE), (6, OTHER)):
        assert run_in_child(on, user, GROUP, 0o002).result() == f"({count}, 0)"
    assert {p.stat().st_gid for p in folder.rglob("*")} == {GROUP}


def refusals(folder: Path, *, writing: bool) -> list[str]:
    """What somebody is told who tries everything with a codebook."""

    def write():
        open_memory(folder).write(*make_edit(9))

    def statistics():
        open_memory(folder).store.statistics()

    def picture():
        memory = open_memory(folder)
        memory.picture(memory.find("e00000").image)

    reads = [lambda: Store.open(folder), lambda: open_memory(folder), statistics, picture, lambda: verify(folder)]
    writes = [write, lambda: open_memory(folder).settle(join=True)] if writing else []
    told = []
    for attempt in [*reads, lambda: repair(folder), *writes]:
        try:
            attempt()
        except DamagedError as error:
            told.append(f"DAMAGED {error}")
        except ReasonEditError as error:
            told.append(str(error))
        except Exception as error:
            told.append(f"RAW {type(error).__name__} {error}")
    return told


HIDDEN = ["", "codebook.json", "journal.jsonl", "keys", "pictures", "statistics.safetensors", "a key file", "a picture"]


@as_root
@pytest.mark.parametrize("hidden", HIDDEN)
def test_what_must_not_be_read_is_not_damaged(ours, hidden):
    folder = ours / "book"
    run_in_child(lambda: book(folder), ONE, GROUP, 0o002).result()
    parts = {"a key file": sorted((folder / "keys").iterdir())[0], "a picture": sorted((folder / "pictures").iterdir())}
    parts["a picture"] = next(p for p in parts["a picture"] if p.stem == open_memory(folder).find("e00000").image)
    path = parts.get(hidden, folder / hidden)
    path.chmod(0o700 if path.is_dir() else 0o600)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    needed = hidden not in ("statistics.safetensors", "a picture", "pictures")  # else one may go on editing
    told = run_in_child(lambda: "\n".join(refusals(folder, writing=needed)), OTHER, GROUP, 0o002).result().splitlines()
    assert len(told) >= (7 if needed else 3)
    for line in told:
        assert "permission denied" in line
        assert not line.startswith(("DAMAGED", "RAW")), line
        assert f"(user {ONE})" in line
        assert "chmod -R g+r" in line
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert os.listdir(ours) == ["book"]  # and no copy beside it
    path.chmod(0o2770 if path.is_dir() else 0o660)
    assert run_in_child(lambda: len(open_memory(folder).edits), OTHER, GROUP, 0o002).result() == "3"


@as_root
def test_who_may_read_but_not_write_is_told_so(ours):
    folder = ours / "book"
    run_in_child(lambda: book(folder), ONE, GROUP, 0o022).result()

    def write():
        memory = open_memory(folder)
        assert len(memory.edits) == 3
        memory.write(*make_edit(9))

    told = run_in_child(write, OTHER, GROUP, 0o022).result()
    assert told.startswith("refused: The codebook cannot be locked for writing")
    assert f"its owner (user {ONE})" in told
    assert f"chmod -R g+rwX '{folder}'" in told
    told = run_in_child(lambda: repair(folder), OTHER, GROUP, 0o022).result()
    assert "permission denied" in told
    assert len(open_memory(folder).edits) == 3


@not_as_root
@pytest.mark.parametrize("hidden", ["codebook.json", "journal.jsonl", "statistics.safetensors"])
def test_a_file_of_ones_own_that_is_closed_is_not_damaged(tmp_path, hidden):
    book(tmp_path / "book")
    (tmp_path / "book" / hidden).chmod(0)
    with pytest.raises(UnreadableError, match="permission denied"):
        open_memory(tmp_path / "book").store.statistics()
    with pytest.raises(UnreadableError, match="permission denied"):
        repair(tmp_path / "book")
