"""SERAC: what is in the scope of an edit is answered by a counterfactual model, all else by the model as it is."""

import copy
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from helpers.editing import run
from helpers.tiny import HashEncoder, picture
from helpers.toy import ToySource

from reasonedit import ReasonEditError, VLMModule, cli
from reasonedit.callbacks.baselines import SERAC
from reasonedit.callbacks.baselines.serac_network import SeracNetwork
from reasonedit.callbacks.baselines.serac_training import Pairs, train
from reasonedit.data.source import Probe
from reasonedit.experiments import EXPERIMENTS, Lab, read_cell, run_cell
from reasonedit.experiments.serac_network import TrainedSERAC
from reasonedit.types import Query
from reasonedit.vlm import Generation, load_vlm

pytestmark = pytest.mark.usefixtures("hash_encoder")


class Toys(ToySource):
    """Toys whose unrelated questions are asked whatever the unedited model says to them, some without a picture."""

    def __init__(self, edits=4, text_only=False):
        super().__init__(edits)
        self.text_only = text_only

    def probes(self, edits, right=()):
        made = [replace(p, group="coe_gen") if p.group == "loc" else p for p in super().probes(edits, right)]
        if self.text_only:
            made += [
                Probe("r_gen", Query.without_picture(e.question, id=f"text-{e.id}"), e.answer, e.id) for e in edits
            ]
        return made


@pytest.fixture(scope="module")
def quick():
    patch = pytest.MonkeyPatch()
    patch.setattr("reasonedit.callbacks.baselines.serac_training.CLASSIFIER_STEPS", 150)
    yield
    patch.undo()


def trained(vlm, steps=60, seed=0):
    serac = SERAC.with_new_network(vlm, encoder="hash", seed=seed)
    return serac, list(train(serac, ToySource(6), steps=steps, seed=seed))


@pytest.fixture(scope="module")
def network(tiny_folder, tmp_path_factory, quick):
    from reasonedit.embedding import SentenceEncoder

    path = tmp_path_factory.mktemp("serac") / "networks.safetensors"
    patch = pytest.MonkeyPatch()
    patch.setattr(SentenceEncoder, "from_pretrained", classmethod(lambda cls, name="hash", device=None: HashEncoder()))
    vlm = load_vlm(str(tiny_folder), dtype="float32")
    before = copy.deepcopy(vlm.model.state_dict())
    serac, steps = trained(vlm)
    patch.undo()
    assert all(torch.equal(before[k], v) for k, v in vlm.model.state_dict().items())
    assert not {"inputs", "text_inputs", "shares_prefix"} & vlm.__dict__.keys()
    for part in ("scope", "counterfactual"):
        losses = [step.loss for step in steps if step.part == part]
        assert np.mean(losses[-20:]) < np.mean(losses[:20])
    serac.network.save(path, serac.fingerprint())
    return path


def unit(x):
    return x / np.linalg.norm(x)


def by_hand(vlm, image, question):
    """The embedding of a picture and a question, put together without the editor's code."""
    tokens = vlm.see([image], [vlm.projector]).layer(vlm.projector)[0].numpy().astype(np.float64)
    halves = [unit(tokens.reshape(-1, tokens.shape[-1]).mean(0)), HashEncoder().encode([question])[0].double().numpy()]
    return unit(np.concatenate(halves))


def chance_by_hand(state, query, edit):
    """The classifier's chance, from its weights."""
    a, b = query * len(query) ** 0.5, edit * len(edit) ** 0.5
    w1, b1, w2, b2 = (state[f"scope.{n}"].double().numpy() for n in ("0.weight", "0.bias", "2.weight", "2.bias"))
    logit = w2 @ np.maximum(w1 @ np.concatenate([np.abs(a - b), a * b]) + b1, 0) + b2
    return 1 / (1 + np.exp(-logit[0]))


def counterfactual_by_hand(folder, editor):
    """The VLM with the adapter in its weights."""
    vlm, state = load_vlm(str(folder), dtype="float32"), editor.network.state_dict()
    with torch.no_grad():
        for i, name in enumerate(editor.layers):
            up, down = state[f"counterfactual.up.{i}"], state[f"counterfactual.down.{i}"]
            vlm.model.get_submodule(name).weight += editor.network.counterfactual.scale * up @ down
    return vlm


