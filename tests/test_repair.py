"""What is recovered of a damaged codebook, and that the damaged one is kept."""

import errno
import json
import os
import random
import shutil
import signal
import sys
from dataclasses import replace

import pytest
import torch
from helpers.tiny import design, picture, save_pictures
from helpers.writer import make_edit, open_or_create
from test_store import book, content, open_memory, the_same

from reasonedit import Edit, ReasonEditError, ReasonEditor
from reasonedit.codebook import DamagedError, Draft, EditMemory, Entry, Fact, Store
from reasonedit.codebook.disk.checksums import BLOCK, Checksums
from reasonedit.codebook.disk.errors import UnreadableError
from reasonedit.codebook.repair import LOST, LossError, repair, verify
from reasonedit.codebook.rescue.findings import Found, FoundEdit
from reasonedit.codebook.rescue.flipped_bit import correct_bit
from reasonedit.codebook.rescue.history import unnamed
from reasonedit.codebook.rescue.lost import keys_found_again, write_lost
from reasonedit.erasure import erase
from reasonedit.migrate import open_embed


@pytest.fixture
def damaged(tmp_path):
    """A codebook of six edits, joined and loose, one undone; damages a file of it by name."""
    memory = book(tmp_path / "book", 4)
    memory.undo("e00002")
    memory.settle(join=True)
    memory.write(*make_edit(4))
    memory.write(*make_edit(5))

    def damage(pattern, change):
        (path,) = sorted((tmp_path / "book").glob(pattern))[:1]
        path.write_bytes(change(path.read_bytes()))
        with pytest.raises(ReasonEditError):
            open_memory(tmp_path / "book").store.statistics()
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
    the_same(open_memory(tmp_path), memory)
    with pytest.raises(ReasonEditError, match="There is no codebook in"):
        verify(tmp_path / "keys")


