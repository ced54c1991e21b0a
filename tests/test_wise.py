"""WISE: edits in side memories, merged from shards, and routing by what a memory would change."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.editing import Letters, at_once, run
from helpers.tiny import picture

from reasonedit import Query, ReasonEditError
from reasonedit.callbacks.baselines import WISE
from reasonedit.callbacks.baselines.wise_memory import margin_loss, merge_by_ties, random_mask
from reasonedit.experiments import EXPERIMENTS, Lab, run_cell
from reasonedit.experiments.wise_unrelated import unrelated_queries
from reasonedit.groups import LOCALITIES
from reasonedit.vlm import load_vlm

pytestmark = pytest.mark.usefixtures("hash_encoder")
LAYER = "model.language_model.layers.0.mlp.down_proj"
OPTIONS = {"steps": 300, "lr": 3e-3, "ratio": 0.5}


class Strangers(Letters):
    """Toys whose unrelated questions are asked whatever the unedited model says to them."""

    def probes(self, edits, right=()):
        return [replace(p, group="coe_gen") if p.group == "loc" else p for p in super().probes(edits, right)]


@pytest.fixture
def vlm(tiny_folder):
    return load_vlm(str(tiny_folder), dtype="float32")


def unrelated(count=6):
    return [Query(picture(200 + i), "Who?") for i in range(count)]


def last_input(vlm, image, question):
    """What enters the layer at the last token of a question, by a hook of our own."""
    seen = []
    handle = vlm.model.get_submodule(LAYER).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    vlm.next_token_probabilities(vlm.see([image]), [vlm.prompt(question)])
    handle.remove()
    return seen[0][0, -1].double().numpy()


def difference_by_hand(activation, side, main):
    side, main = side.double().numpy(), main.double().numpy()
    return np.linalg.norm((side - main) @ activation) / np.linalg.norm(main @ activation)


@pytest.mark.parametrize("inference", [True, False], ids=["inference mode", "no_grad"])
def test_a_question_goes_to_the_memory_that_answers_most_strongly_to_it(vlm, tiny_folder, tmp_path, inference):
    before = copy.deepcopy(vlm.model.state_dict())
    editor = WISE(LAYER, shard_edits=1, shards=5, unrelated=unrelated(), **OPTIONS)
    rows = run(vlm, editor, edits=3, source=Strangers, path=tmp_path / "rows", inference_mode=inference)
    assert all(torch.equal(before[k], v) for k, v in vlm.model.state_dict().items())
    assert "shares_prefix" not in vlm.__dict__
    assert not any(m._forward_hooks for m in vlm.model.modules() if isinstance(m, torch.nn.Linear))
    assert at_once(rows) == 1
    assert editor.keys == 3
    main, sides = vlm.model.get_submodule(LAYER).weight, [memory.weight for memory in editor.memories]
    numbers = [int(r["prompt"].split()[-1].rstrip("?")) for r in rows if r["phase"] == "edit"]
    own = [last_input(vlm, picture(n), f"What is number {n}?") for n in numbers]
    thresholds = [0.88 * difference_by_hand(a, side, main) for a, side in zip(own, sides, strict=True)]
    routed = []
    for r in (r for r in rows if r["phase"] == "probe"):
        edit = [e["edit"] for e in rows if e["phase"] == "edit"].index(r["edit"])
        n = numbers[edit]
        image = picture(100 + edit) if r["group"] == "coe_gen" else picture(n)
        question = {"rel": f"What is number {n}?", "t_gen": f"Say: What is number {n}?", "coe_gen": "Who?"}[r["group"]]
        activation = last_input(vlm, image, question)
        values = [difference_by_hand(activation, side, main) for side in sides]
        best = int(np.argmax(values))
        other = load_vlm(str(tiny_folder), dtype="float32")
        if values[best] >= thresholds[best]:
            other.model.get_submodule(LAYER).weight.copy_(sides[best])
        routed.append(values[best] >= thresholds[best])
        expected = other.answer(other.see([image]), [question], max_new_tokens=2)[0]
        assert r["answer"] == expected
        if not routed[-1]:
            assert r["answer"] == r["before"]
        if r["group"] == "coe_gen":  # like the unrelated questions: left alone
            assert not routed[-1]
    assert any(routed)


def test_shards_have_parts_of_their_own_and_are_merged(vlm, tmp_path):
    main = vlm.model.get_submodule(LAYER).weight.clone()
    options = {"steps": 20, "lr": 1e-3, "ratio": 0.3, "unrelated": unrelated()}
    open_ones = WISE(LAYER, shard_edits=2, shards=3, **options)
    run(vlm, open_ones, edits=4, path=tmp_path / "a")
    assert [len(m.activations) for m in open_ones.memories] == [2, 2]
    first, second = (m.weight - main for m in open_ones.memories)
    masks = [random_mask(main, 0.3, seed).bool() for seed in (1, 2)]
    for change, mask in zip((first, second), masks, strict=True):
        assert bool(change[mask].any())
        assert not bool(change[~mask].any())
        assert float(mask.float().mean()) == pytest.approx(0.3, abs=0.03)
    assert not torch.equal(*masks)
    merged = WISE(LAYER, shard_edits=2, shards=2, **options)
    run(vlm, merged, edits=4, path=tmp_path / "b")
    (memory,) = merged.memories
    assert len(memory.activations) == 4
    assert torch.allclose(memory.weight, main + merge_by_ties([first, second]), atol=1e-7)
    more = WISE(LAYER, shard_edits=2, shards=2, **options)
    run(vlm, more, edits=5, path=tmp_path / "c")  # the fifth begins from what was merged
    assert [len(m.activations) for m in more.memories] == [4, 1]
    assert torch.allclose(more.memories[0].weight, memory.weight)
    change = more.memories[1].weight - memory.weight
    assert not bool(change[~random_mask(main, 0.3, 3).bool()].any())


def test_ties_trims_elects_and_takes_the_mean_of_those_that_agree():
    changes = [torch.tensor([4.0, -3.0, 0.1, 2.0]), torch.tensor([2.0, 5.0, 0.2, -2.5])]
    # Half of each is kept: 4, -3 and 5, -2.5 (2 and the small ones go).
    assert merge_by_ties(changes, 0.5).tolist() == [4.0, 5.0, 0.0, -2.5]
    assert merge_by_ties(changes, 1.0).tolist() == pytest.approx([3.0, 5.0, 0.15, -2.5])


def test_the_margin_loss_is_that_of_the_paper():
    def by_hand(edited, others, beta):
        alpha, gamma = beta / 4, beta / 2
        near = [max(0, x - alpha) + max(0, gamma - (edited - x)) for x in others]
        return max(0, beta - edited) + sum(near) / len(near)

    for edited, others in ((0.1, [0.0, 0.3]), (0.5, [0.0, 0.01]), (0.25, [0.2, 0.04])):
        loss = margin_loss(torch.tensor(edited), torch.tensor(others), 0.2)
        assert float(loss) == pytest.approx(by_hand(edited, others, 0.2), abs=1e-6)
    assert float(margin_loss(torch.tensor(0.5), torch.tensor([0.0]), 0.2)) == 0


def test_without_unrelated_questions_the_edits_own_is_asked_of_patterns(vlm, tmp_path):
    rows = run(vlm, WISE(LAYER, **OPTIONS), edits=2, path=tmp_path / "rows")
    assert at_once(rows) == 1


def test_the_same_edits_give_the_same_memories(vlm, tmp_path):
    weights = []
    for i in range(2):
        editor = WISE(LAYER, steps=5, unrelated=unrelated(2))
        run(vlm, editor, edits=2, path=tmp_path / f"{i}")
        weights.append(editor.memories[0].weight)
    assert torch.equal(*weights)


def test_it_learns_in_half_precision(tiny_folder, tmp_path):
    vlm = load_vlm(str(tiny_folder), dtype="bfloat16")
    before = copy.deepcopy(vlm.model.state_dict())
    rows = run(vlm, WISE(LAYER, unrelated=unrelated(), **OPTIONS), edits=1, source=Strangers, path=tmp_path / "rows")
    assert at_once(rows) == 1
    assert all(torch.equal(before[k], v) for k, v in vlm.model.state_dict().items())
    assert all(r["answer"] == r["before"] for r in rows if r["phase"] == "probe" and r["group"] == "coe_gen")


def test_it_refuses_what_cannot_be():
    for options, message in (
        ({"shards": 0}, "shard_edits and shards must be 1 or more"),
        ({"ratio": 0.0}, "ratio must be above 0"),
        ({"margin": -1.0}, "margin 0 or more"),
    ):
        with pytest.raises(ReasonEditError, match=message):
            WISE(**options)


def test_an_experiment_tells_it_of_another_split(tiny_folder, tmp_path, monkeypatch):
    model = {"model": str(tiny_folder), "dtype": "float32", "max_new_tokens": 3}
    data = {"source": {"class_path": "helpers.toy.SeededToys"}, "batch_size": 4}
    lab = Lab(
        {
            "model": {"class_path": "reasonedit.VLMModule", "init_args": model},
            "data": {"class_path": "reasonedit.EditStream", "init_args": data},
        },
        edits=2,
    )
    queries = unrelated_queries(lab)
    assert len(queries) == 10
    assert {q.question for q in queries} == {"Who?"}  # the toys' only locality
    assert "loc" in LOCALITIES
    main = EXPERIMENTS["main"]
    plan = replace(main, rows=tuple(replace(r, stream={}) for r in main.rows if r.name == "wise"))
    monkeypatch.setattr("reasonedit.experiments.wise_unrelated.InformedWISE.__init__", short)
    assert run_cell(lab, plan.cells((0,))[0], tmp_path / "main")


def short(self, lab):
    WISE.__init__(self, -1, steps=2)
    self._lab = lab
