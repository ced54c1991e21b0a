"""Nearest keys and the gate, against brute force."""

import math

import numpy as np
import pytest
import torch
from helpers.tiny import picture

from reasonedit import Edit, ReasonEditError
from reasonedit.codebook import EditMemory
from reasonedit.retrieval import ExactIndex, FactRetriever, PercentileGate, with_facts


def points(count: int, seed: int = 0, width: int = 12) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def memory_of(keys: torch.Tensor) -> EditMemory:
    """One edit of one sentence per two keys."""
    memory = EditMemory()
    for i, pair in enumerate(keys.split(2)):
        memory.write(Edit(picture(0), f"question {i}", f"answer {i}", [f"sentence {i}."], id=f"e{i}"), pair)
    return memory


@pytest.mark.parametrize("batch", [1, 3, 40])
def test_index_finds_what_a_loop_finds_while_it_grows(batch):
    index, keys, queries = ExactIndex(), points(200), points(batch, seed=1)
    for size in (2, 50, 51, 200):
        index.update(keys[:size])
        distances, rows = index.search(queries, 7)
        for q, near, found in zip(queries, distances, rows, strict=True):
            every = [float((q - k).norm()) for k in keys[:size]]
            best = sorted(range(size), key=every.__getitem__)[:7]
            assert found.tolist() == best
            assert near.tolist() == pytest.approx([every[i] for i in best], rel=1e-5)


def test_a_key_finds_itself_at_zero():
    index, keys = ExactIndex(), points(64) * 1000
    index.update(keys)
    distances, rows = index.search(keys, 1)
    assert torch.equal(rows[:, 0], torch.arange(64))
    assert torch.equal(distances, torch.zeros(64, 1))


@pytest.mark.parametrize("percentile", [1.0, 10.0, 50.0, 100.0])
def test_gate_is_the_percentile_of_all_pairs_while_keys_come_in(percentile):
    gate, keys = PercentileGate(percentile), points(60)
    for size in (2, 3, 10, 37, 60):
        gate.update(keys[:size])
        pairs = [float((keys[i] - keys[j]).norm()) for i in range(size) for j in range(i)]
        edits = max(2, size // 2)
        expected = np.percentile(pairs, max(percentile, 100 / edits))
        assert gate.threshold(edits) == pytest.approx(expected, rel=1e-5)


def test_gate_is_open_for_a_single_edit_and_closed_for_none():
    gate = PercentileGate(1)
    assert gate.threshold(0) == 0
    gate.update(points(3))
    assert gate.threshold(1) == math.inf


def test_facts_come_nearest_first_distinct_and_behind_the_gate():
    keys = points(8)
    keys[5] = keys[0] + 0.01  # the sentence of edit 2, beside the answer of edit 0
    retriever = FactRetriever(memory_of(keys), k=3, percentile=30)
    near, far = retriever.retrieve(torch.stack([keys[0] + 0.001, keys[0] + 100]))
    assert near.facts[:2] == ["The answer to 'question 0' is answer 0.", "sentence 2."]
    assert [h.edit_id for h in near.hits[:2]] == ["e0", "e2"]
    assert [h.entry for h in near.hits[:2]] == ["answer", "image"]
    assert [h.distance for h in near.hits] == sorted(h.distance for h in near.hits)
    assert len(near.hits) == 3
    assert far.hits == []
    assert far.nearest > far.threshold


def test_the_same_sentence_under_two_keys_comes_once():
    memory = EditMemory()
    keys = points(4)
    for i in range(2):
        memory.write(Edit(picture(0), f"question {i}", "x", ["The same."], id=f"e{i}"), keys[2 * i : 2 * i + 2])
    found = FactRetriever(memory, k=4, percentile=100).retrieve(keys[1:2])[0]
    assert found.facts.count("The same.") == 1
    assert len(found.facts) == 3


def test_an_empty_memory_gives_nothing():
    found = FactRetriever(EditMemory()).retrieve(points(2))
    assert [(r.facts, r.nearest) for r in found] == [([], math.inf)] * 2


def test_edits_after_the_first_query_are_found():
    memory = memory_of(points(4))
    retriever = FactRetriever(memory, k=1, percentile=50)
    retriever.retrieve(points(1))
    new = points(2, seed=5) * 50
    memory.write(Edit(picture(0), "new?", "yes", ["New."], id="new"), new)
    assert retriever.retrieve(new[1:])[0].facts == ["New."]


def test_facts_stand_before_the_question():
    assert with_facts([], "What?") == "What?"
    assert with_facts(["A.", "B."], "What?") == "A. B. What?"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PercentileGate(0), "percentile must be above 0"),
        (lambda: PercentileGate(101), "at most 100, not 101"),
        (lambda: FactRetriever(EditMemory(), k=0), "k must be 1 or more"),
    ],
)
def test_arguments_out_of_range_are_refused(make, said):
    with pytest.raises(ReasonEditError, match=said):
        make()
