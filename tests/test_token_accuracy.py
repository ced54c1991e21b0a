"""The share of the right answer's tokens under teacher forcing: against full passes of the model, counted by hand."""

from __future__ import annotations

import math

import lightning as L
import pyarrow.parquet as pq
import pytest
import torch
from helpers import benchmarks
from helpers.families import FAMILIES
from helpers.tiny import design, picture
from helpers.toy import ToySource

from reasonedit import EditStream, ReasonEditError, VLMModule
from reasonedit.callbacks import Codebook, EditingMetrics, PredictionWriter, Retriever, TokenShares
from reasonedit.cli import main
from reasonedit.commands.results_table import collect_results
from reasonedit.errors import NotServedError
from reasonedit.metrics import TokenAccuracy, token_metrics
from reasonedit.vlm import load_vlm
from reasonedit.vlm.forced import check_forced, forced_share_of_text, forced_shares

pytestmark = pytest.mark.usefixtures("hash_encoder")
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


def test_shares_are_averaged_over_the_samples_of_a_group():
    metric = TokenAccuracy("port_2")
    metric.update([0.5, 0.25, 1.0], ["port_2", "port_2", "rel"])
    metric.update([0.0], ["port_2"])
    assert float(metric.compute()) == pytest.approx(0.25)
    assert math.isnan(TokenAccuracy("rel").compute())
    metrics = token_metrics()
    metrics.update([0.5], ["text_loc"])
    assert {g: float(v) for g, v in metrics.compute().items() if not math.isnan(v)} == {"text_loc": 0.5}
    with pytest.raises(ValueError, match="1 shares and 2 groups"):
        metric.update([0.5], ["rel", "rel"])


def counted(logits, length, ids):
    """How many of some tokens are the likeliest in their places, of a full pass over a prompt and them."""
    said = logits[length - 1 : length - 1 + len(ids)].argmax(-1).tolist()
    return sum(a == b for a, b in zip(said, ids, strict=True)) / len(ids)


def by_its_processor(vlm, image, prompt, target):
    """The share, by transformers alone: the tokens of the target are bytes, behind a space."""
    inputs = vlm.processor(images=[image], text=[prompt], return_tensors="pt")
    ids = vlm.tokenizer(f" {target}", add_special_tokens=False)["input_ids"]
    length = inputs["input_ids"].shape[1]
    for name, fill in (("input_ids", ids), ("attention_mask", [1] * len(ids))):
        inputs[name] = torch.cat([inputs[name], torch.tensor([fill])], dim=1)
    with torch.inference_mode():
        return counted(vlm.model(**inputs).logits[0], length, ids)


def test_a_share_is_that_of_a_full_pass(tiny_vlm):
    images, asked = [picture(i, 64) for i in range(3)], ["What is it?", "Who?", "Why is that so?"]
    prompts = [tiny_vlm.prompt(text) for text in asked]
    vision = tiny_vlm.see(images)
    # What it says by itself is right in every place; the other targets are right here and there.
    own = tiny_vlm.answer(vision, asked, max_new_tokens=3)
    targets = [own[0] or "x", "a thing of many parts", "eeeeeeee"]
    expected = [by_its_processor(tiny_vlm, *parts) for parts in zip(images, prompts, targets, strict=True)]
    assert forced_shares(tiny_vlm, vision, prompts, targets) == pytest.approx(expected)
    for prompt, target, share, i in zip(prompts, targets, expected, range(3), strict=True):
        assert forced_shares(tiny_vlm, vision.select([i]), [prompt], [target]) == pytest.approx([share])


@pytest.mark.parametrize("family", ["llava", "instructblip", "qwen3_vl", "blip2", "paligemma2", "gemma3"])
def test_a_share_without_a_picture_is_that_of_the_model_that_reads_texts(family, tmp_path):
    vlm = load_vlm(str(FAMILIES[family](tmp_path)), dtype="float32")
    model = vlm.model.language_model if "blip" in family else vlm.model
    for target in ("a thing", "eeee oooo"):
        prompt, bos = vlm.format_text("Who was it?"), vlm.tokenizer.bos_token
        before = vlm.tokenizer(prompt, add_special_tokens=not (bos and bos in prompt))["input_ids"]
        lead = "" if prompt[-1:].isspace() else " "
        ids = vlm.tokenizer(f"{lead}{target}", add_special_tokens=False)["input_ids"]
        both = torch.tensor([[*before, *ids]])
        with torch.inference_mode():
            logits = model(input_ids=both, attention_mask=torch.ones_like(both)).logits[0]
        assert forced_share_of_text(vlm, "Who was it?", target) == pytest.approx(counted(logits, len(before), ids))


