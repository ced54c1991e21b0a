"""Checking an edit: what it would do is what it does once it is written, and nothing happens meanwhile."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_undo import NAMES, edits, made, same, turns

from reasonedit.codebook import Draft, EditMemory, Store
from reasonedit.retrieval import FactRetriever, RetrievalConfig
from reasonedit.retrieval import indexed_keys as indexed

QUERIES = torch.tensor([[0.0, 0.0], [0.3, 1.0], [0.04, 0.12], [5.0, 5.0]])


def distances(found):
    """Facts at the same distance may come in either order."""
    return [
        (r.nearest, r.threshold, sorted((hit.distance, hit.fact, hit.kind, hit.edit_id) for hit in r.hits))
        for r in found
    ]


def turn(memory, numbers, count):
    for number in (n for n in numbers if n < count):
        (memory.undo if f"e{number}" in memory.edits else memory.restore)(f"e{number}")


@given(edits, turns, turns, st.booleans(), st.booleans(), st.sampled_from([None, 1]), st.booleans())
def test_a_fork_goes_on_as_the_codebook_itself_would(written, before, after, merge, across, k_answers, hubness):
    *first, last = written
    memory = EditMemory(merge, across)
    config = RetrievalConfig(k=10, percentile=50, k_answers=k_answers, hubness=hubness, gate_per_fact=True)
    retriever = FactRetriever(memory, config)
    for number, rows in enumerate(first):
        memory.write(*made(number, rows))
    turn(memory, before, len(first))
    found, looked = distances(retriever.retrieve(QUERIES)), [f.text for facts in memory.entries for f in facts]
    fork = memory.fork()
    tried = retriever.fork(fork)
    turn(fork, after, len(first))
    fork.write(*made(len(first), last))
    expected = distances(tried.retrieve(QUERIES))
    # The codebook has noticed nothing, and becomes what the fork is by the same steps.
    assert distances(retriever.retrieve(QUERIES)) == found
    assert [f.text for facts in memory.entries for f in facts] == looked
    turn(memory, after, len(first))
    memory.write(*made(len(first), last))
    same(memory, fork)
    assert distances(retriever.retrieve(QUERIES)) == expected


@pytest.mark.parametrize("exact_up_to", [10, 10_000])
def test_a_fork_of_many_keys_finds_what_the_codebook_finds(monkeypatch, exact_up_to):
    monkeypatch.setattr(indexed, "EXACT_UP_TO", exact_up_to)
    rng = torch.Generator().manual_seed(0)
    memory = EditMemory(merge=False)
    retriever = FactRetriever(memory, RetrievalConfig(k=5, percentile=50))
    for number in range(40):
        memory.write(*made(number, [(*torch.randn(2, generator=rng).tolist(), 0.0, "image")] * 2))
    queries = torch.randn(20, 2, generator=rng)
    retriever.retrieve(queries)
    fork = memory.fork()
    tried = retriever.fork(fork)
    for one in (fork, memory):
        one.undo("e3")
        one.write(*made(99, [(0.1, 0.1, 0.0, "image"), (-1.0, 0.5, 0.0, "answer")]))
        found = distances((tried if one is fork else retriever).retrieve(queries))
        if one is fork:
            expected = found
    assert found == expected
    assert tried.memory.table._mapped[0].data_ptr() == memory.table[0:1].data_ptr()  # the keys are not copied


@given(edits, turns, st.integers(0, NAMES - 1))
def test_an_edit_in_the_place_of_another_is_as_if_that_had_been_undone_first(written, turned, old):
    *first, last = written
    one, other = EditMemory(), EditMemory()
    for memory in (one, other):
        for number, rows in enumerate(first):
            memory.write(*made(number, rows))
        turn(memory, turned, len(first))
    old = min(old, len(first) - 1)
    draft = Draft.of(*made(len(first), last))
    if f"e{old}" in one.undone:
        with pytest.raises(Exception, match="undone already"):
            one.replace(f"e{old}", draft)
        return
    stored = one.replace(f"e{old}", draft)
    other.undo(f"e{old}")
    assert stored == other.add([draft])[0]
    same(one, other)
    assert [(e.op, e.edit_id) for e in one.events[-2:]] == [("edit", stored.id), ("undo", f"e{old}")]


def test_both_halves_of_a_replacement_are_acknowledged_together(tmp_path, monkeypatch):
    memory = EditMemory()
    memory.copy_to(Store.create(tmp_path, {}, {}, {}))
    memory.write(*made(0, [(0.0, 0.0, 1.0, "answer")]))
    reader = EditMemory.open(Store.open(tmp_path))
    before = (tmp_path / "codebook.json").read_bytes()
    manifests = []
    commit = Store._commit
    monkeypatch.setattr(Store, "_commit", lambda store, manifest: (manifests.append(manifest), commit(store, manifest)))
    memory.replace("e0", Draft.of(*made(1, [(0.1, 0.0, 1.0, "answer")])))
    assert len(manifests) == 1
    assert manifests[0].journal.records == 4  # the codebook, two edits, and the undoing of one
    assert reader.refresh()
    assert (list(reader.edits), list(reader.undone), reader.edits["e1"].contradicts) == (["e1"], ["e0"], [])
    # Cut short before that one step it is as it was.
    (tmp_path / "codebook.json").write_bytes(before)
    memory = EditMemory.open(Store.open(tmp_path))
    assert (list(memory.edits), list(memory.undone)) == (["e0"], [])
