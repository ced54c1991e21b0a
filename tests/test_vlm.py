"""The VLM interface: what need not be asked of every family (see test_families.py)."""

import pytest
import torch
from helpers.tiny import picture, save_tiny_llava
from PIL import Image
from tokenizers import Tokenizer, models, normalizers
from transformers import LlavaImageProcessor, PreTrainedTokenizerFast

from reasonedit import ReasonEditError
from reasonedit.embedding import pool
from reasonedit.vlm import Generation, load_vlm

QUESTIONS = ["What is it?", "Which of the many objects in this picture is the largest one?", "Why?"]


@pytest.fixture(scope="module", params=["siglip", "clip with bos"])
def vlm(request, tmp_path_factory):
    tower, bos = request.param.split()[0], "bos" in request.param
    return load_vlm(str(save_tiny_llava(tmp_path_factory.mktemp(tower), tower=tower, bos=bos)), dtype="float32")


@pytest.fixture
def images():
    return [picture(i) for i in range(3)]


def test_choices_are_answered_by_the_highest_likelihood(vlm, images):
    choices = [["a cat", "a dog"], None, ["one", "two", "three"]]
    vision = vlm.see(images)
    answers = vlm.answer(vision, QUESTIONS, choices)
    for i in (0, 2):
        scores = vlm.log_likelihood(vision.select([i]), [vlm.prompt(QUESTIONS[i], choices[i])], [choices[i]])[0]
        assert answers[i] == choices[i][int(scores.argmax())]
    assert answers[1] == vlm.answer(vision.select([1]), [QUESTIONS[1]])[0]


def test_last_layer_is_what_the_projector_reads(vlm, images):
    vision = vlm.see(images, ["model.multi_modal_projector"])
    projected = vlm.model.get_submodule("model.multi_modal_projector")(
        torch.stack(vision.layer("model.multi_modal_projector"))
    )
    features = torch.stack([seen.features for seen in vision.images])
    torch.testing.assert_close(features, projected.flatten(1, 2))


def test_select_repeats_and_reorders(vlm, images):
    vision = vlm.see(images, vlm.vision_layers[:1]).select([2, 0, 2])
    again = vlm.see([images[2], images[0], images[2]], vlm.vision_layers[:1])
    for one, other in zip(vision.images, again.images, strict=True):
        torch.testing.assert_close(one.features, other.features)
        torch.testing.assert_close(one.layers[vlm.vision_layers[0]], other.layers[vlm.vision_layers[0]])


def test_special_tokens_in_texts_are_taken_out(vlm, images):
    dirty = "What<image> is </s>this<pad>? <ima<image>ge>"
    assert vlm.clean(dirty) == "What is this? "
    assert vlm.prompt(dirty).count("<image>") == 1
    assert vlm.answer(vlm.see(images[:1]), [dirty]) == vlm.answer(vlm.see(images[:1]), ["What is this? "])


def test_unknown_layer_names_those_that_exist(vlm, images):
    with pytest.raises(ReasonEditError, match=r"no layer 'model\.nothing'.*model\.multi_modal_projector"):
        vlm.see(images, ["model.nothing"])


def test_unknown_models_and_types_are_refused(tmp_path):
    with pytest.raises(ReasonEditError, match="There is no model 'nowhere/at-all'"):
        load_vlm("nowhere/at-all")
    with pytest.raises(ReasonEditError, match="There is no model"):
        load_vlm(str(tmp_path))
    with pytest.raises(ReasonEditError, match="'float17' is not a torch type"):
        load_vlm("embedded", dtype="float17")
    with pytest.raises(ReasonEditError, match="'None' is not a torch type"):
        load_vlm("embedded", dtype=None)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ReasonEditError, match="type 'bert', none that transformers loads"):
        load_vlm(str(tmp_path))


def test_a_type_of_torch_is_taken_and_its_former_argument_refused(tmp_path):
    """transformers puts torch_dtype aside where dtype is given, too."""
    folder = str(save_tiny_llava(tmp_path))
    assert load_vlm(folder, dtype=torch.float16).dtype == torch.float16
    with pytest.raises(ReasonEditError, match="There is no argument 'torch_dtype': use dtype"):
        load_vlm(folder, torch_dtype=torch.float16)


def test_a_continuation_is_split_as_in_the_whole_text(vlm, monkeypatch):
    """SentencePiece puts a space before a lone text: "a cat" after a prompt is not what "a cat" is alone."""
    words = ["<unk>", "▁", "▁a", "▁cat", "▁▁a", "ASSISTANT", ":", "▁ASSISTANT", "▁yes", "▁▁yes", "▁no", "▁▁no"]
    made = Tokenizer(models.Unigram([(w, -float(len(words) - i)) for i, w in enumerate(words)], unk_id=0))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    monkeypatch.setattr(vlm, "tokenizer", PreTrainedTokenizerFast(tokenizer_object=made))
    both = vlm.tokenizer("ASSISTANT: a cat")["input_ids"]
    before = vlm.tokenizer("ASSISTANT:")["input_ids"]
    assert vlm.continuation("ASSISTANT:", "a cat") == both[len(before) :]
    assert vlm.tokenizer.convert_ids_to_tokens(both[len(before) :]) == ["▁a", "▁cat"]
    assert vlm.tokenizer(" a cat")["input_ids"] != both[len(before) :]


