"""How often the vision part runs: once for every picture that somebody reads, and never for another."""

from dataclasses import replace

import lightning as L
import pytest
from helpers.tiny import design, picture
from helpers.toy import ToySource

from reasonedit import Design, Edit, EditStream, Query, VLMModule
from reasonedit.callbacks import Codebook, Retriever
from reasonedit.embedding import EmbeddingConfig
from reasonedit.evidence import EvidenceConfig
from reasonedit.pipeline import EditingPipeline
from reasonedit.retrieval import RetrievalConfig
from reasonedit.vlm import VLM

pytestmark = pytest.mark.usefixtures("hash_encoder")

WINDOWS, OF_ALL_SIZES, REGIONS = 9, 29, 9
IMAGE = 1


@pytest.fixture
def passes(monkeypatch, tiny_vlm):
    """The pictures that passed the vision part, in order."""
    seen = []
    see = type(tiny_vlm).see

    def record(self, images, *args, **options):
        seen.extend((image.size, image.tobytes()) for image in images)
        return see(self, images, *args, **options)

    monkeypatch.setattr(type(tiny_vlm), "see", record)
    return seen


def edit(number: int = 0, **changes) -> Edit:
    values = {"question": f"What is {number}?", "answer": "a boat", "reasoning": ["It is red.", "It floats."]}
    return Edit(picture(number, 96), **{**values, "id": f"e{number}", **changes})


def crops(**writing) -> Design:
    """Keys of windows, queries by region, each region a crop; one window per sentence."""
    base = design(keys="grounded", merge=True, **writing)
    return replace(
        base,
        embedding=EmbeddingConfig(base.embedding.layer, 1.0, "hash", region_source="crops"),
        evidence=EvidenceConfig(p_yes=0.9999, single_window=0.0),  # the VLM affirms nothing
        retrieval=RetrievalConfig(k=3, k_counts="facts", query_regions=True, percentile=100, verify=0.0),
    )


def opened(vlm: VLM, made: Design, passes: list) -> EditingPipeline:
    pipeline = EditingPipeline(vlm, made)
    _ = pipeline.embedder.statistics  # those of unrelated pictures are taken once for all
    passes.clear()
    return pipeline


def once_each(passes: list) -> int:
    assert len(set(passes)) == len(passes)
    return len(passes)


def test_an_edit_sees_its_image_its_windows_and_their_copies_once(tiny_vlm, passes):
    pipeline = opened(tiny_vlm, crops(), passes)
    boxes = {box for evidence in pipeline.write(edit()).evidence for box in evidence.boxes}
    assert 1 <= len(boxes) <= 2
    copies = IMAGE + len(boxes)
    assert once_each(passes) == WINDOWS + IMAGE + copies


def test_what_no_key_is_made_of_is_not_seen(tiny_vlm, passes):
    pipeline = opened(tiny_vlm, crops(entries="reasoning"), passes)
    boxes = {box for evidence in pipeline.write(edit()).evidence for box in evidence.boxes}
    assert once_each(passes) == WINDOWS + len(boxes)  # the windows, and the copies of those that keys are made of

    nothing = replace(crops(entries="reasoning"), evidence=EvidenceConfig(p_yes=0.9999))
    pipeline = opened(tiny_vlm, nothing, passes)
    pipeline.write(edit())
    assert once_each(passes) == OF_ALL_SIZES  # no evidence: keys of text alone

    pipeline = opened(tiny_vlm, design(keys="image"), passes)
    pipeline.write(edit())
    assert once_each(passes) == IMAGE  # keys of the image alone, which do not merge: no windows and no copies

    shown = (0.0, 0.0, 0.5, 0.5)
    pipeline = opened(tiny_vlm, crops(entries="reasoning"), passes)
    pipeline.write(edit(evidence=[[shown], [shown, picture(7, 40)]]))
    assert once_each(passes) == 2 + 2  # what a person gave, and its copies


def test_a_query_sees_its_image_and_its_regions_once(tiny_vlm, passes):
    pipeline = opened(tiny_vlm, crops(), passes)
    pipeline.write(edit())
    passes.clear()
    answer = pipeline.answer([Query(picture(0, 96), "What is 0?")])[0]
    assert answer.hits
    assert once_each(passes) == IMAGE + REGIONS

    passes.clear()
    pipeline.use(replace(pipeline.design.retrieval, query_regions=False))
    pipeline.answer([Query(picture(0, 96), "What is 0?")])
    assert once_each(passes) == IMAGE  # regions that nobody reads are not seen


def test_an_edit_does_not_see_again_what_its_question_has_shown(tiny_vlm, passes):
    pipeline = opened(tiny_vlm, crops(), passes)
    made = edit()
    vision = pipeline.see([made.image])
    written = pipeline.write(made, vision)
    boxes = {box for evidence in written.evidence for box in evidence.boxes}
    # The regions of the question overlap, the windows do not: none is both.
    assert once_each(passes) == IMAGE + REGIONS + WINDOWS + (IMAGE + len(boxes))

    alone = opened(tiny_vlm, crops(), passes).write(made)
    for entry, other in zip(written.entries, alone.entries, strict=True):
        assert entry.fact == other.fact
        assert entry.key.tolist() == pytest.approx(other.key.tolist(), abs=1e-5)
        assert entry.radius == pytest.approx(other.radius, abs=1e-5)


class OnlyEdits(ToySource):
    """Edits of pictures that are large enough for windows, without probes."""

    def candidates(self):
        for number in range(2 * self.edits):
            yield edit(number)

    def probes(self, edits, right=()):
        return []


class FromHere(L.Callback):
    """Forgets what the base pass has seen."""

    def __init__(self, passes):
        self.passes = passes

    def on_predict_start(self, trainer, pl_module):
        self.passes.clear()


def test_a_stream_sees_every_picture_once(tiny_vlm, passes):
    opened(tiny_vlm, crops(), passes)
    codebook = Codebook(design=crops())
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        callbacks=[codebook, Retriever(), FromHere(passes)],
    )
    trainer.predict(VLMModule(tiny_vlm, max_new_tokens=2), datamodule=EditStream(OnlyEdits(3), batch_size=1))
    assert len(codebook.memory.edits) == 3
    boxes = sum(len({box for found in evidence for box in found.boxes}) for evidence in codebook.evidence.values())
    # Each edit: its image, its windows and the copies; before the second and third their regions are asked about.
    assert once_each(passes) == 3 * (IMAGE + WINDOWS + IMAGE) + 2 * REGIONS + boxes
