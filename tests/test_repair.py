"""What can be recovered of a damaged codebook, and that the damaged one is kept."""

import json
import random
import shutil

import pytest
import torch
from test_store import book, content, opened, the_same

from reasonedit import ReasonEditError
from reasonedit.codebook import DamagedError
from reasonedit.codebook.repair import repair, verify


@pytest.fixture
def damaged(tmp_path):
    """A codebook of six edits, joined and loose, one undone; damages a file of it by name."""
    memory = book(tmp_path / "book", 4)
    memory.undo("e00002")
    memory.settle(join=True)
    from helpers.writer import made

    memory.write(*made(4))
    memory.write(*made(5))

    def damage(pattern, change):
        (path,) = sorted((tmp_path / "book").glob(pattern))[:1]
        path.write_bytes(change(path.read_bytes()))
        with pytest.raises(ReasonEditError):
            opened(tmp_path / "book").store.statistics()
        return path

    return damage


def flip(at):
    return lambda data: data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]


def test_a_whole_codebook_is_left_alone(tmp_path):
    memory = book(tmp_path, 3)
    before = content(tmp_path)
    found = verify(tmp_path)
    assert found.damages == []
    assert found.whole == ["e00000", "e00001", "e00002"]
    assert repair(tmp_path)[1] is None
    assert content(tmp_path) == before
    the_same(opened(tmp_path), memory)
    with pytest.raises(ReasonEditError, match="There is no codebook in"):
        verify(tmp_path / "keys")


def test_what_was_never_acknowledged_is_no_damage(tmp_path):
    memory = book(tmp_path, 2)
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"op": "edit", "edit": {"id": "e0')
    found = verify(tmp_path)
    assert found.damages == []
    assert "never acknowledged" in found.notes[0]
    the_same(opened(tmp_path), memory)
    memory.write(*[*__import__("helpers.writer", fromlist=["made"]).made(2)])
    the_same(opened(tmp_path), memory)


@pytest.mark.parametrize(
    ("pattern", "change", "left"),
    [
        ("codebook.json", flip(200), [0, 1, 2, 3, 4, 5]),
        ("codebook.json", lambda data: b"", [0, 1, 2, 3, 4, 5]),
        ("statistics*", flip(60), [0, 1, 2, 3, 4, 5]),
        ("settled*", lambda data: data[:-9], [0, 1, 2, 3, 4, 5]),
        ("journal.jsonl", lambda data: data[:-200], [0, 1, 2, 3, 4]),
        ("journal.jsonl", lambda data: data.replace(b"What is 1?", b"What is 7?"), [0, 2, 3, 4, 5]),
        ("keys/*0012-3*", flip(200), [0, 1, 2, 3, 5]),
    ],
)
def test_what_can_be_read_is_recovered(tmp_path, damaged, pattern, change, left):
    path = damaged(pattern, change)
    before = content(tmp_path / "book")
    found = verify(tmp_path / "book")
    assert {d.path for d in found.damages} == {path}
    assert content(tmp_path / "book") == before  # looking changes nothing
    found, kept = repair(tmp_path / "book")
    assert content(kept) == before
    assert kept.name.startswith("book.damaged-")
    there = opened(tmp_path / "book")
    assert sorted([*there.edits, *there.undone]) == [f"e{n:05d}" for n in left]
    assert list(there.undone) == ["e00002"]
    assert verify(tmp_path / "book").damages == []
    from helpers.writer import made

    there.write(*made(9))
    the_same(opened(tmp_path / "book"), there)


def test_edits_whose_keys_are_lost_can_be_imported_again(tmp_path, damaged):
    from reasonedit.data.exported import edits, read

    damaged("keys/*joined*", flip(500))
    found, _ = repair(tmp_path / "book")
    assert [e.edit_id for e in found.keyless] == ["e00000", "e00001", "e00002", "e00003"]
    assert list(opened(tmp_path / "book").edits) == ["e00004", "e00005"]
    lost = tmp_path / "book" / "lost-edits.jsonl"
    again = list(edits(lost, read(lost)))
    from helpers.writer import made

    assert [e.id for e in again] == ["e00000", "e00001", "e00003"]  # the other one was undone
    assert again[2].image.tobytes() == made(3)[0].image.tobytes()
    assert again[2].evidence[0][0].tobytes() == made(3)[0].evidence[0][0].tobytes()


def test_an_edit_without_its_picture_still_answers(tmp_path, damaged):
    memory = opened(tmp_path / "book")
    name = memory.find("e00001").image
    (tmp_path / "book" / "pictures" / f"{name}.png").write_bytes(b"no picture")
    found, _ = repair(tmp_path / "book")
    assert [d.path.stem for d in found.damages] == [name]
    there = opened(tmp_path / "book")
    assert there.entries == memory.entries
    assert there.find("e00001").image == ""
    assert verify(tmp_path / "book").damages == []


def test_neither_manifest_nor_journal_is_beyond_repair(tmp_path):
    book(tmp_path, 1)
    (tmp_path / "codebook.json").unlink()
    lines = (tmp_path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "journal.jsonl").write_bytes(b"x" + lines[0] + lines[1])
    before = content(tmp_path)
    with pytest.raises(ReasonEditError, match="says what it was made with"):
        repair(tmp_path)
    assert content(tmp_path) == before


def test_damage_at_random_loses_only_what_it_hits(tmp_path):
    """A flipped bit anywhere costs at most the edits of one file, and repair never fails."""
    rng = random.Random(1)
    memory = book(tmp_path / "whole", 5)
    names = list(content(tmp_path / "whole"))
    for _ in range(40):
        shutil.rmtree(tmp_path / "book", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "book")
        path = tmp_path / "book" / rng.choice(names)
        data = bytearray(path.read_bytes())
        if not data:
            continue
        at = rng.randrange(len(data))
        data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        found, kept = repair(tmp_path / "book")
        there = opened(tmp_path / "book")
        assert len(there.edits) + len(found.keyless) >= len(memory.edits) - 1
        assert (kept is None) == (not found.damages)
        if kept is not None:
            shutil.rmtree(kept)


def test_the_message_says_where_to_go_on(tmp_path):
    book(tmp_path, 1)
    (tmp_path / "journal.jsonl").write_bytes(b"")
    with pytest.raises(DamagedError, match="'reasonedit codebook repair' recovers it and keeps the damaged one"):
        opened(tmp_path)
    assert json.loads((tmp_path / "codebook.json").read_text())["numbers"] == 3


def test_a_manifest_of_another_codebook_is_no_loss(tmp_path):
    memory = book(tmp_path / "book", 4)
    book(tmp_path / "other", 1)
    shutil.copyfile(tmp_path / "other" / "codebook.json", tmp_path / "book" / "codebook.json")
    with pytest.raises(ReasonEditError):
        opened(tmp_path / "book")
    found = verify(tmp_path / "book")
    assert [d.path.name for d in found.damages] == ["codebook.json"]
    repair(tmp_path / "book")
    assert torch.equal(opened(tmp_path / "book").keys, memory.keys)
    assert opened(tmp_path / "book").edits == memory.edits


def test_what_was_undone_does_not_come_back_with_what_is_lost(tmp_path, damaged):
    damaged("keys/*joined*", flip(500))
    repair(tmp_path / "book")
    lines = (tmp_path / "book" / "lost-edits.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["e00000", "e00001", "e00003"]
