"""The examples of extending.md do what they say."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import lightning as L
import pytest
import torch
from helpers import datasets
from helpers.families import FAMILIES
from helpers.tiny import picture
from helpers.toy import ToySource

import reasonedit
from reasonedit import Edit, EditStream, ReasonEditError, VLMModule
from reasonedit.callbacks import EditingMetrics, PredictionWriter
from reasonedit.data.built_probes import probe_file, read_probe_lines
from reasonedit.data.probes import Budget, build, builders
from reasonedit.groups import GENERALITIES
from reasonedit.vlm import Generation, load_vlm

TEXT = (Path(reasonedit.__file__).parent / "docs" / "guides" / "extending.md").read_text()
FAMILY, DATA, METRIC, EDITOR = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def run(block, name):
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(block, f"extending.md ({name})", "exec"), module.__dict__)
    return module


def test_the_family_serves_its_models_as_a_full_forward_pass_does(tmp_path):
    folder = str(FAMILIES["unknown"](tmp_path))
    plain = load_vlm(folder, dtype="float32")
    family = run(FAMILY, "example_family").VipLlavaVLM
    try:
        vlm = load_vlm(folder, dtype="float32")
        assert type(vlm) is family
        assert vlm.can_share_prefix
        images, questions = [picture(i) for i in range(3)], ["What is it?", "Is it a boat that sails?", "Why?"]
        ours, theirs = vlm.see(images, vlm.vision_layers), plain.see(images)
        assert ours.layer("image_features")[0].shape == (4, 4, 48)
        torch.testing.assert_close(
            torch.stack(vlm.p_yes(ours, [questions] * 3)),
            torch.stack(plain.p_yes(theirs, [questions] * 3)),
            atol=1e-5,
            rtol=1e-4,
        )
        assert vlm.answer(ours, questions, max_new_tokens=5) == plain.answer(theirs, questions, max_new_tokens=5)
    finally:
        family.model_types = ()  # the class stays a subclass as long as the process runs


@pytest.mark.usefixtures("hash_encoder")
def test_the_data_set_is_read_and_its_bad_rows_are_named(tiny_vlm, tmp_path):
    source = run(DATA, "example_data").CSVFile
    datasets.pictures(tmp_path, ["0.png", "1.png"])
    path = tmp_path / "corrections.csv"
    path.write_text(
        "picture,question,answer,why\n0.png,What is it?,a boat,It swims.\n1.png,Who?,me,It is me. He says so.\n"
    )
    base = EditStream(source(str(path))).base_pass(tiny_vlm, Generation(3))
    assert {e.answer: e.reasoning for e in base.edits} == {"a boat": ["It swims."], "me": ["It is me.", "He says so."]}
    path.write_text("picture,question,answer,why\n0.png,What is it?,a boat,It swims.\n2.png,Who?,me,It is I.\n")
    with pytest.raises(ReasonEditError, match=r"Row 3 of .*corrections.csv' cannot be used: There is no image file"):
        EditStream(source(str(path)))


def test_the_builder_of_a_new_metric_is_found_and_builds(tmp_path, monkeypatch):
    kind = run(METRIC, "example_metric").NegationProbes
    monkeypatch.setattr("reasonedit.data.probes.builder.GENERALITIES", (*GENERALITIES, "negation"))
    assert builders()["negation"] is kind
    edit = Edit.of(picture(0), "Is it round?", "yes", ["It is round."])
    writer = types.SimpleNamespace(name="scripted", write=lambda *_: "Is it not round?")
    report = build(kind(None, writer, None, Budget()), [edit], tmp_path, 0)
    assert (report.built, report.given_up) == (1, 0)
    (line,) = read_probe_lines(probe_file(tmp_path, "negation", 0))
    assert (line.probe["question"], line.probe["answer"]) == ("Is it not round?", "not yes")


def test_the_editor_edits(tiny_vlm, tmp_path):
    editor = run(EDITOR, "example_editor").LikeQuestion()
    writer, metrics = PredictionWriter(tmp_path / "rows.parquet"), EditingMetrics()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(accelerator="cpu", logger=False, callbacks=[editor, metrics, writer], **quiet)
    stream = EditStream(ToySource(3))
    trainer.predict(VLMModule(tiny_vlm, max_new_tokens=2), datamodule=stream, return_predictions=False)
    assert editor.edits == editor.keys == 3
    told = {
        r["group"]: r["prompt"] for r in writer.rows if r["edit"] == stream.base.edits[1].id and r["phase"] == "probe"
    }
    assert told["rel"] == "Number 1 is round. It is thing 1. What is number 1?"
    assert len(EDITOR.splitlines()) <= 40
