"""Memory: what is held at once, and what happens when it runs out."""

import gc
import weakref

import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import HashEncoder, picture

from reasonedit import ReasonEditError
from reasonedit.embedding import DualEmbedder, EmbeddingConfig
from reasonedit.embedding.statistics import ReferenceTokens
from reasonedit.evidence import EvidenceConfig, EvidenceFinder
from reasonedit.vlm import devices, load_vlm
from reasonedit.vlm.devices import run_in_parts
from reasonedit.vlm.prefix import ImagePrefix

SENTENCES = ["The thing is red.", "It flies.", "It is old.", "It swims."]


def test_an_allocation_that_fails_is_known_as_such():
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**50)
    assert devices.is_out_of_memory(failed.value)
    assert devices.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not devices.is_out_of_memory(RuntimeError("shapes do not match"))


def test_where_memory_runs_out_parts_are_halved():
    done, tried = [], []

    def run(part):
        tried.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        done.extend(part)

    run_in_parts(range(10), 10, run)
    assert done == list(range(10))
    assert tried == [10, 5, 2, 2, 2, 2, 2]


def test_a_single_row_that_is_too_much_and_other_errors_are_raised():
    def full(part):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(ReasonEditError, match="Memory ran out for a single image"):
        run_in_parts(range(4), 2, full)

    def broken(part):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run_in_parts(range(4), 2, broken)


def test_evidence_goes_on_when_memory_runs_out(tiny_vlm, monkeypatch):
    config, image = EvidenceConfig(p_yes=0.3), picture(2, 48)
    right = EvidenceFinder(tiny_vlm, config).find(image, SENTENCES)
    inputs, sizes = ImagePrefix._image_inputs, []

    def small(self, images):
        sizes.append(len(images))
        if len(images) > 8:
            torch.empty(2**50)  # the error that torch itself raises
        return inputs(self, images)

    monkeypatch.setattr(ImagePrefix, "_image_inputs", small)
    found = EvidenceFinder(tiny_vlm, config).find(image, SENTENCES)
    assert [e.boxes for e in found] == [e.boxes for e in right]
    assert sizes[:4] == [1, 28, 14, 7]
    assert sum(s for s in sizes if s <= 8) == 29


def fail_once(monkeypatch, owner, name, call):
    """Have memory run out at one call of a method."""
    method, calls = getattr(owner, name), []

    def failing(*args):
        calls.append(1)
        if len(calls) == call:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return method(*args)

    monkeypatch.setattr(owner, name, failing)


def test_what_a_part_gave_before_memory_ran_out_is_not_there_twice(tmp_path, monkeypatch):
    vlm = load_vlm(str(FAMILIES["paligemma"](tmp_path)), dtype="float32")
    vision, texts = vlm.see([picture(0), picture(1)]), [["a cat", "no"], ["a dog"]]
    prompts = [vlm.prompt("What is it?")] * 2
    right = torch.cat(vlm.log_likelihood(vision, prompts, texts))
    with monkeypatch.context() as patch:
        fail_once(patch, torch.Tensor, "clone", 2)
        torch.testing.assert_close(torch.cat(vlm.log_likelihood(vision, prompts, texts)), right)
    for source in ("pooled", "crops"):
        config = EmbeddingConfig(transform="whitened", region_source=source)
        images = [picture(i) for i in range(4)]
        added = []
        for call in (0, 3):
            embedder, reference = DualEmbedder(vlm, config, HashEncoder()), ReferenceTokens()
            with monkeypatch.context() as patch:
                fail_once(patch, DualEmbedder, "_pool_whole", call)
                run_in_parts(range(4), 4, lambda part: embedder.read([images[i] for i in part], reference))  # noqa: B023
            added.append(reference.tensors())
        for name, tensor in added[0].items():
            torch.testing.assert_close(added[1][name], tensor)


def test_one_batch_of_image_prefixes_is_held_at_a_time(tiny_vlm, monkeypatch):
    """29 windows x 4 sentences in batches of 5: no more than 5 images' keys and values are ever there."""
    alive, most = weakref.WeakSet(), []
    run = ImagePrefix._run
    gc.collect()
    gc.freeze()  # what other tests left need not be gone through each time

    def running(self, *texts, **how):
        alive.add(self)
        states = run(self, *texts, **how)
        gc.collect()
        most.append(sum(p._cache.layers[0].keys.shape[0] for p in alive if p._cache is not None))
        return states

    monkeypatch.setattr(ImagePrefix, "_run", running)
    monkeypatch.setattr(type(tiny_vlm), "images_at_once", lambda self, *sizes: 5)
    try:
        EvidenceFinder(tiny_vlm, EvidenceConfig(p_yes=0.3)).find(picture(2, 48), SENTENCES)
    finally:
        gc.unfreeze()
    assert len(most) >= 2 * 6
    assert max(most) == 5


def test_batches_follow_the_memory_that_is_free_and_what_images_take(tiny_vlm, monkeypatch):
    module = "reasonedit.vlm.frozen.free_bytes"
    monkeypatch.setattr(module, lambda device: 2**40)
    assert tiny_vlm.images_at_once(1000, 3000, 100) == 64
    monkeypatch.setattr(module, lambda device: 0)
    assert tiny_vlm.images_at_once(1000, 3000, 100) == 1
    monkeypatch.setattr(module, lambda device: 2**28)
    few = tiny_vlm.images_at_once(1000, 3000, 100)
    monkeypatch.setattr(module, lambda device: 2**29)
    more = tiny_vlm.images_at_once(1000, 3000, 100)
    assert 1 < few < more <= 2 * few + 1
    for takes in ((10000, 3000, 100), (1000, 3000000, 100), (1000, 3000, 10000)):
        assert tiny_vlm.images_at_once(*takes) < more


def test_windows_are_sized_by_what_a_window_took(tiny_vlm, monkeypatch):
    sized = []
    monkeypatch.setattr(type(tiny_vlm), "images_at_once", lambda self, *sizes: sized.append(sizes) or 8)
    finder = EvidenceFinder(tiny_vlm)
    for _ in range(2):
        finder.find(picture(1, 48), ["It is red."])
    assert [s[:2] for s in sized] == [(16, 3 * 32 * 32)] * 2


def test_texts_that_run_apart_are_halved_too(tmp_path, monkeypatch):
    from helpers.families import FAMILIES

    from reasonedit.vlm import load_vlm

    vlm = load_vlm(str(FAMILIES["paligemma"](tmp_path)), dtype="float32")
    questions = [f"Is it number {i}?" for i in range(12)]
    right = vlm.p_yes(vlm.see([picture(0, 32)]), [questions])[0]
    states, rows = vlm.states, []

    def small(**inputs):
        rows.append(len(inputs["input_ids"]))
        if rows[-1] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return states(**inputs)

    monkeypatch.setattr(vlm, "states", small)
    torch.testing.assert_close(vlm.p_yes(vlm.see([picture(0, 32)]), [questions])[0], right)
    assert rows == [12, 6, 3, 3, 3, 3]
