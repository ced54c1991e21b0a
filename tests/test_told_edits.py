"""Editors that tell of the edits that are nearest by image and question: RAG."""

import json
from dataclasses import replace

import lightning as L
import numpy as np
import pytest
import torch
from helpers.editing import run
from helpers.tiny import HashEncoder, picture
from helpers.toy import ToySource
from torch.utils.data import DataLoader

from reasonedit import Edit, ReasonEditError, VLMModule
from reasonedit.callbacks import RunLog, TokenShares
from reasonedit.callbacks.baselines import IKE, RAG
from reasonedit.callbacks.baselines.joint_embedding import JointEmbedder

pytestmark = pytest.mark.usefixtures("hash_encoder")


class Strangers(ToySource):
    """Toys whose unrelated questions are asked whatever the unedited model says to them."""

    def probes(self, edits, right=()):
        return [replace(p, group="i_gen") if p.group == "loc" else p for p in super().probes(edits, right)]


def unit(x):
    return x / np.linalg.norm(x)


def pair_by_hand(vlm, number, question, weight=1.0):
    """The embedding of a toy picture and a question, put together without the editor's code."""
    tokens = vlm.see([picture(number)], [vlm.projector]).layer(vlm.projector)[0].numpy().astype(np.float64)
    image = unit(tokens.reshape(-1, tokens.shape[-1]).mean(0))
    return unit(np.concatenate([weight * image, unit(HashEncoder().encode([question])[0].double().numpy())]))


def number_of(row):
    """The number of a toy probe's picture, and its question."""
    number = int(row["edit"].removeprefix("toy-"))
    asked = {"rel": f"What is number {number}?", "t_gen": f"Say: What is number {number}?", "i_gen": "Who?"}
    return (100 if row["group"] == "i_gen" else 0) + number, asked[row["group"]]


@pytest.mark.parametrize("kind", [IKE, RAG])
def test_a_run_that_goes_on_tells_no_edit_twice(tiny_vlm, tmp_path, kind):
    class Stop(L.Callback):
        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            if batch_idx == 5:  # the edits are told and asked again, and two probes
                raise RuntimeError("cut short")

    def rows(folder, *more, resume=False):
        (tmp_path / folder).mkdir(exist_ok=True)
        log = RunLog(tmp_path / folder / "log", resume)
        return run(tiny_vlm, log, kind(), TokenShares(), *more, edits=2, path=tmp_path / folder / "rows")

    with pytest.raises(RuntimeError, match="cut short"):
        rows("cut", Stop())
    assert rows("cut", resume=True) == rows("whole")


@pytest.mark.parametrize("kind", [IKE, RAG])
def test_a_column_vision_of_somebodys_own_does_no_harm(tiny_vlm, kind):
    edit = Edit(picture(0), "What?", "a boat", ["It is round."])
    batches = [{"images": [picture(0)] * 2, "prompts": ["What?"] * 2, "vision": torch.zeros(2, 3)} for _ in range(2)]
    batches[0]["edits"] = [edit, None]
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[kind()])
    trainer.predict(VLMModule(tiny_vlm, max_new_tokens=2), DataLoader(batches, batch_size=None, collate_fn=dict))
    assert trainer.callbacks[0].edits == 1


@pytest.mark.parametrize("weight", [1.0, 0.0, 5.0])
def test_rag_puts_the_nearest_edits_before_every_question(tiny_vlm, tmp_path, weight):
    rows = run(tiny_vlm, RAG(k=2, image_weight=weight), edits=4, source=Strangers, path=tmp_path / "a")
    keys = np.stack([pair_by_hand(tiny_vlm, i, f"What is number {i}?", weight) for i in range(4)])
    probes = [r for r in rows if r["phase"] == "probe"]
    assert {r["group"] for r in probes} == {"rel", "t_gen", "i_gen"}
    for r in probes:
        number, question = number_of(r)
        cosines = keys @ pair_by_hand(tiny_vlm, number, question, weight)
        best = sorted(range(4), key=lambda i: -cosines[i])[:2]
        assert r["distances"] == pytest.approx([1 - cosines[i] for i in best], abs=1e-5)
        if abs(cosines[best[0]] - cosines[best[1]]) > 1e-5:  # else either may come first
            assert r["fact_edits"][0] == f"toy-{best[0]}"
        told = [f"New Fact: What is number {n}? thing {n}." for n in (e.removeprefix("toy-") for e in r["fact_edits"])]
        assert r["facts"] == told
        assert r["prompt"] == " ".join([*told, question])
    assert all(r["fact_edits"][0] == r["edit"] for r in probes if r["group"] == "rel")


def test_rag_cot_tells_the_reasoning_too(tiny_vlm, tmp_path):
    editor = RAG(k=1, reasoning=True, wording="statement")
    rows = run(tiny_vlm, editor, source=ToySource, path=tmp_path / "a")
    rel = next(r for r in rows if r["phase"] == "probe" and r["group"] == "rel")
    n = rel["edit"].removeprefix("toy-")
    assert rel["facts"] == [f"The answer to 'What is number {n}?' is thing {n}. Number {n} is round. It is thing {n}."]
    assert (editor.title, editor.keys) == ("RAG-CoT", 3)


def test_rag_takes_the_images_of_a_clip_model(tiny_vlm, tmp_path):
    import open_clip

    size = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8, "head_width": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    (tmp_path / "tiny-rag.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": size, "text_cfg": text}))
    open_clip.add_model_config(tmp_path / "tiny-rag.json")
    model, _, transform = open_clip.create_model_and_transforms("tiny-rag")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    embedder = JointEmbedder(tiny_vlm, "hash", f"tiny-rag:{tmp_path / 'weights.pt'}", image_weight=2.0)
    with torch.no_grad():
        image = unit(model.eval().encode_image(transform(picture(3))[None])[0].double().numpy())
    text_half = HashEncoder().encode(["Who?"])[0].double().numpy()
    (made,) = embedder.embed(embedder.see([picture(3)]), [picture(3)], ["Who?"]).numpy()
    assert made == pytest.approx(unit(np.concatenate([2 * image, text_half])), abs=1e-5)
    editor = RAG(clip=f"tiny-rag:{tmp_path / 'weights.pt'}")
    rows = run(tiny_vlm, editor, source=ToySource, path=tmp_path / "a")
    assert all(r["fact_edits"][0] == r["edit"] for r in rows if r["phase"] == "probe" and r["group"] == "rel")


def test_rag_refuses_what_cannot_be(tiny_vlm, tmp_path, tiny_folder):
    from reasonedit.vlm import load_vlm

    for options, message in (
        ({"k": 0}, "k must be 1 or more"),
        ({"wording": "odd"}, "wording must be one of new fact"),
        ({"image_weight": -1.0}, "image_weight must be 0 or more"),
    ):
        with pytest.raises(ReasonEditError, match=message):
            RAG(**options)
    editor = RAG()
    run(tiny_vlm, editor, source=ToySource, path=tmp_path / "a")
    with pytest.raises(ReasonEditError, match="holds edits of another VLM"):
        run(load_vlm(str(tiny_folder), dtype="bfloat16"), editor, source=ToySource, path=tmp_path / "b")


def test_rag_edits_a_vlm_in_half_precision(tiny_folder, tmp_path):
    from reasonedit.vlm import load_vlm

    rows = run(load_vlm(str(tiny_folder), dtype="bfloat16"), RAG(k=1), source=ToySource, path=tmp_path / "a")
    assert all(r["fact_edits"] == [r["edit"]] for r in rows if r["phase"] == "probe" and r["group"] == "rel")
