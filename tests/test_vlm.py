"""The VLM interface, on a tiny Llava, against plain forward passes of the same model."""

import copy

import pytest
import torch
from helpers.tiny import PATCHES, picture, save_tiny_llava

from reasonedit import ReasonEditError
from reasonedit.vlm import load_vlm

QUESTIONS = ["What is it?", "Which of the many objects in this picture is the largest one?", "Why?"]


@pytest.fixture(scope="module", params=["siglip", "clip with bos"])
def vlm(request, tmp_path_factory):
    tower, bos = request.param.split()[0], "bos" in request.param
    return load_vlm(str(save_tiny_llava(tmp_path_factory.mktemp(tower), tower=tower, bos=bos)), dtype="float32")


@pytest.fixture
def images():
    return [picture(i) for i in range(3)]


def plain_logits(vlm, image, text):
    """What the model says of one image and one text, by the processor and a full forward pass."""
    inputs = vlm.processor(images=[image], text=[text], return_tensors="pt")
    with torch.inference_mode():
        return vlm.model(**inputs).logits[0], inputs["input_ids"][0]


def test_batch_answers_equal_single_ones(vlm, images):
    together = vlm.answer(vlm.see(images), QUESTIONS)
    alone = [vlm.answer(vlm.see([i]), [q])[0] for i, q in zip(images, QUESTIONS, strict=True)]
    assert together == alone


def test_generation_equals_plain_greedy_generation(vlm, images):
    text = vlm.prompt(QUESTIONS[0])
    inputs = vlm.processor(images=[images[0]], text=[text], return_tensors="pt")
    plain = vlm.model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert (
        vlm.answer(vlm.see(images[:1]), QUESTIONS[:1], max_new_tokens=8)[0]
        == vlm.tokenizer.decode(plain, skip_special_tokens=True).strip()
    )


def test_next_token_probabilities_equal_a_full_forward_pass(vlm, images):
    prompts = [vlm.prompt(q) for q in QUESTIONS]
    found = vlm.next_token_probabilities(vlm.see(images), prompts)
    for i, prompt in enumerate(prompts):
        logits, _ = plain_logits(vlm, images[i], prompt)
        torch.testing.assert_close(found[i], logits[-1].softmax(-1), atol=1e-5, rtol=1e-4)


def test_log_likelihood_equals_a_full_forward_pass(vlm, images):
    prompts = [vlm.prompt(q) for q in QUESTIONS]
    texts = [["a cat", "an elephant in the room"], ["no"], ["x", "yes", "perhaps it is"]]
    found = vlm.log_likelihood(vlm.see(images), prompts, texts)
    for i, prompt in enumerate(prompts):
        for j, text in enumerate(texts[i]):
            logits, ids = plain_logits(vlm, images[i], f"{prompt} {text}")
            count = len(vlm.tokenizer(f" {text}", add_special_tokens=False)["input_ids"])
            steps = logits[:-1].log_softmax(-1)[-count:].gather(1, ids[-count:, None])
            assert float(found[i][j]) == pytest.approx(float(steps.mean()), abs=2e-5)


def test_choices_are_answered_by_the_highest_likelihood(vlm, images):
    choices = [["a cat", "a dog"], None, ["one", "two", "three"]]
    vision = vlm.see(images)
    answers = vlm.answer(vision, QUESTIONS, choices)
    for i in (0, 2):
        scores = vlm.log_likelihood(vision.select([i]), [vlm.prompt(QUESTIONS[i], choices[i])], [choices[i]])[0]
        assert answers[i] == choices[i][int(scores.argmax())]
    assert answers[1] == vlm.answer(vision.select([1]), [QUESTIONS[1]])[0]


def test_sentence_nll_is_the_negative_log_likelihood(vlm, images):
    sentences = [["It is red.", "It flies."]] * 3
    nll = vlm.sentence_nll(vlm.see(images), "Describe this image.", sentences)
    logits, ids = plain_logits(vlm, images[1], vlm.prompt("Describe this image.") + " It flies.")
    count = len(" It flies.")
    plain = -logits[:-1].log_softmax(-1)[-count:].gather(1, ids[-count:, None]).mean()
    assert float(nll[1][1]) == pytest.approx(float(plain), abs=2e-5)


