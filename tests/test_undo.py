"""Undoing and restoring: what is left is what the other edits alone would have made."""

import json
import math

import pytest
import torch
from helpers.tiny import picture
from hypothesis import given
from hypothesis import strategies as st

from reasonedit import Edit, ReasonEditError
from reasonedit.codebook import Draft, EditMemory, Entry, Fact, Store
from reasonedit.codebook.disk.manifest import sum_of_values
from reasonedit.retrieval import FactRetriever, RetrievalConfig

NAMES = 8
# Corners of a grid and steps around them: many keys fall together, some exactly, some nearly, some in chains.
coordinate = st.sampled_from([0.0, 0.05, 0.1, 0.15, 0.2, 1.0, 1.1])
one_entry = st.tuples(
    coordinate, coordinate, st.sampled_from([0.0, 0.7, 1.0, 1.3]), st.sampled_from(["image", "text", "answer"])
)
edits = st.lists(st.lists(one_entry, min_size=1, max_size=4), min_size=2, max_size=NAMES)
turns = st.lists(st.integers(0, NAMES - 1), max_size=12)


def made(number: int, rows) -> tuple[Edit, list[Entry]]:
    edit = Edit(picture(number), "What?", f"thing {number}", ["It is round."], id=f"e{number}")
    facts = [Fact(f"fact {(number + i) % 5}", kind, edit.id) for i, (*_, kind) in enumerate(rows)]
    entries = [Entry(torch.tensor([x, y]), radius, fact) for (x, y, radius, _), fact in zip(rows, facts, strict=True)]
    return edit, entries


def alone(written, alive, merge=True, across_kinds=True) -> EditMemory:
    """A new codebook of some of the edits, in their order."""
    memory = EditMemory(merge, across_kinds)
    for number, rows in enumerate(written):
        if number in alive:
            memory.write(*made(number, rows))
    return memory


def same(one: EditMemory, other: EditMemory) -> None:
    assert one.keys.tolist() == other.keys.tolist()
    assert torch.equal(one.radii, other.radii)
    assert one.entries == other.entries
    assert list(one.edits) == list(other.edits)
    queries = torch.tensor([[0.0, 0.0], [0.3, 1.0], [5.0, 5.0]])
    found = [FactRetriever(m, RetrievalConfig(k=3, percentile=50)).retrieve(queries) for m in (one, other)]
    assert found[0] == found[1]


@given(edits, turns, st.booleans(), st.booleans(), st.sampled_from([None, 1]))
def test_a_codebook_is_what_the_edits_that_count_make_alone(written, turned, merge, across_kinds, k_answers):
    memory = alone(written, range(NAMES), merge, across_kinds)
    config = RetrievalConfig(k=3, percentile=50, k_answers=k_answers)
    retriever = FactRetriever(memory, config)
    alive = set(range(len(written)))
    queries = torch.tensor([[0.0, 0.0], [0.3, 1.0], [5.0, 5.0]])
    for number in turned:
        if number >= len(written):
            continue
        (memory.undo if number in alive else memory.restore)(f"e{number}")
        alive ^= {number}
        expected = alone(written, alive, merge, across_kinds)
        same(memory, expected)
        # One that has followed all along finds the same as a new one.
        fresh = FactRetriever(expected, config)
        assert retriever.retrieve(queries) == fresh.retrieve(queries)


@given(edits, turns, st.integers(0, NAMES))
def test_a_folder_gives_back_the_same_codebook(tmp_path_factory, written, turned, settled):
    folder = tmp_path_factory.mktemp("book")
    memory = EditMemory()
    memory.copy_to(Store.create(folder, {}, {}, {}))
    reader = EditMemory.open(Store.open(folder))
    for number, rows in enumerate(written):
        memory.write(*made(number, rows))
        if number == settled:
            memory.settle()
    alive = set(range(len(written)))
    for i, number in enumerate(n for n in turned if n < len(written)):
        (memory.undo if number in alive else memory.restore)(f"e{number}")
        alive ^= {number}
        if i == settled:
            memory.settle(join=True)
            reader.refresh()
    expected = alone(written, alive)
    same(EditMemory.open(Store.open(folder)), expected)
    reader.refresh()
    same(reader, expected)


def test_a_codebook_of_an_earlier_version_keeps_kinds_apart(tmp_path):
    """Its manifest does not say that they merge: it answers as it did, whatever is written, undone or copied."""
    rows = [(0.0, 0.0, 1.0, "image"), (0.05, 0.0, 1.0, "text")], [(0.06, 0.0, 1.0, "answer"), (0.02, 0.0, 1.0, "text")]
    assert [len(alone(rows, {0, 1}, across_kinds=across)) for across in (True, False)] == [1, 3]
    memory = alone(rows, {0}, across_kinds=False)
    memory.copy_to(Store.create(tmp_path / "book", {}, {}, {}))
    manifest = tmp_path / "book" / "codebook.json"
    values = json.loads(manifest.read_text())
    assert values.pop("sum") == sum_of_values(values)
    assert values.pop("across_kinds") is False
    manifest.write_text(json.dumps({**values, "sum": sum_of_values(values)}))
    memory = EditMemory.open(Store.open(tmp_path / "book"))
    same(memory, alone(rows, {0}, across_kinds=False))
    memory.write(*made(1, rows[1]))
    same(memory, alone(rows, {0, 1}, across_kinds=False))
    memory.undo("e0")
    memory.restore("e0")
    memory.rewrite(list)
    same(EditMemory.open(Store.open(tmp_path / "book")), alone(rows, {0, 1}, across_kinds=False))
    memory.copy_to(Store.create(tmp_path / "copy", {}, {}, {}))
    same(EditMemory.open(Store.open(tmp_path / "copy")), alone(rows, {0, 1}, across_kinds=False))
    new = alone(rows, {0, 1})
    new.copy_to(Store.create(tmp_path / "new", {}, {}, {}))
    same(EditMemory.open(Store.open(tmp_path / "new")), alone(rows, {0, 1}))


