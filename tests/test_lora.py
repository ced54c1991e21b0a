"""LoRA: an adapter beside the model's layers, trained on the edits one after the other, and gone after the run."""

import copy

import pytest
import torch
from helpers.editing import Letters, at_once, run
from helpers.tiny import picture

from reasonedit import ReasonEditError
from reasonedit.callbacks.baselines import LoRA
from reasonedit.callbacks.baselines.lora import Adapter, layers_called
from reasonedit.vlm import load_vlm

pytestmark = pytest.mark.usefixtures("hash_encoder")


def chances(vlm):
    """Chances of the next token of two questions: float32 (2, vocabulary)."""
    prompts = [vlm.prompt("What is number 0?"), vlm.prompt("Who?")]
    return vlm.next_token_probabilities(vlm.see([picture(0), picture(7)]), prompts)


@pytest.fixture
def vlm(tiny_folder):
    return load_vlm(str(tiny_folder), dtype="float32")


def test_the_adapter_is_what_merged_weights_would_be(vlm, tmp_path):
    before = chances(vlm)
    editor = LoRA(rank=3, alpha=6.0, steps=200, lr=1e-2)
    rows = run(vlm, editor, edits=2, path=tmp_path / "rows")
    assert torch.equal(chances(vlm), before)  # the run is over
    assert at_once(rows) == 1
    adapter = editor._adapter
    assert {"q_proj", "v_proj"} == {name.rpartition(".")[2] for name in editor.layers}
    assert len(editor.layers) == 2 * len(vlm.language_layers)
    editor.install()
    hooked = chances(vlm)
    editor.remove()
    with torch.no_grad():
        for i, name in enumerate(editor.layers):
            vlm.model.get_submodule(name).weight += 6.0 / 3 * adapter.up[i] @ adapter.down[i]
    assert not torch.allclose(hooked, before, atol=1e-3)
    assert torch.allclose(hooked, chances(vlm), atol=1e-5)


def test_an_adapter_that_learnt_nothing_changes_nothing(vlm):
    editor = LoRA()
    editor.vlm, editor.layers = vlm, layers_called(vlm, ("q_proj", "v_proj"))
    before = chances(vlm)
    editor._adapter = editor._new_adapter()
    editor.install()
    assert torch.equal(chances(vlm), before)  # B is zero
    editor._adapter.up[0].data += 0.1
    assert not torch.equal(chances(vlm), before)
    editor.forget()
    assert torch.equal(chances(vlm), before)
    editor.remove()


def test_the_same_edits_give_the_same_adapter(vlm, tmp_path):
    states = []
    for i in range(2):
        editor = LoRA(steps=20, lr=1e-2)
        run(vlm, editor, edits=2, path=tmp_path / f"{i}")
        states.append(copy.deepcopy(editor._adapter.state_dict()))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    first, other = (Adapter({"a": (4, 2)}, 2, 1.0, seed).down[0] for seed in (0, 1))
    assert not torch.equal(first, other)


def test_it_learns_in_half_precision(tiny_folder, tmp_path):
    vlm = load_vlm(str(tiny_folder), dtype="bfloat16")
    before = chances(vlm)
    rows = run(vlm, LoRA(steps=200, lr=1e-2), edits=1, source=Letters, path=tmp_path / "rows")
    assert at_once(rows) == 1
    assert torch.equal(chances(vlm), before)


def test_what_is_not_there_is_named(vlm, tmp_path):
    with pytest.raises(ReasonEditError, match="has a linear layer called nothing: name others"):
        run(vlm, LoRA(modules=("nothing",)), path=tmp_path / "a")
    with pytest.raises(ReasonEditError, match="rank must be 1 or more"):
        LoRA(rank=0)
