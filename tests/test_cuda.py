"""On a GPU every family gives what it gives on the CPU, and a codebook of one serves the other. Needs a GPU."""

from __future__ import annotations

import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import design, picture

from reasonedit import ReasonEditor
from reasonedit.embedding import DualEmbedder
from reasonedit.evidence import EvidenceConfig, EvidenceFinder
from reasonedit.types import Query
from reasonedit.vlm import load_vlm

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.usefixtures("hash_encoder"),
]
QUESTIONS = ["What is it?", "Which of the many objects in this picture is the largest one?", "Why is it?"]
TEXTS = [["a cat", "an elephant in the room"], ["no"], ["x", "yes", "perhaps it is"]]


@pytest.fixture(scope="module", params=FAMILIES)
def both(request, tmp_path_factory):
    """The same VLM on the CPU and on the GPU, in float32."""
    folder = str(FAMILIES[request.param](tmp_path_factory.mktemp(request.param)))
    on_gpu = load_vlm(folder, dtype="float32", place=True)
    assert on_gpu.device.type == "cuda"
    return load_vlm(folder, dtype="float32"), on_gpu


@pytest.fixture
def images():
    return [picture(0, 64), picture(1, 64).resize((96, 64), 0), picture(2, 64).resize((64, 96), 0)]


def close(on_cpu, on_gpu):
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=2e-4, rtol=2e-3)


def test_answers_and_scores_agree(both, images):
    cpu, gpu = both
    prompts = [cpu.prompt(q) for q in QUESTIONS]
    close(*(vlm.next_token_probabilities(vlm.see(images), prompts) for vlm in both))
    for found in zip(*(vlm.log_likelihood(vlm.see(images), prompts, TEXTS) for vlm in both), strict=True):
        close(*found)
    asked = [QUESTIONS, QUESTIONS[:1], QUESTIONS[1:]]
    for found in zip(*(vlm.p_yes(vlm.see(images), asked) for vlm in both), strict=True):
        close(*found)
    assert cpu.identity == gpu.identity
    said = [[r.text for r in vlm.reply(vlm.see(images), QUESTIONS)] for vlm in both]
    assert said[0] == said[1]
    choices = [["yes", "no"], None, ["red", "green", "blue"]]
    chosen = [[r.text for r in vlm.reply(vlm.see(images), QUESTIONS, choices)] for vlm in both]
    assert chosen[0] == chosen[1]


def test_keys_and_evidence_agree(both, images):
    embedders = [DualEmbedder(vlm, design().embedding) for vlm in both]
    close(*(e.embed(e.see(images), QUESTIONS) for e in embedders))
    assert embedders[0].fingerprint == embedders[1].fingerprint
    finders = [EvidenceFinder(vlm, EvidenceConfig(p_yes=0.0)) for vlm in both]
    found = [finder.find(images[1], ["It is round.", "It is in the sky."]) for finder in finders]
    for one, other in zip(*found, strict=True):
        on_cpu, on_gpu = ({w.box: w.p_yes for w in e.windows} for e in (one, other))
        assert on_cpu.keys() == on_gpu.keys()
        assert list(on_gpu.values()) == pytest.approx(list(on_cpu.values()), abs=2e-3)


def test_a_codebook_of_one_serves_the_other(both, images, tmp_path):
    for number, (writer, reader) in enumerate((both, both[::-1])):
        folder = tmp_path / str(number)
        editor = ReasonEditor(writer, design())
        for i, image in enumerate(images):
            editor.edit(image, QUESTIONS[i], answer="a cat", reasoning=[f"It has {i} legs.", "It is round."])
        editor.save(folder)
        queries = [Query(image, question) for image, question in zip(images, QUESTIONS, strict=True)]
        told = [ReasonEditor.load(folder, vlm).ask_batch(queries) for vlm in (writer, reader)]
        for one, other in zip(*told, strict=True):
            assert {hit.fact for hit in one.hits} == {hit.fact for hit in other.hits}
            assert one.nearest == pytest.approx(other.nearest, abs=2e-3)
