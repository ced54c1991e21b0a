"""The training of the embedded VLM: a packed tree is computed as if every question stood alone."""

import random

import pytest
import torch
from adapt_lm import IGNORE, Row, tree_mask
from align_tower import BACKGROUND, CROPS, FULL, SceneBank, patch_labels
from transformers import LlamaConfig, LlamaForCausalLM

from reasonedit.data.world.icons import COLOURS
from reasonedit.data.world.kinds import KNOWN_KINDS
from reasonedit.data.world.scenes import CELL, Scene, Thing


def test_a_packed_tree_equals_plain_forward_passes():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    rng = random.Random(0)

    def words(n):
        return [rng.randrange(50) for _ in range(n)]

    prefix, groups = words(5), [(words(4), [words(3), words(6)]), ([], [words(4)]), (words(7), [words(2), words(5)])]
    row = Row()
    row.add(prefix, 0, 0, 0)
    question_id, places = 0, []
    for group_id, (context, questions) in enumerate(groups, 1):
        row.add(context, len(prefix), group_id, 0)
        for question in questions:
            question_id += 1
            places.append((len(row.ids), context, question))
            row.add(question, len(prefix) + len(context), group_id, question_id)
    mask = tree_mask(torch.tensor([row.groups]), torch.tensor([row.questions]))
    bias = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    with torch.no_grad():
        packed = model(torch.tensor([row.ids]), position_ids=torch.tensor([row.positions]), attention_mask=bias).logits[
            0
        ]
        for start, context, question in places:
            alone = model(torch.tensor([prefix + context + question])).logits[0, -len(question) :]
            torch.testing.assert_close(packed[start : start + len(question)], alone, atol=1e-5, rtol=1e-4)
    assert set(row.labels) == {IGNORE}


def test_patch_labels_are_where_the_things_are():
    scene = Scene((Thing("kettle", "red", 0), Thing("key", "blue", 8)), "plain", 7)
    kinds, colours, places = (torch.tensor(x).view(6, 6) for x in patch_labels(scene, FULL))
    for thing, cells in (("kettle", kinds[:2, :2]), ("key", kinds[4:, 4:])):
        assert (cells == KNOWN_KINDS.index(thing)).any()
    assert set(kinds[:2, :2].unique().tolist()) <= {KNOWN_KINDS.index("kettle"), BACKGROUND}
    assert (kinds[2:4] == BACKGROUND).all()
    assert set(colours[kinds == KNOWN_KINDS.index("key")].tolist()) == {list(COLOURS).index("blue")}
    assert set(places[kinds == KNOWN_KINDS.index("key")].tolist()) == {8}


@pytest.mark.parametrize("crop", [(0, 0, 1, 1), (1, 0, 2, 2), (0, 1, 3, 2)])
def test_views_are_crops_of_the_picture(crop):
    assert crop in CROPS
    bank = SceneBank(2, seed=0)
    row, column, rows, columns = crop
    view = bank.views([1], [crop])[0]
    box = (column * CELL, row * CELL, (column + columns) * CELL, (row + rows) * CELL)
    cut = torch.from_numpy(bank.pixels[1]).permute(2, 0, 1).float() / 127.5 - 1
    cut = cut[:, box[1] : box[3], box[0] : box[2]]
    assert float((view.mean((1, 2)) - cut.mean((1, 2))).abs().max()) < 0.02