def run(vlm, source, tmp_path, **callbacks):
    metrics, writer = EditingMetrics(), PredictionWriter(tmp_path / "predictions.parquet")
    listed = [*callbacks.get("editing", ()), *callbacks.get("shares", ()), metrics, writer]
    trainer = L.Trainer(accelerator="cpu", callbacks=listed, **QUIET)
    stream = EditStream(source, batch_size=3)
    trainer.predict(VLMModule(vlm, max_new_tokens=4), stream)
    named = collect_results(trainer, stream)["reasonedit"] if callbacks.get("editing") else {}  # metrics.json
    for group, share in metrics.token_accuracy.items():
        assert named[f"{group}_token_accuracy"] == pytest.approx(share, abs=1e-4)
    return metrics, pq.read_table(tmp_path / "predictions.parquet").to_pylist()


def test_a_run_counts_writes_and_logs_them_behind_the_facts(tiny_vlm, tmp_path):
    editing = [Codebook(design=design(percentile=100)), Retriever()]
    metrics, rows = run(tiny_vlm, ToySource(3), tmp_path, editing=editing, shares=[TokenShares()])
    probes = [row for row in rows if row["phase"] == "probe"]
    assert {row["group"] for row in probes} == {"rel", "t_gen"}
    assert all(row["token_accuracy"] is None for row in rows if row["phase"] == "edit")
    assert all(row["facts"] and row["facts"][0] in row["prompt"] for row in probes)
    for row in probes:  # the picture of an edit is that of its number
        image = picture(int(row["edit"].removeprefix("toy-")))
        expected = by_its_processor(tiny_vlm, image, tiny_vlm.prompt(row["prompt"]), row["target"])
        assert row["token_accuracy"] == pytest.approx(expected)
    for group in ("rel", "t_gen"):
        shares = [row["token_accuracy"] for row in probes if row["group"] == group]
        assert metrics.token_accuracy[group] == pytest.approx(sum(shares) / len(shares))


def test_who_does_not_ask_for_them_has_no_column(tiny_vlm, tmp_path):
    metrics, rows = run(tiny_vlm, ToySource(2), tmp_path)
    assert metrics.token_accuracy == {}
    assert "token_accuracy" not in rows[0]


def test_a_place_behind_what_reads_them_is_refused(tiny_vlm, tmp_path):
    trainer = L.Trainer(accelerator="cpu", callbacks=[EditingMetrics(), TokenShares()], **QUIET)
    with pytest.raises(ReasonEditError, match="TokenShares must stand before EditingMetrics"):
        trainer.predict(VLMModule(tiny_vlm), EditStream(ToySource(2)))


def test_a_vlm_behind_an_endpoint_is_refused():
    class Elsewhere:
        name = "openai:far"

    with pytest.raises(NotServedError, match="'openai:far' keeps that behind its endpoint, so leave"):
        check_forced(Elsewhere())


def test_an_experiment_has_both_columns(tmp_path, tiny_folder, capsys):
    folder = benchmarks.vlkeb(tmp_path / "vlkeb")
    model = ["--model.init_args.model", str(tiny_folder), "--model.init_args.dtype", "float32"]
    command = ["experiment", "main", "--source", f"vlkeb:{folder}", "--rows", "none", "ike", "--seeds", "0"]
    run_it = [*command, *model, "--edits", "3", "--out", str(tmp_path / "out")]
    assert main(run_it) == 0
    assert "Token accuracy" not in capsys.readouterr().out
    assert main([*run_it, "--token-accuracy"]) == 0  # cells without it are made anew
    assert "Token accuracy, teacher-forced" in capsys.readouterr().out
    summary = pq.read_table(tmp_path / "out" / "main" / "summary.parquet").to_pylist()
    cell = pq.read_table(tmp_path / "out" / "main" / "cells" / "ike-0.parquet").to_pylist()
    for line in summary:
        if line["row"] == "ike" and line["metric"] in ("rel", "port_1"):
            shares = [r["token_accuracy"] for r in cell if r["group"] == line["metric"] and r["edits"] == 3]
            assert line["token_accuracy"] == pytest.approx(sum(shares) / len(shares))
            assert line["mean"] == 0.0
