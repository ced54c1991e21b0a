"""The dual embedding, half by half."""

import pytest
import torch
from helpers.tiny import HashEncoder, picture

from reasonedit import EmbeddingConfig, ReasonEditError
from reasonedit.embedding import DualEmbedder, SentenceEncoder
from reasonedit.embedding.dual import reference_images


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_an_embedding_is_the_scaled_layer_and_the_weighted_sentence(tiny_vlm, weight):
    layer = tiny_vlm.vision_layers[1]
    embedder = DualEmbedder(tiny_vlm, EmbeddingConfig(layer, weight, "hash"), HashEncoder())
    images, texts = [picture(1), picture(2)], ["a cat sleeps", "two dogs"]
    found = embedder.embed(embedder.see(images), texts)
    pooled = tiny_vlm.see(images, [layer]).layers[layer].mean(1)
    torch.testing.assert_close(found, torch.cat([pooled / embedder.scale, weight * HashEncoder().encode(texts)], 1))


def test_the_scale_is_the_distance_of_unrelated_pictures(tiny_vlm, tiny_embedder):
    vision = tiny_embedder.see(reference_images(16))
    halves = tiny_embedder.embed(vision, ["same"] * 16)
    squared = [float((a - b).square().sum()) for i, a in enumerate(halves) for b in halves[:i]]
    assert sum(squared) / len(squared) == pytest.approx(1, rel=1e-4)


def test_the_layer_is_the_last_one_unless_named(tiny_vlm, tiny_embedder):
    assert tiny_embedder.layer == tiny_vlm.vision_layers[-1]
    assert tiny_embedder.fingerprint["layer"] == tiny_vlm.vision_layers[-1]


def test_a_fingerprint_tells_models_apart(tiny_vlm, tmp_path):
    import shutil

    from helpers.tiny import save_tiny_llava
    from safetensors.torch import load_file, save_file

    from reasonedit.vlm import load_vlm

    same = load_vlm(str(save_tiny_llava(tmp_path / "same")), dtype="float32")
    assert same.fingerprint == tiny_vlm.fingerprint
    shutil.copytree(tmp_path / "same", tmp_path / "other")
    weights = {k: v + 0.1 for k, v in load_file(tmp_path / "same" / "model.safetensors").items()}
    save_file(weights, tmp_path / "other" / "model.safetensors", {"format": "pt"})
    assert load_vlm(str(tmp_path / "other"), dtype="float32").fingerprint != tiny_vlm.fingerprint


def test_special_tokens_do_not_move_an_embedding(tiny_embedder):
    vision = tiny_embedder.see([picture(0)])
    assert torch.equal(tiny_embedder.embed(vision, ["a <image>cat"]), tiny_embedder.embed(vision, ["a cat"]))


def test_the_embedded_encoder_is_normalised_and_means_something():
    encoder = SentenceEncoder.from_pretrained()
    cat, kitten, tax = encoder.encode(["A cat sleeps.", "A kitten is asleep.", "The tax rate rose."])
    assert float(cat.norm()) == pytest.approx(1, abs=1e-5)
    assert cat @ kitten > cat @ tax + 0.3


def test_bad_arguments_are_refused(tiny_vlm):
    with pytest.raises(ReasonEditError, match="text_weight must be 0 or more"):
        EmbeddingConfig(text_weight=-1)
    with pytest.raises(ReasonEditError, match="There is no sentence encoder 'no/such'"):
        SentenceEncoder.from_pretrained("no/such")
