"""The one default design, from end to end, on VLMs that nothing is known of."""

from dataclasses import asdict, replace

import lightning as L
import pytest
from helpers.families import FAMILIES, unknown
from helpers.tiny import HashEncoder, picture
from helpers.toy import ToySource
from PIL import Image

from reasonedit import Design, EditStream, ReasonEditor, VLMModule
from reasonedit.calibration import calibrate
from reasonedit.callbacks import Codebook, EditingMetrics, Retriever
from reasonedit.design import DEFAULT, PAPER
from reasonedit.embedding import DualEmbedder
from reasonedit.vlm import IMAGE_FEATURES, load_vlm

pytestmark = pytest.mark.usefixtures("hash_encoder")


def test_every_vlm_has_the_same_default_and_no_labels_are_in_it():
    assert all(Design.default(name) is DEFAULT for name in ("embedded", "some/model", "", "/a/folder"))
    assert Design() == PAPER
    assert DEFAULT.embedding.transform == "whitened"
    assert DEFAULT.embedding.reference == "own"
    assert Design.from_dict(asdict(DEFAULT)) == DEFAULT


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "unknown"])
def test_an_editor_begins_without_pictures_and_is_calibrated_later(family, tmp_path):
    save = unknown if family == "unknown" else FAMILIES[family]
    vlm = load_vlm(str(save(tmp_path)), dtype="float32")
    editor = ReasonEditor(vlm)
    served = IMAGE_FEATURES in vlm.vision_layers
    assert served == (family != "unknown")
    assert editor.pipeline.embedder.layer == (IMAGE_FEATURES if served else vlm.projector)
    assert editor.pipeline.statistics.awaits_pictures
    box = (0.0, 0.0, 0.5, 0.5)
    told = ["It is red.", "Red things stop."]
    editor.edit(picture(0), "What is it?", answer="a stop", reasoning=told, evidence=[[box], [box]])
    answer = editor.ask(picture(0), "What is it?")
    assert answer.in_range is None  # nobody knows yet
    made = editor.calibrate([picture(i) for i in range(16)])
    assert made.record.layer == editor.pipeline.embedder.layer
    assert not editor.pipeline.statistics.awaits_pictures
    assert editor.ask(picture(0), "What is it?").in_range is True
    # What is unlike them all fetches nothing by its looks.
    strange = editor.ask(Image.new("RGB", (32, 32), "white"), "What is it?")
    assert strange.in_range is not None
    assert strange.in_range or not any(hit.kind.picture for hit in strange.hits)
    begun = ReasonEditor(vlm, calibration=made)
    assert begun.pipeline.embedder.fingerprint == editor.pipeline.embedder.fingerprint


def test_the_default_reads_the_layer_of_its_calibration_and_a_design_its_own(tiny_vlm):
    layer = tiny_vlm.vision_layers[1]
    other = DualEmbedder(tiny_vlm, replace(DEFAULT.embedding, layer=layer), HashEncoder())
    made = calibrate(other, [picture(i) for i in range(16)])
    assert ReasonEditor(tiny_vlm, calibration=made).pipeline.embedder.layer == layer
    with pytest.raises(Exception, match=f"layer: '{layer}' there, 'image_features' here"):
        ReasonEditor(tiny_vlm, DEFAULT, calibration=made)


def test_a_stream_calibrates_itself_by_its_pool(tiny_vlm):
    book, metrics = Codebook(), EditingMetrics()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(callbacks=[book, Retriever(), metrics], enable_checkpointing=False, accelerator="cpu", **quiet)
    stream = EditStream(ToySource(20), batch_size=3)
    trainer.predict(VLMModule(tiny_vlm, max_new_tokens=3), datamodule=stream, return_predictions=False)
    statistics = book.pipeline.statistics
    assert book.pipeline.design == DEFAULT
    assert statistics.record.source == "the pool of the stream"
    assert statistics.record.pictures >= 20
    assert not statistics.awaits_pictures
    assert metrics.out_of_range is not None
