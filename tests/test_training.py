"""The training of the embedded VLM: a packed tree is computed as if every question stood alone."""

import random
import re

import adapt_lm
import curriculum
import numpy as np
import pytest
import torch
from adapt_lm import IGNORE, Packer, Row, tree_mask
from align_tower import BACKGROUND, THINGS, SceneBank, patch_labels
from transformers import LlamaConfig, LlamaForCausalLM
from wordings import WORDINGS, draw_wording, state_answer

from reasonedit.data.world.architecture import ANSWER
from reasonedit.data.world.icons import COLOURS, RANDOM
from reasonedit.data.world.kinds import KNOWN_KINDS
from reasonedit.data.world.scenes import WHOLE_PICTURE, Scene, Thing, random_scene


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
    """Against the drawn picture: a patch is a thing's where that covers a good part of it."""
    rng = random.Random(4)
    for _ in range(30):
        scene = random_scene(rng)
        labels = [np.array(x).reshape(6, 6) for x in patch_labels(scene, WHOLE_PICTURE)]
        owner = np.full((96, 96), -1)
        for number, (left, top, right, bottom) in enumerate(scene.boxes()):
            owner[top:bottom, left:right] = number
        for row, column in np.ndindex(6, 6):
            patch = owner[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            kind, colour, place, number = (int(x[row, column]) for x in labels)
            if kind == BACKGROUND:
                assert (patch >= 0).mean() <= 0.25 * len(scene.things)
                assert colour == place == number == IGNORE
            else:
                thing = scene.things[[KNOWN_KINDS.index(t.kind) for t in scene.things].index(kind)]
                assert (patch >= 0).mean() > 0.25
                assert (list(COLOURS)[colour], place) == (thing.colour, thing.place)
                assert number == kind
        assert {KNOWN_KINDS.index(t.kind) for t in scene.things} <= set(labels[0].ravel().tolist())


def test_patches_of_a_part_say_what_it_shows_and_nothing_of_what_it_hardly_shows():
    scene = Scene((Thing("kettle", "red", 0), Thing("key", "blue", 8)), "plain", 7)
    left, top, right, bottom = scene.boxes()[0]
    kinds, _, places, _ = patch_labels(scene, (left, top, right, bottom))
    assert set(kinds) == {KNOWN_KINDS.index("kettle")}
    assert set(places) == {4}  # it fills the part
    labels = patch_labels(scene, (left, top, left + (right - left) // 4, bottom))
    assert [set(sort) for sort in labels] == [{IGNORE}] * 4
    assert set(patch_labels(scene, (70, 0, 96, 26))[0]) == {BACKGROUND}


def test_a_thing_without_a_name_has_a_number_and_a_colour_but_no_kind():
    scene = Scene((Thing(f"{RANDOM}5", "red", 4), Thing(f"{RANDOM}never numbered", "blue", 8)), "plain", 7)
    for box, number, colour in zip(scene.boxes(), (len(KNOWN_KINDS) + 5, IGNORE), ("red", "blue"), strict=True):
        kinds, colours, _, things = patch_labels(scene, box)
        middle = 6 * 3 + 2
        assert (kinds[middle], things[middle]) == (IGNORE, number)
        assert list(COLOURS)[colours[middle]] == colour


def test_a_bank_holds_things_without_names_where_it_is_to():
    assert not any(t.kind.startswith(RANDOM) for scene in SceneBank(30, seed=0).scenes for t in scene.things)
    unnamed = [t.kind for scene in SceneBank(30, seed=0, unnamed=1.0).scenes for t in scene.things]
    assert sum(kind.startswith(RANDOM) for kind in unnamed) >= 30
    assert set(unnamed) <= set(THINGS)


@pytest.mark.parametrize("part", [(0, 0, 32, 32), (5, 31, 67, 90), (40, 2, 96, 95)])
def test_views_are_parts_of_the_picture(part):
    bank = SceneBank(2, seed=0)
    view = bank.views([1], [part])[0]
    cut = torch.from_numpy(bank.pixels[1]).permute(2, 0, 1).float() / 127.5 - 1
    cut = cut[:, part[1] : part[3], part[0] : part[2]]
    assert float((view.mean((1, 2)) - cut.mean((1, 2))).abs().max()) < 0.02


@pytest.mark.parametrize("wording", WORDINGS)
def test_a_wording_tells_every_fact_once_before_the_question(wording):
    facts = ["The kettle is used for cooking.", "The key belongs to the baker.", "Cooking is calm."]
    text = wording.tell(facts) + wording.ask + "What is the red object used for?"
    places = [text.index(fact) for fact in facts]
    assert places == sorted(places)
    assert all(text.count(fact) == 1 for fact in facts)
    assert text.endswith("What is the red object used for?")


def test_wordings_and_stated_answers_are_drawn_in_all_their_forms():
    rng = random.Random(0)
    assert {draw_wording(rng) for _ in range(1000)} == set(WORDINGS)
    stated = {state_answer(rng, "What is it?", "soap") for _ in range(200)}
    assert len(stated) == 3
    assert all("What is it?" in text and "soap" in text for text in stated)


def test_rows_hold_every_fact_and_question_and_answer_of_their_groups(monkeypatch):
    """The tokens of a row, read branch by branch, are picture, facts in some wording, question, answer."""
    given = []

    def group(rng, scene, whole):
        made = curriculum.group(rng, scene, whole)
        given.append(made)
        return made

    monkeypatch.setattr(adapt_lm, "group", group)
    words = {}

    class ByWord:
        """Each word, space or mark is one token, so that what was packed can be read again."""

        def convert_tokens_to_ids(self, token):
            return words.setdefault(token, len(words) + 1)

        def __call__(self, text, add_special_tokens):
            assert not add_special_tokens
            return {"input_ids": [words.setdefault(w, len(words) + 1) for w in re.findall(r"\w+|\W", text)]}

    rng = random.Random(1)
    for _ in range(20):
        given.clear()
        row = Packer(ByWord(), 400).pack(rng, random_scene(rng), True, with_image=True)
        names = {number: word for word, number in words.items()}
        asked = [(facts, task) for facts, tasks in given for task in tasks]
        for number in range(1, max(row.questions) + 1):
            group_of = row.groups[row.questions.index(number)]
            seen = "".join(
                names.get(token, "")
                for token, g, q in zip(row.ids, row.groups, row.questions, strict=True)
                if (g == group_of and q in (0, number))
            )
            facts, task = asked[number - 1]
            assert all(fact in seen for fact in facts)
            assert seen.endswith(f"{task.question}{ANSWER} {task.answer}<|im_end|>")
            assert not facts or seen.index(facts[0]) < seen.index(task.question + ANSWER)
