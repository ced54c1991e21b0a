"""The other shapes of VLM: tokens are where the labels say, and what is assembled is a user's VLM to ReasonEdit."""

import random

import align_tower
import assemble_shape
import numpy as np
import pytest
import torch
from align_tower import IGNORE, SceneBank, WordTargets, batch
from helpers.tiny import tokenizer as tiny_tokenizer
from safetensors.torch import save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from vlm_shapes import SHAPES, new_vision_part, tokens_of, trained_part

from reasonedit.data.world.scenes import random_scene
from reasonedit.design import DEFAULT, Design
from reasonedit.vlm import load_vlm


@pytest.fixture(params=SHAPES)
def shape(request):
    return request.param


@pytest.fixture(autouse=True)
def tiny_language(monkeypatch):
    """A language model of the right width, with random weights, in place of SmolLM2."""

    def load(_):
        tokenizer = tiny_tokenizer()
        tokenizer.add_tokens(["<file_sep>", "<|im_end|>"], special_tokens=True)
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=576,
            vocab_size=len(tokenizer),
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=9,
            num_key_value_heads=3,
            tie_word_embeddings=True,
        )
        return LlamaForCausalLM(config), tokenizer, "nowhere"

    monkeypatch.setattr(align_tower, "load_language_model", load)
    monkeypatch.setattr(assemble_shape, "load_adapted_language_model", load)


def test_each_token_stands_where_its_patch_label_says(shape):
    """With blocks that add nothing, a token can only tell of the 16 x 16 pixels that it stands for."""
    torch.manual_seed(0)
    model = new_vision_part(SHAPES[shape]).eval()
    for module in model.vision_tower.modules():
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias) if module.bias is not None else None
    picture = torch.rand(1, 3, 96, 96) * 2 - 1
    with torch.no_grad():
        before = tokens_of(model, picture)
        for row, column in [(0, 0), (0, 5), (2, 3), (5, 1)]:
            changed = picture.clone()
            changed[..., 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] *= -1
            differs = (tokens_of(model, changed) != before).any(-1)[0]
            assert differs.nonzero().flatten().tolist() == [6 * row + column]


@pytest.mark.parametrize("says_places", [True, False])
def test_tokens_learn_places_only_where_they_are_to_say_them(says_places):
    torch.manual_seed(0)
    words = WordTargets(says_places)
    _, labels = batch(SceneBank(8, seed=0), random.Random(0), 8, 0.5)
    tokens = torch.randn(8, 36, 576)
    moved = [*labels[:2], torch.where(labels[2] == IGNORE, IGNORE, (labels[2] + 1) % 9)]
    assert (float(words.loss(tokens, labels)) != float(words.loss(tokens, moved))) == says_places
    target = sum(
        share * table[label.clamp(min=0)]
        for table, label, share in zip(words.words, labels, (1.0, 0.8, 0.6), strict=False)
    )
    assert words.loss(target, labels) < 0.5 * words.loss(tokens, labels)


# One is enough here: each shape is assembled and seen through in the tests below.
@pytest.mark.parametrize("shape", [s if s == "embedded" else pytest.param(s, marks=pytest.mark.slow) for s in SHAPES])
def test_a_shape_learns(shape):
    """Some steps on the same views: the loss falls."""
    torch.manual_seed(0)
    model, words = new_vision_part(SHAPES[shape]), WordTargets(SHAPES[shape].says_places)
    views, labels = batch(SceneBank(8, seed=0), random.Random(0), 8, 1.0)
    optimiser = torch.optim.AdamW(trained_part(model).parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = words.loss(tokens_of(model, views), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_an_assembled_shape_is_a_users_vlm(shape, tmp_path):
    torch.manual_seed(1)
    vision = new_vision_part(SHAPES[shape]).eval()
    save_file({k: v.contiguous() for k, v in trained_part(vision).state_dict().items()}, tmp_path / "tower.safetensors")
    folder = tmp_path / "vlm"
    assemble_shape.assemble(shape, tmp_path / "tower.safetensors", tmp_path, folder)
    vlm = load_vlm(str(folder), dtype="float32")
    pictures = [random_scene(random.Random(i)).render() for i in range(2)]
    seen = vlm.see([*pictures, pictures[0].crop((10, 0, 70, 31))])
    assert [s.features.shape for s in seen.images] == [(36, 576)] * 3
    bank = SceneBank(1, seed=0)
    bank.pixels = np.stack([np.asarray(p) for p in pictures])
    with torch.no_grad():
        trained_on = tokens_of(vision, bank.views([0, 1], [(0, 0, 96, 96)] * 2))
    for got, wanted in zip(seen.images, trained_on, strict=False):  # half precision on both sides
        assert float((got.features - wanted.float()).norm() / wanted.float().norm()) < 0.05
    assert all(vlm.answer(seen, ["What is this?"] * 3, [["a", "b"]] * 3))
    assert Design.default(vlm.name) is DEFAULT
    rows = vlm.model.get_input_embeddings().weight
    ids = vlm.tokenizer.convert_tokens_to_ids
    for own in ("<img>", "</img>") if shape == "merged" else ():
        torch.testing.assert_close(rows[ids(own)], rows[ids("<file_sep>")])