@pytest.mark.parametrize("inference", [True, False], ids=["inference mode", "no_grad"])
def test_what_is_in_scope_is_told_the_edit_and_answered_by_the_counterfactual_model(
    tiny_folder, network, tmp_path, inference
):
    vlm = load_vlm(str(tiny_folder), dtype="float32")
    before = copy.deepcopy(vlm.model.state_dict())
    editor = SERAC(network, encoder="hash")
    rows = run(vlm, editor, edits=4, source=Toys, path=tmp_path / "rows", inference_mode=inference)
    assert all(torch.equal(before[k], v) for k, v in vlm.model.state_dict().items())
    assert not {"inputs", "text_inputs", "shares_prefix"} & vlm.__dict__.keys()
    assert not any(m._forward_hooks for m in vlm.model.modules() if isinstance(m, torch.nn.Linear))
    state = editor.network.state_dict()
    other = counterfactual_by_hand(tiny_folder, editor)
    keys = [by_hand(vlm, picture(i), f"What is number {i}?") for i in range(4)]
    told = 0
    for r in (r for r in rows if r["phase"] == "probe"):
        n = int(r["edit"].removeprefix("toy-"))
        image = picture(100 + n) if r["group"] == "coe_gen" else picture(n)
        question = {"rel": f"What is number {n}?", "t_gen": f"Say: What is number {n}?", "coe_gen": "Who?"}[r["group"]]
        chances = [chance_by_hand(state, by_hand(vlm, image, question), key) for key in keys]
        best = int(np.argmax(chances))
        assert r["nearest"] == pytest.approx(1 - chances[best], abs=1e-4)
        if chances[best] > 0.5:
            told += 1
            fact = f"New Fact: What is number {best}? thing {best}."
            assert (r["facts"], r["fact_edits"]) == ([fact], [f"toy-{best}"])
            assert r["answer"] == other.answer(other.see([image]), [f"{fact} {question}"], max_new_tokens=2)[0]
        else:
            assert r["facts"] == []
            assert r["answer"] == r["before"]
    assert 0 < told < 12  # both kinds were there
    assert all(r["fact_edits"] == [r["edit"]] for r in rows if r["phase"] == "probe" and r["group"] == "rel")


def test_a_question_without_a_picture_may_be_in_scope_too(tiny_folder, network, tmp_path):
    vlm = load_vlm(str(tiny_folder), dtype="float32")
    editor = SERAC(network, threshold=0.0, encoder="hash")  # everything is
    rows = run(vlm, editor, edits=2, source=lambda n: Toys(n, text_only=True), path=tmp_path / "rows")
    other = counterfactual_by_hand(tiny_folder, editor)
    texts = [r for r in rows if r["phase"] == "probe" and r["group"] == "r_gen"]
    assert len(texts) == 2
    for r in texts:
        (told,) = other.reply_to_texts([r["prompt"]], Generation(max_new_tokens=2))
        assert r["facts"]
        assert r["answer"] == told.text


