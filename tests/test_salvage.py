"""What a damaged journal says: records are corrected where a sum proves them, and lost ones are never guessed."""

import random
import shutil

import pytest
from helpers.writer import make_edit
from test_store import book, content, open_memory, the_same

from reasonedit import ReasonEditError
from reasonedit.codebook.repair import LossError, repair, verify
from reasonedit.codebook.rescue.salvage import salvage_journal


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five edits: one undone, one undone and restored, one undone last."""
    there = tmp_path_factory.mktemp("salvage") / "book"
    memory = book(there, 5)
    memory.undo("e00001", author="Ada")
    memory.undo("e00003")
    memory.restore("e00001")
    memory.undo("e00002", author="Bo")
    return there


@pytest.fixture
def changed(folder, tmp_path):
    """Copies the codebook, and changes the journal of the copy by a function."""

    def change(how):
        shutil.rmtree(tmp_path / "book", ignore_errors=True)
        shutil.copytree(folder, tmp_path / "book")
        path = tmp_path / "book" / "journal.jsonl"
        path.write_bytes(how(path.read_bytes()))
        return tmp_path / "book"

    return change


def lines(how):
    return lambda data: b"".join(how(data.splitlines(keepends=True)))


def garble_line(number, start=0, stop=None):
    """Exchange the bytes of one line, all but its end."""

    def how(mine):
        line = mine[number][:-1]
        end = len(line) if stop is None else stop
        noise = bytes(b"#$%&"[i % 4] for i in range(len(line[start:end])))
        return [*mine[:number], line[:start] + noise + line[end:] + b"\n", *mine[number + 1 :]]

    return lines(how)


def drop_line(number):
    return lines(lambda mine: mine[:number] + mine[number + 1 :])


def state(folder):
    memory = open_memory(folder)
    return sorted(memory.edits), sorted(memory.undone)


WHOLE = ["e00000", "e00001", "e00004"], ["e00002", "e00003"]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (lambda data: data.replace(b"\n", b"\r\n"), "CR LF"),
        (lambda data: b"\xef\xbb\xbf" + data, "byte order mark"),
        (
            lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"),
            "mark was put before it, and its lines",
        ),
        (lambda data: data.decode().encode("utf-16"), "UTF-16"),
        (lambda data: data[:-1], "the end of its last line"),
    ],
)
def test_what_an_editor_made_of_a_whole_journal_is_undone(changed, folder, how, why):
    there = changed(how)
    found = verify(there)
    assert why in found.damages[0].what
    assert [r.state for r in found.records] == ["whole"] * 10
    assert found.losses == []
    repair(there)
    the_same(open_memory(there), open_memory(folder))
    assert verify(there).damages == []


def flip_bits(data, places):
    for at, bit in places:
        yield data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


def choose_bits(data, rng, count):
    turns = data.index(b'{"op": "undo"')
    places = [(rng.randrange(turns, len(data)), rng.randrange(8)) for _ in range(count)]
    ends = [(i, rng.randrange(8)) for i, byte in enumerate(data) if byte == ord("\n")]
    return [*places, *ends, *((rng.randrange(turns), rng.randrange(8)) for _ in range(count // 4))]


def test_a_flipped_bit_is_found_and_flipped_back(folder):
    """Anywhere: in a text, in a sum, between two records, at the end of the last."""
    data = (folder / "journal.jsonl").read_bytes()
    whole = [p.values for p in salvage_journal(data).pieces]
    for damaged in flip_bits(data, choose_bits(data, random.Random(3), 60)):
        assert [p.values for p in salvage_journal(damaged).pieces] == whole


@pytest.mark.slow
def test_every_flipped_bit_is_flipped_back(folder):
    data = (folder / "journal.jsonl").read_bytes()
    whole = [p.values for p in salvage_journal(data).pieces]
    for damaged in flip_bits(data, [(at, bit) for at in range(len(data)) for bit in range(8)]):
        assert [p.values for p in salvage_journal(damaged).pieces] == whole


def test_an_exchanged_byte_is_found(folder):
    data = (folder / "journal.jsonl").read_bytes()
    whole = [p.values for p in salvage_journal(data).pieces]
    rng = random.Random(5)
    turns = data.index(b'{"op": "undo"')
    for at in [*(rng.randrange(turns, len(data)) for _ in range(6)), turns, turns - 1, len(data) - 1]:
        for byte in (b"\n", b"\r", b"z"):
            if data[at : at + 1] != byte:
                damaged = data[:at] + byte + data[at + 1 :]
                assert [p.values for p in salvage_journal(damaged).pieces] == whole


@pytest.mark.slow
def test_after_a_flip_of_each_byte_nothing_is_resurrected_and_nothing_lost(folder, tmp_path):
    data = (folder / "journal.jsonl").read_bytes()
    turns = data.index(b'{"op": "undo"')
    for at in [*range(0, turns, 17), *range(turns, len(data), 2)]:
        there = tmp_path / "book"
        shutil.rmtree(there, ignore_errors=True)
        shutil.copytree(folder, there)
        (there / "journal.jsonl").write_bytes(next(flip_bits(data, [(at, at % 8)])))
        _, kept = repair(there)
        assert state(there) == WHOLE
        shutil.rmtree(kept)


@pytest.mark.parametrize("start", [40, 60, 100])
def test_an_undo_of_which_only_some_can_be_read_still_undoes(changed, start):
    there = changed(garble_line(9, start))
    found = verify(there)
    assert "the edit 'e00002' was undone" in found.damages[0].what
    assert {e.id: e.counts for e in found.edits}["e00002"] is False
    repair(there)
    assert state(there) == WHOLE


def test_a_restore_of_which_only_some_can_be_read_restores_nothing_unasked(changed):
    there = changed(garble_line(8, 60))
    found = verify(there)
    assert found.losses == [
        f"the edit 'e00001' does not count, but the record at byte {found.damages[0].offset}, of which not all can be "
        "read, may have restored it"
    ]
    with pytest.raises(LossError, match="'e00001' does not count"):
        repair(there)
    repair(there, accept_loss=True)
    assert state(there) == (["e00000", "e00004"], ["e00001", "e00002", "e00003"])


@pytest.mark.parametrize("how", [garble_line(7), drop_line(7)])
def test_a_lost_record_puts_in_doubt_what_no_later_one_speaks_of(changed, folder, how):
    """The undo of e00003 is lost: e00001 and e00002 were turned after it, so of these it said nothing."""
    there = changed(how)
    before = content(there)
    found = verify(there)
    (loss,) = found.losses
    assert "may have undone 'e00000', 'e00003', 'e00004'" in loss
    assert [e.id for e in found.edits if e.doubt] == ["e00000", "e00003", "e00004"]
    with pytest.raises(LossError, match="'e00003'"):
        repair(there)
    assert content(there) == before
    assert not list(there.parent.glob("*damaged*"))


@pytest.mark.parametrize("how", [garble_line(7), drop_line(7)])
def test_what_merged_where_tells_what_a_lost_record_undid(folder, tmp_path, how):
    there = tmp_path / "settled"
    shutil.copytree(folder, there)
    open_memory(there).settle()
    path = there / "journal.jsonl"
    path.write_bytes(how(path.read_bytes()))
    found = verify(there)
    assert [e.id for e in found.edits if not e.counts] == ["e00002", "e00003"]
    assert [e.id for e in found.edits if e.doubt] == []
    repair(there, accept_loss=True)
    assert state(there) == WHOLE


def test_a_restore_tells_of_the_undo_before_it_that_is_lost(changed):
    there = changed(drop_line(6))
    found = verify(there)
    assert [e.id for e in found.edits if e.doubt] == []
    repair(there, accept_loss=True)
    assert state(there) == WHOLE


@pytest.mark.parametrize("how", [garble_line(2), drop_line(2), garble_line(2, 300)])
def test_a_lost_edit_is_named_and_puts_nothing_else_in_doubt(changed, how):
    there = changed(how)
    found = verify(there)
    assert len(found.losses) == 1
    assert "'e00001'" in found.losses[0]
    assert [e.id for e in found.edits if e.event is None] == ["e00001"]
    assert [e.id for e in found.edits if e.doubt] == []
    repair(there, accept_loss=True)
    assert state(there) == (["e00000", "e00004"], ["e00002", "e00003"])


def test_what_is_missing_at_the_end_is_missed(changed):
    found = verify(changed(drop_line(9)))
    assert "may have undone 'e00000', 'e00001', 'e00002', 'e00004'" in found.losses[0]
    assert "restored 'e00003'" in found.losses[0]


def test_an_edit_that_somebody_changed_by_hand_is_no_edit_any_more_but_can_be_imported(changed):
    from reasonedit.data.exported import read

    there = changed(lambda data: data.replace(b"thing 1", b"another thing"))
    with pytest.raises(LossError, match="question 'What is 1\\?', answer 'another thing'"):
        repair(there)
    repair(there, accept_loss=True)
    assert "e00001" not in {**open_memory(there).edits, **open_memory(there).undone}
    (row,) = read(there / "lost-edits.jsonl")
    assert (row.id, row.edit.question, row.edit.answer) == ("e00001", "What is 1?", "another thing")
    open_memory(there).settle(join=True)  # which removes pictures that no edit has
    assert [r.id for r in read(there / "lost-edits.jsonl")] == ["e00001"]


def damage_somehow(data, rng):
    """Damage a journal, mostly so that no sum corrects it."""
    at = rng.randrange(len(data))
    end = at + rng.choice([1, 2, 3, 8, 40, 150, 400, 1500])
    mine = data.splitlines(keepends=True)
    one, other = rng.randrange(len(mine)), rng.randrange(len(mine))
    swapped = [*mine]
    swapped[one], swapped[other] = mine[other], mine[one]
    return rng.choice(
        [
            data[:at] + rng.randbytes(len(data[at:end])) + data[end:],
            data[:at] + bytes(len(data[at:end])) + data[end:],
            data[:at] + data[end:],
            data[:at],
            b"".join(mine[:one] + mine[one + 1 :]),
            b"".join(swapped),
            b"".join(mine[: one + 1] + mine[one:]),
        ]
    )


def write_at_random(folder, rng):
    """Write a codebook with edits, undos and restores at random."""
    memory = book(folder, 0)
    for number in range(rng.randint(5, 12)):
        memory.write(*make_edit(number))
        for _ in range(rng.randrange(3)):
            alive, undone = list(memory.edits), list(memory.undone)
            if alive and rng.random() < 0.6:
                memory.undo(rng.choice(alive))
            elif undone:
                memory.restore(rng.choice(undone))
        if rng.random() < 0.15:
            memory.settle(join=rng.random() < 0.5)
    return memory


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 120))])
def test_whatever_is_done_to_a_journal_nothing_changes_unsaid(tmp_path, seed):
    """Each edit that is lost or turned is named, and no undone edit counts again unless somebody agrees."""
    rng = random.Random(seed)
    memory = write_at_random(tmp_path / "book", rng)
    path = tmp_path / "book" / memory.store.manifest.journal_file
    path.write_bytes(damage_somehow(path.read_bytes(), rng))
    if seed % 7 == 5:
        (tmp_path / "book" / "codebook.json").write_bytes(b"{}")
    found = verify(tmp_path / "book")
    try:
        repair(tmp_path / "book")
        asked = False
    except LossError:
        repair(tmp_path / "book", accept_loss=True)
        asked = True
    except ReasonEditError:
        with pytest.raises(ReasonEditError, match="says what it was made with"):
            repair(tmp_path / "book", accept_loss=True)
        return
    there = open_memory(tmp_path / "book")
    told = " ".join([*found.losses, *(d.what for d in found.damages)])
    unknown = "(at byte" in told or "have been an edit" in told
    cut = seed % 7 == 5 and not found.losses  # a journal that ends sooner is whole by itself: only the manifest knew
    for name in [*memory.edits, *memory.undone]:
        was, now = name in memory.edits, name in there.edits
        if name in there.undone or now:
            assert was == now or name in told
        else:
            assert name in told or unknown or cut
        assert asked or cut or not (now and not was)
    assert verify(tmp_path / "book").damages == []


def test_each_record_is_accounted_for(changed):
    found = verify(changed(garble_line(2, 300)))
    assert [(r.op, r.edit_id, r.state) for r in found.records] == [
        ("create", "", "whole"),
        ("edit", "e00000", "whole"),
        ("edit", "e00001", "unreadable"),
        ("edit", "e00002", "whole"),
        ("edit", "e00003", "whole"),
        ("edit", "e00004", "whole"),
        ("undo", "e00001", "whole"),
        ("undo", "e00003", "whole"),
        ("restore", "e00001", "whole"),
        ("undo", "e00002", "whole"),
    ]
