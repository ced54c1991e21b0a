"""Answers out of shared rows and of images that were read already are those of transformers' own way to generate."""

from __future__ import annotations

import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import picture
from hypothesis import given
from hypothesis import strategies as st

from reasonedit.vlm import Generation, load_vlm, prefix
from reasonedit.vlm.lanes import place_images
from reasonedit.vlm.prefix import ImagePrefix

QUESTIONS = [
    "Is it?",
    "It is red. It floats. Which of the many objects in this picture is the largest one of all?",
    "Why?",
    "It sails on the sea. Where does the object in the picture belong?",
]
GENERATION = Generation(5)


def in_one_lane(lengths, loads, width):
    return dict.fromkeys(lengths, 0)


def in_two_lanes(lengths, loads, width):
    return {image: image % 2 for image in lengths}


def one_each(lengths, loads, width):
    return {image: len(loads) + i for i, image in enumerate(lengths)}


@pytest.fixture(scope="module", params=FAMILIES)
def vlm(request, tmp_path_factory):
    return load_vlm(str(FAMILIES[request.param](tmp_path_factory.mktemp(request.param))), dtype="float32")


@pytest.fixture
def images():
    """Their numbers of tokens differ where the family lets them."""
    return [picture(i, 64).resize(size, 0) for i, size in enumerate([(64, 64), (96, 64), (64, 96), (64, 64)])]


def ended(vlm, tokens):
    """Tokens up to the one that ends the answer."""
    ids = tokens.tolist()
    ends = [i for i, token in enumerate(ids) if token in vlm.end_token_ids]
    return ids[: ends[0] + 1] if ends else ids


@pytest.mark.parametrize("place", [place_images, in_one_lane, in_two_lanes, one_each])
def test_answers_are_those_of_generate(vlm, images, monkeypatch, place):
    monkeypatch.setattr(prefix, "place_images", place)
    vision = vlm.see(images)
    prompts = [vlm.prompt(q) for q in QUESTIONS]
    read = ImagePrefix(vlm, vision)
    if not vlm.can_share_prefix:
        assert not read.can_answer
        return
    right = [ended(vlm, tokens) for tokens in vlm.generate(vision, prompts, GENERATION)]
    found = read.answer(dict(enumerate(prompts)), 5)
    assert [found[i].tolist() for i in range(4)] == right
    some = ImagePrefix(vlm, vision).answer({2: prompts[2], 1: prompts[1]}, 5)
    assert {i: tokens.tolist() for i, tokens in some.items()} == {2: right[2], 1: right[1]}


@pytest.mark.parametrize("place", [place_images, in_one_lane, in_two_lanes, one_each])
def test_images_that_were_read_for_a_question_are_answered_about(vlm, images, monkeypatch, place):
    monkeypatch.setattr(prefix, "place_images", place)
    vision = vlm.see(images)
    choices = [None, ["a cat", "a dog"], None, ["yes", "no", "it may be so"]]
    right = vlm.reply(vision, QUESTIONS, choices, GENERATION)
    asked = [[], ["Is it red?", "Is it blue?"], ["Is it small?"], []]
    p = vlm.p_yes(vlm.see(images), asked)
    vision.prefix = vlm.read(vision)
    for found, alone in zip(vlm.p_yes(vision.prefix, asked), p, strict=True):
        torch.testing.assert_close(found, alone, atol=2e-5, rtol=1e-4)
    assert vlm.reply(vision, QUESTIONS, choices, GENERATION) == right
    assert vision.prefix is None  # it is used up
    assert vlm.reply(vision, QUESTIONS, choices, GENERATION) == right