def test_wide_pictures_lose_their_ends_to_clip(vlm):
    left, top, right, bottom = vlm.view(picture(0, 64).resize((96, 64)))
    if vlm.model.config.vision_config.model_type == "siglip_vision_model":
        assert (left, top, right, bottom) == (0, 0, 1, 1)
    else:
        assert (left, top, right, bottom) == (pytest.approx(1 / 6), 0, pytest.approx(5 / 6), 1)


@pytest.mark.parametrize("size", [(128, 64), (64, 128)])
def test_margins_that_make_a_picture_square_are_no_part_of_it(tmp_path, size):
    """LLaVA's own processor may add them, as the first LLaVA-1.5 had it."""
    vlm = load_vlm(str(save_tiny_llava(tmp_path, tower="clip")), dtype="float32")
    sides = {"height": 32, "width": 32}
    vlm.processor.image_processor = LlavaImageProcessor(size={"shortest_edge": 32}, crop_size=sides, do_pad=True)
    image = Image.new("RGB", size, (10, 200, 30))
    changed, part = image.copy(), (0.0, 0.5, 0.25, 1.0) if size[0] > size[1] else (0.5, 0.0, 1.0, 0.25)
    changed.paste((255, 0, 255), tuple(round(x * side) for x, side in zip(part, size * 2, strict=True)))
    before, after = vlm.see([image, changed], vlm.vision_layers[:1]).images
    moved = (after.layers[vlm.vision_layers[0]] - before.layers[vlm.vision_layers[0]]).norm(dim=-1, keepdim=True)
    assert pool(moved, [part], before.view).item() == moved.max()


def test_many_texts_about_one_image_are_what_each_is_alone(vlm, images):
    """However many rows and texts run together, and however unevenly: against one full pass per text."""
    vision = vlm.see(images)
    counts = (21, 0, 3)
    questions = [[f"Is it number {i} of {'many ' * (i % 4)}things?" for i in range(n)] for n in counts]
    found = vlm.p_yes(vision, questions)
    assert [len(p) for p in found] == list(counts)
    yes, no = vlm._yes_no
    for row, mine in enumerate(questions):
        for question, p in zip(mine, found[row].tolist(), strict=True):
            whole = vlm.next_token_probabilities(vision.select([row]), [vlm.prompt(question)])[0]
            assert p == pytest.approx(float(whole[yes].sum() / (whole[yes].sum() + whole[no].sum())), abs=2e-5)
    texts = [[f"a {'very ' * (i % 3)}old boat {i}" for i in range(n)] for n in (11, 2, 0)]
    prompts = [vlm.prompt(q) for q in QUESTIONS]
    together = vlm.log_likelihood(vision, prompts, texts)
    for row, mine in enumerate(texts):
        for text, score in zip(mine, together[row].tolist(), strict=True):
            alone = vlm.log_likelihood(vision.select([row]), [prompts[row]], [[text]])[0]
            assert score == pytest.approx(float(alone[0]), abs=2e-5)


@pytest.mark.parametrize("told", [[("system", "It is a drawing.")], []], ids=["told", "untold"])
def test_a_conversation_may_begin_with_the_assistant(vlm, images, told):
    turns = [*told, ("assistant", "How can I help?"), ("user", "What is it?"), ("assistant", "A boat.")]
    prompt = vlm.prompt("Why?", None, turns)
    said = [vlm.image_token, *(text for _, text in turns), "Why?"]
    assert sorted(said, key=prompt.index) == said
    # As the same conversation in which the user shows the picture first: each text is in the turn of whoever says it.
    shown = [*told, ("user", "Look."), *turns[len(told) :]]
    assert prompt == vlm.prompt("Why?", None, shown).replace("\n\nLook.", "").replace("Look.", "")
    vision = vlm.see(images[:1])
    whole = vlm.tokenizer.decode(vlm.generate(vision, [prompt], Generation(6))[0], skip_special_tokens=True)
    assert vlm.reply(vision, ["Why?"], None, Generation(6), [turns])[0].text == whole.strip()


def test_turns_without_a_template_are_those_of_llava(vlm):
    """As LLaVA-1.5 is published: a space behind each text."""
    turns = [("user", "What is it?"), ("assistant", "A boat.")]
    assert vlm.prompt("Why?", None, turns) == "USER: <image>\nWhat is it? ASSISTANT: A boat. USER: Why? ASSISTANT:"
    assert vlm.prompt("Why?") == "USER: <image>\nWhy? ASSISTANT:"