def test_after_undoing_the_first_edit_the_second_is_as_if_it_came_alone():
    """A and B merge: B's key was A's, its radius and its facts partly A's."""
    a, b = [(0.0, 0.0, 1.0, "image")], [(0.05, 0.0, 1.0, "image"), (3.0, 0.0, 1.0, "image")]
    memory = alone([a, b], {0, 1})
    assert len(memory) == 2
    assert len(memory.entries[0]) == 2
    memory.undo("e0", author="Ada")
    same(memory, alone([a, b], {1}))
    assert memory.keys[0].tolist() == pytest.approx([0.05, 0.0])
    assert memory.radii.tolist() == [1.0, 1.0]
    assert [e.edit_id for e in memory.events] == ["e0", "e1", "e0"]
    assert (memory.events[-1].op, memory.events[-1].author) == ("undo", "Ada")
    memory.restore("e0")
    same(memory, alone([a, b], {0, 1}))


def test_what_cannot_be_undone_is_said():
    memory = alone([[(0.0, 0.0, 1.0, "image")]] * 2, {0, 1})
    memory.undo("e0")
    for turn, name, message in (
        (memory.undo, "e0", "'e0' is undone already"),
        (memory.restore, "e1", "'e1' is not undone"),
        (memory.undo, "e", "no edit 'e' in the codebook"),
        (memory.undo, "x", "no edit 'x' in the codebook"),
        (memory.undo, "", "no edit '' in the codebook"),
    ):
        with pytest.raises(ReasonEditError, match=message):
            turn(name)
    with pytest.raises(ReasonEditError, match="an undone edit 'e0' in the codebook already: restore that one"):
        memory.write(*made(0, [(0.0, 0.0, 1.0, "image")]))
    assert list(memory.edits) == ["e1"]


def test_an_id_that_is_gone_means_no_other_edit():
    memory, rows = EditMemory(), [(0.0, 0.0, 1.0, "image")]
    edit, entries = made(17, rows)
    memory.write(edit, entries)
    new = Draft.of(*made(1, rows))
    for turn in (memory.undo, memory.restore, memory.find, memory.entries_of, memory.key_count):
        with pytest.raises(ReasonEditError, match="no edit 'e1' in the codebook"):
            turn("e1")
    with pytest.raises(ReasonEditError, match="no edit 'e1' in the codebook"):
        memory.replace("e1", new)
    assert list(memory.edits) == ["e17"]


def test_without_edits_nothing_is_found():
    memory = alone([[(0.0, 0.0, 1.0, "image")]], {0})
    retriever = FactRetriever(memory)
    assert retriever.retrieve(torch.zeros(1, 2))[0].facts
    memory.undo("e0")
    found = retriever.retrieve(torch.zeros(1, 2))[0]
    assert (found.facts, found.nearest) == ([], math.inf)


def asked(number: int, answer: str, x: float, radius: float = 1.0) -> tuple[Edit, list[Entry]]:
    edit = Edit(picture(0), "What?", answer, ["It is round."], id=f"e{number}")
    return edit, [Entry(torch.tensor([x, 0.0]), radius, Fact(edit.answer_fact, "answer", edit.id))]


def test_an_edit_that_contradicts_another_says_so():
    memory = EditMemory()
    memory.write(*asked(0, "a boat", 0.0))
    memory.write(*asked(1, "The boat.", 0.5))  # the same answer
    memory.write(*asked(2, "a kettle", 0.9))
    memory.write(*asked(3, "a kettle", 5.0))  # another question or picture
    memory.undo("e0")
    memory.write(*asked(4, "a drum", 0.4))
    contradicted = {name: edit.contradicts for name, edit in memory.edits.items()}
    assert contradicted == {"e1": [], "e2": ["e0", "e1"], "e3": [], "e4": ["e1", "e2"]}


@pytest.mark.parametrize("merge", [False, True])
def test_long_keys_that_are_the_same_stay_together(tmp_path, merge):
    """Sums over long keys are rounded otherwise one by one and in batches; the same is found all the same."""
    keys = 40 * torch.nn.functional.normalize(torch.randn(20, 1536, generator=torch.Generator().manual_seed(0)), dim=1)
    store = Store.create(tmp_path, {}, {}, {}, merge=merge)
    memory = EditMemory(merge)
    memory.copy_to(store)
    for number in range(40):
        edit = Edit(picture(0), "What?", f"thing {number}", ["It is round."], id=f"e{number}")
        memory.write(edit, [Entry(keys[number % 20], 0.0, Fact(f"fact {number}", "image", edit.id))])
    memory = EditMemory.open(Store.open(tmp_path))
    for number in range(20):
        memory.undo(f"e{number}")
    assert torch.equal(memory.keys, keys)
    assert [[f.text for f in facts] for facts in memory.entries] == [[f"fact {n}"] for n in range(20, 40)]