def test_an_image_that_was_read_is_not_read_again(tiny_vlm):
    columns = []
    first = tiny_vlm.model.get_submodule(tiny_vlm.language_layers[0])
    hook = first.register_forward_pre_hook(lambda m, args: columns.append(args[0].shape[:2].numel()))
    vision, questions = tiny_vlm.see([picture(0)]), ["Is it red?", "Is it blue?"]
    plain = tiny_vlm.reply(vision, ["What?"], None, Generation(1))
    (with_image,) = columns
    vision.prefix = tiny_vlm.read(vision)
    columns.clear()
    tiny_vlm.p_yes(vision.prefix, [questions])
    assert len(columns) == 1  # the image and the questions about it in one pass
    columns.clear()
    assert tiny_vlm.reply(vision, ["What?"], None, Generation(1)) == plain
    hook.remove()
    (without,) = columns
    assert with_image - without >= vision.images[0].size


def test_a_prefix_is_narrowed_in_shared_rows_too(vlm, images, monkeypatch):
    monkeypatch.setattr(prefix, "place_images", in_two_lanes)
    questions = [["Is it red?"], ["Is it?", "Does it float on water?"], ["Why?"], ["Is it blue?"]]
    right = vlm.p_yes(vlm.see(images), questions)
    read = vlm.read(vlm.see(images))
    vlm.p_yes(read, questions)
    read.narrow([3, 1])
    for found, i in zip(vlm.p_yes(read, [questions[3], questions[1]]), (3, 1), strict=True):
        torch.testing.assert_close(found, right[i], atol=2e-5, rtol=1e-4)


def test_what_was_read_of_other_images_is_not_used(tiny_vlm):
    first, second = tiny_vlm.see([picture(0)]), tiny_vlm.see([picture(1)])
    right = tiny_vlm.reply(second, ["What?"], None, GENERATION)
    for other in (first, tiny_vlm.see([picture(1), picture(0)])):
        second.prefix = tiny_vlm.read(other)
        tiny_vlm.p_yes(second.prefix, [["Is it?"]] * len(other))
        assert tiny_vlm.reply(second, ["What?"], None, GENERATION) == right


def test_a_model_that_generates_in_its_own_way_does(tiny_vlm, monkeypatch):
    said = torch.tensor(tiny_vlm.tokenizer("so", add_special_tokens=False)["input_ids"])
    monkeypatch.setattr(tiny_vlm, "generate", lambda vision, prompts, how: [said] * len(prompts))
    assert tiny_vlm.reply(tiny_vlm.see([picture(0)]), ["What?"], None, GENERATION)[0].text == "so"


def test_tokens_that_are_never_said_are_not(tiny_vlm, monkeypatch):
    vision = tiny_vlm.see([picture(0)])
    prompts = [tiny_vlm.prompt("What?")]
    first = tiny_vlm.generate(vision, prompts, GENERATION)[0].tolist()
    end = tiny_vlm.end_token_ids[0]
    for values in ({"suppress_tokens": first[:1]}, {"bad_words_ids": [[t] for t in first] + [[end]]}):
        for name, value in values.items():
            monkeypatch.setattr(tiny_vlm.model.generation_config, name, value)
        right = tiny_vlm.generate(vision, prompts, GENERATION)[0]
        assert right.tolist() != first
        assert tiny_vlm._generate(tiny_vlm.read(vision), dict(enumerate(prompts)), GENERATION)[0].tolist() == ended(
            tiny_vlm, right
        )
        for name in values:
            monkeypatch.setattr(tiny_vlm.model.generation_config, name, None)


@given(
    st.dictionaries(st.integers(0, 30), st.integers(1, 200), max_size=12),
    st.lists(st.integers(0, 200), max_size=4),
    st.sampled_from([16, 576, 4096]),
)
def test_images_are_placed_so_that_little_is_padded(lengths, loads, width):
    lanes = place_images(lengths, loads, width)
    assert lanes.keys() == lengths.keys()

    def cost(of_image):
        filled = [*loads, *[0] * (max([-1, *of_image.values()]) + 1 - len(loads))]
        for image, lane in of_image.items():
            filled[lane] += lengths[image]
        longest = max(filled, default=0)
        return len(filled) * longest * (6 * width + longest)

    assert set(lanes.values()) | set(range(len(loads))) == set(range(max([len(loads) - 1, *lanes.values()]) + 1))
    apart = {image: len(loads) + i for i, image in enumerate(lengths)}
    assert cost(lanes) <= cost(apart)