def test_p_yes_sums_the_variants_of_the_words(vlm, images):
    # One token per byte: the first letters of the words are all there is.
    probabilities = vlm.next_token_probabilities(vlm.see(images), [vlm.prompt(q) for q in QUESTIONS])
    lead = set(vlm.tokenizer(" yY", add_special_tokens=False)["input_ids"])
    other = set(vlm.tokenizer(" nN", add_special_tokens=False)["input_ids"])
    yes, no = (probabilities[:, sorted(t)].sum(1) for t in (lead, other))
    found = vlm.p_yes(vlm.see(images), [[q] for q in QUESTIONS])
    torch.testing.assert_close(torch.cat(found), yes / (yes + no))


def test_one_vision_pass_serves_all(vlm, images):
    calls = []
    handle = vlm.model.get_submodule("model.vision_tower").register_forward_hook(lambda *_: calls.append(1))
    vision = vlm.see(images, vlm.vision_layers)
    vlm.answer(vision, QUESTIONS, [None, ["a", "b"], None])
    vlm.p_yes(vision, [QUESTIONS] * 3)
    vlm.sentence_nll(vision, "Describe this image.", [["a"]] * 3)
    handle.remove()
    assert len(calls) == 1


def test_layers_are_inputs_without_cls_in_raster_order(vlm, images):
    vision = vlm.see(images, vlm.vision_layers)
    assert len(vlm.vision_layers) == 5
    for name, tokens in vision.layers.items():
        assert tokens.shape == (3, PATCHES, 48 if name == "image_features" else 32)
    assert vision.grid == (4, 4)
    # A picture changed in one patch changes that patch most where the tower begins.
    changed = images[0].copy()
    changed.paste((255, 0, 255), (8, 16, 16, 24))  # row 2, column 1 of 4 x 4
    first = vlm.vision_layers[0]
    difference = (vlm.see([changed], [first]).layers[first] - vision.layers[first][:1]).norm(dim=-1)[0]
    assert int(difference.argmax()) == 2 * 4 + 1


def test_last_layer_is_what_the_projector_reads(vlm, images):
    vision = vlm.see(images, ["model.multi_modal_projector"])
    projected = vlm.model.get_submodule("model.multi_modal_projector")(vision.layers["model.multi_modal_projector"])
    torch.testing.assert_close(torch.stack(vision.features), projected)


def test_select_repeats_and_reorders(vlm, images):
    vision = vlm.see(images, vlm.vision_layers[:1]).select([2, 0, 2])
    again = vlm.see([images[2], images[0], images[2]], vlm.vision_layers[:1])
    torch.testing.assert_close(torch.stack(vision.features), torch.stack(again.features))
    torch.testing.assert_close(vision.layers[vlm.vision_layers[0]], again.layers[vlm.vision_layers[0]])


def test_special_tokens_in_texts_are_taken_out(vlm, images):
    dirty = "What<image> is </s>this<pad>? <ima<image>ge>"
    assert vlm.clean(dirty) == "What is this? "
    assert vlm.prompt(dirty).count("<image>") == 1
    assert vlm.answer(vlm.see(images[:1]), [dirty]) == vlm.answer(vlm.see(images[:1]), ["What is this? "])


def test_asking_changes_no_weight(vlm, images):
    before = copy.deepcopy(vlm.model.state_dict())
    vlm.answer(vlm.see(images), QUESTIONS, [["a", "b"], None, None])
    assert all(torch.equal(before[k], v) for k, v in vlm.model.state_dict().items())
    assert not vlm.model.training
    assert not any(p.requires_grad for p in vlm.model.parameters())


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
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ReasonEditError, match="type 'bert'; the families that are served are: llava"):
        load_vlm(str(tmp_path))
