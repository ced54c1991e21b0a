"""Editors on a GPU, in full and in half precision: they edit, and leave the model as it was. Needs a GPU."""

import copy

import pytest
import torch
from helpers.editing import Letters, at_once, run
from helpers.tiny import picture
from helpers.toy import ToySource

from reasonedit import Query
from reasonedit.callbacks.baselines import RAG, SERAC, WISE, BalancEdit, FineTuning, LoRA
from reasonedit.callbacks.baselines.serac_training import train
from reasonedit.vlm import load_vlm

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.usefixtures("hash_encoder"),
]


def serac(vlm, folder):
    made = SERAC.with_new_network(vlm, "hash")
    losses = [step.loss for step in train(made, ToySource(6), steps=30) if step.part == "counterfactual"]
    assert sum(losses[-10:]) < sum(losses[:10])
    made.network.save(folder / "networks.safetensors", made.fingerprint())
    return SERAC(folder / "networks.safetensors", encoder="hash")


def wise(vlm, folder):
    unrelated = [Query(picture(200 + i), "Who?") for i in range(4)]
    return WISE(-2, steps=300, lr=3e-3, ratio=0.5, shard_edits=1, shards=9, unrelated=unrelated)


MADE = {
    "rag": lambda vlm, folder: RAG(),
    "serac": serac,
    "wise": wise,
    "lora": lambda vlm, folder: LoRA(steps=200, lr=1e-2),
    "ft": lambda vlm, folder: FineTuning(-2, steps=200, lr=1e-2),
    "balancedit": lambda vlm, folder: BalancEdit(-2, steps=200, lr=1e-2),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MADE)
def test_an_editor_edits_on_a_gpu(tiny_folder, tmp_path, monkeypatch, name, dtype):
    monkeypatch.setattr("reasonedit.callbacks.baselines.serac_training.CLASSIFIER_STEPS", 150)
    vlm = load_vlm(str(tiny_folder), dtype=dtype, place=True)
    editor = MADE[name](vlm, tmp_path)
    before = copy.deepcopy(vlm.model.state_dict())
    rows = run(vlm, editor, source=Letters, path=tmp_path / "a", accelerator="gpu")
    assert vlm.device.type == "cuda"
    assert all(torch.equal(before[k], v) for k, v in vlm.model.state_dict().items())
    assert not {"inputs", "text_inputs", "shares_prefix"} & vlm.__dict__.keys()
    assert editor.edits >= 2
    if name in ("rag", "serac"):
        assert all(r["edit"] in r["fact_edits"] for r in rows if r["phase"] == "probe" and r["group"] == "rel")
    else:
        assert at_once(rows) == 1
    again = run(vlm, editor, source=Letters, path=tmp_path / "b", accelerator="gpu")
    assert len(again) == len(rows)  # what was edited stays, and works in another run
    assert all(torch.equal(before[k], v) for k, v in vlm.model.state_dict().items())
