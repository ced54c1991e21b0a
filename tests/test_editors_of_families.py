"""Editors inside the model work in every family, and leave each as it was."""

import copy

import pytest
import torch
from helpers.editing import Letters, run
from helpers.families import FAMILIES
from helpers.tiny import picture
from helpers.toy import ToySource

from reasonedit import Query
from reasonedit.callbacks.baselines import GRACE, SERAC, WISE, LoRA
from reasonedit.callbacks.baselines.serac_training import train
from reasonedit.vlm import load_vlm

pytestmark = pytest.mark.usefixtures("hash_encoder")


QUICK = ("llava", "qwen3_vl", "instructblip_opt", "gemma3", "unknown")
"""A family of each kind of language model and of image tokens; the others are slow tests."""


@pytest.fixture(
    scope="module",
    params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES],
)
def vlm(request, tmp_path_factory):
    return load_vlm(str(FAMILIES[request.param](tmp_path_factory.mktemp(request.param))), dtype="float32")


class WithChoices(Letters):
    """Toys of which every other one is multiple choice."""

    def candidates(self):
        for i, edit in enumerate(super().candidates()):
            edit.choices = [edit.answer, "nothing", "a boat"] if i % 2 else None
            yield edit


def test_what_they_change_is_answered_otherwise_and_taken_back(vlm, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.callbacks.baselines.serac_training.CLASSIFIER_STEPS", 100)
    before = copy.deepcopy(vlm.model.state_dict())
    serac = SERAC.with_new_network(vlm, "hash")
    losses = [step.loss for step in train(serac, ToySource(3), steps=12) if step.part == "counterfactual"]
    assert losses[-1] != losses[0]
    serac.network.save(tmp_path / "networks.safetensors", serac.fingerprint())
    unrelated = [Query(picture(200 + i), "Who?") for i in range(2)]
    editors = (
        LoRA(steps=15, lr=3e-2),
        SERAC(tmp_path / "networks.safetensors", threshold=0.0, encoder="hash"),
        GRACE(-1, epsilon=1e9, steps=30),
        WISE(-1, steps=60, lr=1e-2, ratio=0.5, unrelated=unrelated),
    )
    for editor in editors:
        rows = run(vlm, editor, edits=2, source=WithChoices, path=tmp_path / editor.title)
        assert editor.edits >= 1
        probes = [r for r in rows if r["phase"] == "probe"]
        if not (
            vlm.model.config.model_type == "mllama" and editor.title in ("GRACE", "WISE")
        ):  # a gate shuts the layer
            assert any(r["answer"] != r["before"] for r in probes), editor.title
        assert all(torch.equal(before[k], v) for k, v in vlm.model.state_dict().items())
        assert not {"inputs", "text_inputs", "shares_prefix"} & vlm.__dict__.keys()