def test_what_was_never_acknowledged_is_no_damage(tmp_path):
    memory = book(tmp_path, 2)
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"op": "edit", "edit": {"id": "e0')
    found = verify(tmp_path)
    assert found.damages == []
    assert "never acknowledged" in found.notes[0]
    the_same(open_memory(tmp_path), memory)
    memory.write(*make_edit(2))
    the_same(open_memory(tmp_path), memory)


@pytest.mark.parametrize(
    ("pattern", "change", "left", "keyless"),
    [
        ("codebook.json", flip(200), [0, 1, 2, 3, 4, 5], []),
        ("codebook.json", lambda data: b"", [0, 1, 2, 3, 4, 5], []),
        ("statistics*", flip(60), [0, 1, 2, 3, 4, 5], []),
        ("statistics*", lambda data: data[:-1], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
        ("settled*", lambda data: data[:-9], [0, 1, 2, 3, 4, 5], []),
        ("journal.jsonl", lambda data: data[:-200], [0, 1, 2, 3, 4], []),
        ("journal.jsonl", lambda data: data.replace(b"What is 1?", b"What is 7?"), [0, 1, 2, 3, 4, 5], []),
        ("keys/*0012-3*", flip(200), [0, 1, 2, 3, 4, 5], [4]),
        ("keys/*0012-3*", flip(20), [0, 1, 2, 3, 4, 5], []),  # the header follows from the rest
        ("keys/*0012-3*", lambda data: data + b"x", [0, 1, 2, 3, 4, 5], []),
        ("keys/*joined*", lambda data: data + b"x", [0, 1, 2, 3, 4, 5], []),
        ("keys/*joined*", flip(20), [0, 1, 2, 3, 4, 5], []),
        ("keys/*joined*", flip(500), [0, 1, 2, 3, 4, 5], [3]),
        ("keys/*joined*", lambda data: data[:-30], [0, 1, 2, 3, 4, 5], [1, 2, 3]),
    ],
)
def test_what_can_be_read_is_recovered(tmp_path, damaged, pattern, change, left, keyless):
    path = damaged(pattern, change)
    before = content(tmp_path / "book")
    found = verify(tmp_path / "book")
    assert {d.path for d in found.damages} == {path}
    assert content(tmp_path / "book") == before  # looking changes nothing
    found, kept = repair(tmp_path / "book", accept_loss=True)
    assert content(kept) == before
    assert kept.name.startswith("book.damaged-")
    there = open_memory(tmp_path / "book")
    assert sorted([*there.edits, *there.undone]) == [f"e{n:05d}" for n in left]
    assert list(there.undone) == ["e00002"]
    assert there.keyless == [f"e{n:05d}" for n in keyless]
    assert verify(tmp_path / "book").damages == []
    there.write(*make_edit(9))
    the_same(open_memory(tmp_path / "book"), there)


def test_a_flip_in_a_large_file_costs_the_keys_of_one_edit(tmp_path):
    """Each edit's keys have a sum of their own, though they lie in one file; what was undone stays undone."""
    memory = open_or_create(tmp_path / "book")
    for number in range(12):
        edit, entries = make_edit(number)
        memory.write(edit, [replace(e, key=torch.randn(4096)) for e in entries * 20])
    memory.undo("e00004")
    memory.settle(join=True)
    (path,) = (tmp_path / "book" / "keys").iterdir()
    assert path.stat().st_size > 11 << 20
    before = {name: memory.entries_of(name) for name in [*memory.edits, *memory.undone]}
    path.write_bytes(flip(path.stat().st_size - 3000)(path.read_bytes()))  # among the radii
    path.write_bytes(flip(5 << 20)(path.read_bytes()))
    assert len(verify(tmp_path / "book").keyless) == 2
    repair(tmp_path / "book")
    there = open_memory(tmp_path / "book")
    assert list(there.undone) == ["e00004"]
    assert list(there.edits) == list(memory.edits)
    for name in set(before) - set(there.keyless):
        assert all(torch.equal(a.key, b.key) for a, b in zip(there.entries_of(name), before[name], strict=True))


def test_edits_that_lost_their_keys_keep_their_place_and_are_embedded_anew(tmp_path, damaged):
    shutil.copytree(tmp_path / "book", tmp_path / "whole")
    memory = open_memory(tmp_path / "whole")
    damaged("keys/*joined*", lambda data: bytes(len(data)))
    found, _ = repair(tmp_path / "book")
    assert [e.edit_id for e in found.keyless] == ["e00000", "e00001", "e00002", "e00003"]
    there = open_memory(tmp_path / "book")
    assert there.edits == memory.edits
    assert there.undone == memory.undone
    assert [(e.op, e.edit_id, e.author, e.time) for e in there.events] == [
        (e.op, e.edit_id, e.author, e.time) for e in memory.events
    ]
    assert there.keyless == ["e00000", "e00001", "e00002", "e00003"]
    assert len(there) == len(make_edit(4)[1]) + len(make_edit(5)[1]) - 3  # the keys of the last two are the same three

    def embed(edit, stored):
        assert edit.image.tobytes() == make_edit(int(edit.id[1:]))[0].image.tobytes()
        assert (stored.id, stored.author) == (edit.id, edit.author)
        return Draft.of(edit, make_edit(int(edit.id[1:]))[1])

    progress = []
    assert (
        repair(tmp_path / "book", embed=lambda _: embed, done=lambda done, of: progress.append((done, of)))[1] is None
    )
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    the_same(open_memory(tmp_path / "book"), memory)
    assert open_memory(tmp_path / "book").keyless == []
    assert not (tmp_path / "book" / LOST).exists()  # nothing is lost any more
    assert len(list(tmp_path.glob("book.damaged-*"))) == 1  # nothing was damaged the second time


def test_an_edit_that_is_erased_while_others_are_embedded_anew_is_passed_over(tmp_path):
    memory = book(tmp_path / "book", 3)
    for path in (tmp_path / "book" / "keys").iterdir():
        path.write_bytes(b"")
    repair(tmp_path / "book")
    made = []

    def embed(edit, stored):
        if not made:
            erase(tmp_path / "book", ["e00002"])
        made.append(edit.id)
        return Draft.of(edit, make_edit(int(edit.id[1:]))[1])

    repair(tmp_path / "book", embed=lambda _: embed)
    assert made == ["e00000", "e00001"]
    there = open_memory(tmp_path / "book")
    assert (list(there.edits), there.keyless) == (["e00000", "e00001"], [])
    assert there.entries_of("e00001")[0].key.equal(memory.entries_of("e00001")[0].key)


def test_what_is_lost_of_which_edit_is_written_down(tmp_path, damaged):
    """Edits that can be embedded anew may be imported elsewhere, too; undone ones and such without picture may not."""
    from reasonedit.data.exported import describe_lost, read

    name = open_memory(tmp_path / "book").find("e00001").image
    damaged("keys/*joined*", lambda data: bytes(len(data)))
    (tmp_path / "book" / "pictures" / f"{name}.png").write_bytes(b"no picture")
    repair(tmp_path / "book")
    assert [row.id for row in read(tmp_path / "book" / LOST)] == ["e00000", "e00003"]
    assert list(describe_lost(tmp_path / "book" / LOST)) == [
        "row 2, the edit 'e00001': its keys are lost; its picture is lost",
        "row 3, the edit 'e00002': its keys are lost; it was undone",
    ]
    there = open_memory(tmp_path / "book")
    assert there.find("e00001").reasoning == ["It is round.", "It is red."]
    repair(tmp_path / "book", embed=lambda _: lambda edit, _: Draft.of(edit, make_edit(int(edit.id[1:]))[1]))
    assert open_memory(tmp_path / "book").keyless == ["e00001"]
    rows = [json.loads(line) for line in (tmp_path / "book" / LOST).read_text().splitlines()]
    assert [row["id"] for row in rows] == ["e00001"]  # the others have their keys again


def test_rows_of_lost_edits_stay_whole_whatever_ends_lines_in_their_texts(tmp_path):
    memory = open_or_create(tmp_path)
    for number, edit in enumerate((Edit(picture(1), "What\u2028is\x85it?", "a lamp", ["It shines."]), make_edit(2)[0])):
        memory.write(edit, [Entry(torch.full((8,), float(number)), 1.0, Fact("It shines.", "image", edit.id))])
    first, second = memory.edits.values()
    (tmp_path / "keys" / "000000000000-1.safetensors").write_bytes(b"")
    repair(tmp_path)
    (tmp_path / "pictures" / f"{second.image}.png").unlink()
    repair(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / LOST).read_text().split("\n") if line]
    assert [(row["id"], row["question"]) for row in rows] == [(first.id, first.question), (second.id, second.question)]
    keys_found_again(tmp_path, [first.id])
    assert [json.loads(line)["id"] for line in (tmp_path / LOST).read_text().split("\n") if line] == [second.id]


def test_what_is_left_of_two_edits_whose_records_lay_at_the_same_byte_is_kept(tmp_path):
    def found(question):
        return Found(edits=[FoundEdit(unnamed(404), 404, True, "", None, {"question": question}, None, False)])

    for question in ("What?", "Who?", "Who?"):  # the last after a repair that was killed
        write_lost(tmp_path, found(question))
    rows = [json.loads(line) for line in (tmp_path / LOST).read_text().splitlines()]
    assert [row["question"] for row in rows] == ["What?", "Who?"]


def test_an_edit_without_its_picture_still_answers(tmp_path, damaged):
    memory = open_memory(tmp_path / "book")
    name = memory.find("e00001").image
    (tmp_path / "book" / "pictures" / f"{name}.png").write_bytes(b"no picture")
    found, _ = repair(tmp_path / "book")
    assert [d.path.stem for d in found.damages] == [name]
    there = open_memory(tmp_path / "book")
    assert there.entries == memory.entries
    assert there.find("e00001").image == ""
    assert verify(tmp_path / "book").damages == []


def test_neither_manifest_nor_journal_is_beyond_repair(tmp_path):
    book(tmp_path, 1)
    (tmp_path / "codebook.json").unlink()
    lines = (tmp_path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "journal.jsonl").write_bytes(b"some" + lines[0] + lines[1])
    before = content(tmp_path)
    with pytest.raises(ReasonEditError, match="says what it was made with"):
        repair(tmp_path)
    assert content(tmp_path) == before


def test_damage_at_random_loses_only_what_it_hits(tmp_path):
    """A flipped bit anywhere costs at most the keys or a picture of one edit, and repair never fails nor asks."""
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
        there = open_memory(tmp_path / "book")
        assert list(there.edits) == list(memory.edits)
        assert len(there.keyless) <= 1
        assert (kept is None) == (not found.damages)
        if kept is not None:
            shutil.rmtree(kept)


def test_a_flipped_bit_is_found_by_the_sum_of_its_block():
    rng = random.Random(3)
    data = rng.randbytes(2 * BLOCK + 1000)
    sums = Checksums.of_content("statistics.safetensors", data)
    for at in (0, 1, BLOCK - 1, BLOCK, 2 * BLOCK, len(data) - 1, rng.randrange(BLOCK)):
        for bit in (0, 3, 7):
            assert correct_bit(data[:at] + bytes((data[at] ^ (1 << bit),)) + data[at + 1 :], sums) == data
    twice = bytes((data[0] ^ 1,)) + data[1:BLOCK] + bytes((data[BLOCK] ^ 1,)) + data[BLOCK + 1 :]
    for other in (data, data[:-1], data + b"x", twice, bytes(len(data))):
        assert correct_bit(other, sums) is None


def test_the_message_says_where_to_go_on(tmp_path):
    book(tmp_path, 1)
    (tmp_path / "journal.jsonl").write_bytes(b"")
    with pytest.raises(DamagedError, match="'reasonedit codebook repair' recovers it and keeps the damaged one"):
        open_memory(tmp_path)
    assert json.loads((tmp_path / "codebook.json").read_text())["numbers"] == 3


def test_a_manifest_of_another_codebook_is_no_loss(tmp_path):
    memory = book(tmp_path / "book", 4)
    book(tmp_path / "other", 1)
    shutil.copyfile(tmp_path / "other" / "codebook.json", tmp_path / "book" / "codebook.json")
    with pytest.raises(ReasonEditError):
        open_memory(tmp_path / "book")
    found = verify(tmp_path / "book")
    assert [d.path.name for d in found.damages] == ["codebook.json"]
    repair(tmp_path / "book")
    assert torch.equal(open_memory(tmp_path / "book").keys, memory.keys)
    assert open_memory(tmp_path / "book").edits == memory.edits


def test_killed_at_any_moment_the_codebook_has_its_name_and_nothing_is_left_for_good(tmp_path, damaged):
    """A copy is made first; one that was cut short has a hidden name."""
    memory = open_memory(tmp_path / "book")
    damaged("keys/*0012-3*", flip(200))
    for moment in (1, 8, 20, 30):
        if not killed_in_repair(tmp_path / "book", moment):
            break
        there = verify(tmp_path / "book")  # damaged or repaired
        assert [e.id for e in there.edits if e.counts] == list(memory.edits)
    repair(tmp_path / "book")
    assert open_memory(tmp_path / "book").keyless == ["e00004"]
    assert [p.name for p in tmp_path.iterdir() if p.name[0] == "."] == []
    for copy in tmp_path.glob("book.damaged-*"):
        assert [d.path.name for d in verify(copy).damages] == ["000000000012-3.safetensors"]


def killed_in_repair(folder, moment):
    """Kill a repair at the n-th file that it links, copies, makes, renames or removes; whether there are so many."""
    child = os.fork()
    if child == 0:
        seen = []

        def hook(event, _):
            if event in ("os.link", "os.rename", "os.mkdir", "os.remove", "shutil.copyfile"):
                seen.append(event)
                if len(seen) == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        repair(folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_picture_in_a_copy_is_that_of_then(tmp_path, damaged):
    """Pictures and keys are linked, never the journal: what is written later leaves the copy as it is."""
    damaged("keys/*0012-3*", flip(200))
    _, kept = repair(tmp_path / "book")
    before = content(kept)
    there = open_memory(tmp_path / "book")
    there.write(*make_edit(9))
    there.settle(join=True)
    assert content(kept) == before


def test_nothing_is_damaged_that_must_not_be_read(tmp_path, monkeypatch):
    memory = book(tmp_path / "book", 2)
    path = tmp_path / "book" / "keys" / "000000000000-3.safetensors"
    real = os.open

    def denied(name, *rest, **more):
        if os.fspath(name) == str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(name, *rest, **more)

    monkeypatch.setattr(os, "open", denied)
    before = content(tmp_path / "book")
    for act in (verify, repair):
        with pytest.raises(UnreadableError, match="permission denied"):
            act(tmp_path / "book")
    monkeypatch.undo()
    assert content(tmp_path / "book") == before
    assert [p.name for p in tmp_path.iterdir()] == ["book"]
    the_same(open_memory(tmp_path / "book"), memory)


def test_where_only_a_damaged_copy_is_left_that_is_named(tmp_path, damaged):
    damaged("keys/*0012-3*", flip(200))
    _, kept = repair(tmp_path / "book")
    shutil.rmtree(tmp_path / "book")
    for act in (verify, repair):
        with pytest.raises(ReasonEditError, match=f"There is no codebook in.*'{kept}' holds a copy"):
            act(tmp_path / "book")
    assert not (tmp_path / "book").exists()


def test_statistics_of_another_codebook_are_taken_for_none(tmp_path):
    """They have right sums in a right manifest, but the journal says others."""
    memory = book(tmp_path / "book", 2)
    other = EditMemory()
    other.copy_to(Store.create(tmp_path / "other", {"vlm": "v"}, {"model": "m"}, {"mean": torch.arange(4.0) + 1}))
    shutil.copyfile(tmp_path / "other" / "statistics.safetensors", tmp_path / "book" / "statistics.safetensors")
    theirs = other.store.manifest
    manifest = replace(memory.store.manifest, statistics=theirs.statistics, statistics_digest=theirs.statistics_digest)
    manifest.write(tmp_path / "book")
    found, _ = repair(tmp_path / "book", accept_loss=True)
    assert {d.path.name for d in found.damages} == {"codebook.json", "statistics.safetensors"}
    there = open_memory(tmp_path / "book")
    assert list(there.edits) == list(memory.edits) == there.keyless
    assert there.store.statistics() == {}  # taken when the next key is made


def whitened_book(vlm, folder, reference, *, calibrated=False):
    """A codebook of three edits, the second undone, by statistics of some pictures."""
    whitened = design(merge=True)
    whitened = replace(whitened, embedding=replace(whitened.embedding, transform="whitened", reference=str(reference)))
    editor = ReasonEditor(vlm, whitened)
    if calibrated:
        editor.calibrate([picture(1000 + i) for i in range(16)])
    for number in range(3):
        editor.write(numbered(number))
    editor.undo("e1")
    editor.save(folder)
    return editor


def numbered(number):
    return Edit(picture(number), f"What is {number}?", f"thing {number}", [f"It is thing {number}."], id=f"e{number}")


def fetched(editor, number):
    return [hit.fact for hit in editor.ask(picture(number), f"What is {number}?").hits]


def test_statistics_that_cannot_be_taken_again_are_a_loss_and_the_edits_are_embedded_anew(
    tiny_vlm, hash_encoder, tmp_path
):
    book = tmp_path / "book"
    editor = whitened_book(tiny_vlm, book, "own", calibrated=True)
    facts = fetched(editor, 2)
    assert "The answer to 'What is 2?' is thing 2." in facts
    (book / "statistics.safetensors").unlink()
    before = content(book)
    with pytest.raises(LossError, match="statistics of the pictures by which the codebook was calibrated and the keys"):
        repair(book)
    assert content(book) == before
    found, _ = repair(book, accept_loss=True)
    assert [edit.lost for edit in found.edits] == [["keys"]] * 3
    assert open_memory(book).keyless == ["e0", "e1", "e2"]
    loaded = ReasonEditor.load(book, tiny_vlm)
    assert fetched(loaded, 2) == []
    assert loaded.pipeline.statistics.awaits_pictures  # it is cautious as any codebook without a calibration
    repair(book, embed=open_embed(tiny_vlm))
    again = ReasonEditor.load(book, tiny_vlm)
    assert again.memory.keyless == []
    assert (list(again.edits), list(again.memory.undone)) == (["e0", "e2"], ["e1"])
    assert fetched(again, 2) == facts
    assert again.ask(picture(2), "What is 2?").nearest == pytest.approx(0, abs=1e-4)
    assert verify(book).damages == []
    again.calibrate([picture(2000 + i) for i in range(16)])
    assert fetched(ReasonEditor.load(book, tiny_vlm), 2) == facts


def test_a_folder_of_reference_pictures_may_have_changed_meanwhile(tiny_vlm, hash_encoder, tmp_path):
    save_pictures(tmp_path / "pictures", 1000)
    book = tmp_path / "book"
    whitened_book(tiny_vlm, book, tmp_path / "pictures")
    (book / "statistics.safetensors").write_bytes(b"")
    with pytest.raises(LossError, match=f"the statistics of the pictures in '{tmp_path / 'pictures'}'"):
        repair(book)
    repair(book, accept_loss=True)
    editor = ReasonEditor.load(book, tiny_vlm)
    save_pictures(tmp_path / "pictures", 2000)
    editor.write(numbered(3))  # by the pictures of now, as all that is embedded from here on
    save_pictures(tmp_path / "pictures", 3000)
    repair(book, embed=open_embed(tiny_vlm))
    save_pictures(tmp_path / "pictures", 4000)
    again = ReasonEditor.load(book, tiny_vlm)
    for number in (0, 2, 3):
        assert fetched(again, number)[0] == f"The answer to 'What is {number}?' is thing {number}."
        assert again.ask(picture(number), f"What is {number}?").nearest == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("named", [True, False])
def test_lost_statistics_are_not_what_another_version_would_measure(
    tiny_vlm, hash_encoder, tmp_path, monkeypatch, named
):
    """Not even where the pictures are the same everywhere; a repair by an earlier version left keys without them."""
    book = tmp_path / "book"
    with monkeypatch.context() as earlier:
        earlier.setattr("reasonedit.embedding.dual.load_or_measure", lambda _made_by, measure: measure())
        earlier.setattr("reasonedit.embedding.statistics._DIRECTIONS", 6)
        whitened_book(tiny_vlm, book, "own")
        (book / "statistics.safetensors").unlink()
        if not named:
            lost = DamagedError(book / "statistics.safetensors", 0, "the file is missing")
            earlier.setattr(
                "reasonedit.codebook.rescue.verify.read_statistics",
                lambda _folder, _, found: found.damages.append(lost),
            )
            repair(book)
    for use in (lambda: ReasonEditor.load(book, tiny_vlm), lambda: repair(book)):
        with pytest.raises(ReasonEditError, match="statistics"):
            use()
    repair(book, accept_loss=True, embed=open_embed(tiny_vlm))
    again = ReasonEditor.load(book, tiny_vlm)
    assert again.memory.keyless == []
    for number in (0, 2):
        assert fetched(again, number)[0] == f"The answer to 'What is {number}?' is thing {number}."
        assert again.ask(picture(number), f"What is {number}?").nearest == pytest.approx(0, abs=1e-4)