def test_the_same_training_gives_the_same_networks(tiny_folder, quick):
    states = [
        trained(load_vlm(str(tiny_folder), dtype="float32"), steps=3, seed=seed)[0].network.state_dict()
        for seed in (0, 0, 1)
    ]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not all(torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_it_works_in_half_precision(tiny_folder, tmp_path, quick):
    vlm = load_vlm(str(tiny_folder), dtype="bfloat16")
    serac, _ = trained(vlm, steps=5)
    serac.network.save(tmp_path / "networks.safetensors", serac.fingerprint())
    editor = SERAC(tmp_path / "networks.safetensors", encoder="hash")
    rows = run(vlm, editor, edits=2, source=Toys, path=tmp_path / "rows")
    assert all(r["fact_edits"] == [r["edit"]] for r in rows if r["phase"] == "probe" and r["group"] == "rel")
    assert all(r["answer"] == r["before"] for r in rows if r["phase"] == "probe" and not r["facts"])


def test_it_says_what_it_needs(tiny_vlm, tiny_folder, network, tmp_path):
    with pytest.raises(ReasonEditError, match="train them with reasonedit train-serac"):
        run(tiny_vlm, SERAC(tmp_path / "none.safetensors"), path=tmp_path / "a")
    with pytest.raises(ReasonEditError, match="trained for another VLM, encoder or wording"):
        run(tiny_vlm, SERAC(network, wording="statement", encoder="hash"), path=tmp_path / "a")
    with pytest.raises(ReasonEditError, match="trained for another VLM"):
        SeracNetwork.load(network, {"weights": "others"})
    editor, other = SERAC(network, encoder="hash"), load_vlm(str(tiny_folder), dtype="float32")
    with torch.no_grad():
        other.model.lm_head.weight.add_(1)
    for vlm, said in ((tiny_vlm, ""), (other, "for another VLM"), (other, "for another VLM"), (tiny_vlm, "")):
        with pytest.raises(ReasonEditError, match=said) if said else nullcontext():
            editor.setup(L.Trainer(accelerator="cpu", logger=False), VLMModule(vlm), "predict")
    with pytest.raises(ReasonEditError, match="threshold must be at least 0"):
        SERAC(network, threshold=1.0)
    with pytest.raises(ReasonEditError, match="scope must be one of near, all"):
        Pairs(ToySource(), "far")
    with pytest.raises(ReasonEditError, match="take more edits"):
        Pairs(ToySource(1), "near")


def config(tiny_folder):
    model = {"model": str(tiny_folder), "dtype": "float32", "max_new_tokens": 3}
    data = {"source": {"class_path": "helpers.toy.SeededToys"}, "batch_size": 4}
    return {
        "model": {"class_path": "reasonedit.VLMModule", "init_args": model},
        "data": {"class_path": "reasonedit.EditStream", "init_args": data},
    }


def test_the_networks_are_trained_once(tiny_folder, tmp_path, monkeypatch, quick):
    monkeypatch.setattr("reasonedit.experiments.serac_network.TRAINING_EDITS", 3)
    monkeypatch.setattr("reasonedit.experiments.train_once.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr("reasonedit.callbacks.baselines.serac_training.CLASSIFIER_STEPS", 5)
    lab = Lab(config(tiny_folder), edits=3, mend_steps=2)
    main = EXPERIMENTS["main"]
    plan = replace(main, rows=tuple(replace(r, stream={}) for r in main.rows if r.name == "serac"))
    first, second = plan.cells((0, 1))
    assert run_cell(lab, first, tmp_path / "main")
    path = TrainedSERAC(lab)._path
    made = path.stat().st_mtime_ns
    assert run_cell(lab, second, tmp_path / "main")
    assert path.stat().st_mtime_ns == made
    record, _ = read_cell(tmp_path / "main" / "cells" / "serac-1.parquet")
    assert Path(record["editor"]["_path"]).name == path.name
    others = [Lab(config(tiny_folder), 3, mend_steps=3), lab]
    paths = {path, TrainedSERAC(others[0])._path, TrainedSERAC(others[1], "all")._path}
    assert len(paths) == 3


def test_the_command_trains_them(tiny_folder, tmp_path, monkeypatch, quick):
    monkeypatch.setattr("reasonedit.callbacks.baselines.serac_training.CLASSIFIER_STEPS", 5)
    content = config(tiny_folder)
    content["data"]["init_args"]["source"] = {"class_path": "helpers.toy.SeededToys", "init_args": {"edits": 3}}
    (tmp_path / "config.yaml").write_text(json.dumps(content))
    out = tmp_path / "networks.safetensors"
    assert cli.main(["train-serac", "--config", str(tmp_path / "config.yaml"), "--out", str(out), "--steps", "2"]) == 0
    vlm = load_vlm(str(tiny_folder), dtype="float32")
    rows = run(vlm, SERAC(out), edits=1, source=Toys, path=tmp_path / "rows")
    assert {r["phase"] for r in rows} == {"edit", "check", "probe"}
