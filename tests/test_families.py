"""One conformance suite for every family, against its own processor and full forward passes of the same model."""

from __future__ import annotations

import copy
import logging
import re

import lightning as L
import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import design, picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from reasonedit import ReasonEditError, ReasonEditor, VLMModule
from reasonedit.evidence import EvidenceConfig, EvidenceFinder
from reasonedit.prompts import with_facts
from reasonedit.vlm import IMAGE_FEATURES, Generation, Vision, as_vlm, load_vlm
from reasonedit.vlm.anyvlm import AnyVLM

QUESTIONS = ["What is it?", "Which of the many objects in this picture is the largest one?", "Why is it?"]
TEXTS = [["a cat", "an elephant in the room"], ["no"], ["x", "yes", "perhaps it is"]]


@pytest.fixture(scope="module", params=FAMILIES)
def vlm(request, tmp_path_factory):
    return load_vlm(str(FAMILIES[request.param](tmp_path_factory.mktemp(request.param))), dtype="float32")


@pytest.fixture
def images():
    """A square, a wide and a high one: their numbers of tokens differ where the family lets them."""
    return [picture(0, 64), picture(1, 64).resize((96, 64), 0), picture(2, 64).resize((64, 96), 0)]


def its_own(vlm, image, prompt):
    """Inputs as the family's own processor makes them."""
    kind, bos = vlm.model.config.model_type, vlm.tokenizer.bos_token
    words = {"add_special_tokens": False} if bos and bos in prompt and kind != "paligemma" else {}
    if kind == "paligemma":  # its processor adds both
        prompt = prompt.replace(f"<image>{bos}", "<image>").removesuffix("\n")
    if kind in ("instructblip", "blip-2"):
        prompt = prompt.replace("<image>", "").lstrip()
    nested = getattr(vlm, "nested", False)
    inputs = vlm.processor(images=[[image]] if nested else [image], text=[prompt], return_tensors="pt", **words)
    inputs.pop("labels", None)
    return dict(inputs)


def full(vlm, image, prompt, ids=()):
    """Logits of a full forward pass over a prompt and the tokens after it; only those from the prompt's end on."""
    inputs = its_own(vlm, image, prompt)
    shape, fill = inputs["input_ids"].shape, {"attention_mask": 1, "token_type_ids": 0}
    if vlm.model.config.model_type == "paligemma":
        fill["token_type_ids"] = 1
    for key, value in inputs.items():
        if value.shape[:2] == shape and not key.startswith("qformer"):
            more = torch.tensor([list(ids)]) if key == "input_ids" else torch.full((1, len(ids)), fill.get(key, 0))
            if value.dim() > 2:
                more = value[:, -1:].expand(-1, len(ids), *value.shape[2:])
            inputs[key] = torch.cat([value, more.to(value)], dim=1)
    if getattr(vlm.model, "model", None) is not None and hasattr(vlm.model.model, "rope_deltas"):
        vlm.model.model.rope_deltas = None
    with torch.inference_mode():
        return vlm.model(**inputs).logits[0, shape[1] - 1 :]


def close(found, right):
    torch.testing.assert_close(found, right, atol=2e-5, rtol=1e-4)


def test_next_tokens_equal_a_full_forward_pass(vlm, images):
    prompts = [vlm.prompt(q) for q in QUESTIONS]
    found = vlm.next_token_probabilities(vlm.see(images), prompts)
    close(found, torch.stack([full(vlm, i, p)[-1].softmax(-1) for i, p in zip(images, prompts, strict=True)]))


def test_all_tokens_of_an_image_are_counted(vlm, images):
    """Marks of tiles and line breaks among them; two more at most, but for a model of no family."""
    prompt = vlm.prompt(QUESTIONS[0])
    for seen in vlm.see([*images, picture(3, 33)]).images:
        read = int(vlm.inputs(Vision([seen]), [prompt])["attention_mask"].sum())
        counted = vlm.count_tokens(prompt) + seen.size
        assert read <= counted
        assert counted <= read + 2 or isinstance(vlm, AnyVLM)


def test_an_answer_near_the_end_of_the_context_is_cut_there(vlm, images, monkeypatch):
    if vlm.context_length > 600:
        pytest.skip("its context is long: the same code in a shorter one")
    vision, question = vlm.see(images[:1]), "x"
    while vlm.has_room(vision.images[0], vlm.prompt(f"{question} x"), 2):
        question += " x"
    few, many = (vlm.reply(vision, [question], None, Generation(count))[0].text for count in (1, 50))
    assert many.startswith(few)


def test_padded_equals_unpadded(vlm, images):
    prompts = [vlm.prompt(q) for q in QUESTIONS]
    together = vlm.next_token_probabilities(vlm.see(images), prompts)
    alone = [vlm.next_token_probabilities(vlm.see([i]), [p]) for i, p in zip(images, prompts, strict=True)]
    close(together, torch.cat(alone))


def test_likelihoods_equal_full_forward_passes(vlm, images):
    prompts = [vlm.prompt(q) for q in QUESTIONS]
    found = vlm.log_likelihood(vlm.see(images), prompts, TEXTS)
    for image, prompt, texts, scores in zip(images, prompts, TEXTS, found, strict=True):
        for text, score in zip(texts, scores, strict=True):
            ids = vlm.continuation(prompt, text)
            assert vlm.tokenizer.decode(ids).strip() == text
            steps = full(vlm, image, prompt, ids)[:-1].log_softmax(-1).gather(1, torch.tensor(ids)[:, None])
            assert float(score) == pytest.approx(float(steps.mean()), abs=5e-5)


def test_sentence_nll_equals_full_forward_passes(vlm, images):
    nll = vlm.sentence_nll(vlm.see(images), "Describe this image.", [["It is red.", "It flies."]] * 3)
    prompt = vlm.prompt("Describe this image.")
    ids = vlm.continuation(prompt, "It flies.")
    steps = full(vlm, images[1], prompt, ids)[:-1].log_softmax(-1).gather(1, torch.tensor(ids)[:, None])
    assert float(nll[1][1]) == pytest.approx(-float(steps.mean()), abs=5e-5)


def test_p_yes_equals_full_forward_passes(vlm, images):
    # One token per byte: the first letters of the words are all there is.
    yes, no = ([*vlm.tokenizer(text, add_special_tokens=False)["input_ids"]] for text in (" yY", " nN"))
    found = vlm.p_yes(vlm.see(images), [QUESTIONS, QUESTIONS[:1], QUESTIONS[1:]])
    for image, questions, mine in zip(images, (QUESTIONS, QUESTIONS[:1], QUESTIONS[1:]), found, strict=True):
        for question, p in zip(questions, mine, strict=True):
            probabilities = full(vlm, image, vlm.prompt(question))[-1].softmax(-1)
            said = [probabilities[sorted(set(words))].sum() for words in (yes, no)]
            assert float(p) == pytest.approx(float(said[0] / sum(said)), abs=2e-5)


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.7}], ids=str)
def test_generation_equals_that_of_its_own_processor(vlm, images, options):
    found = vlm.answer(vlm.see(images), QUESTIONS, max_new_tokens=6, **options)
    for image, question, answer in zip(images, QUESTIONS, found, strict=True):
        inputs = its_own(vlm, image, vlm.prompt(question))
        made = vlm.model.generate(**inputs, max_new_tokens=6, do_sample=False, **options)[0]
        assert answer == vlm.tokenizer.decode(made[inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_batch_equals_single(vlm, images):
    choices = [None, ["a cat", "a dog"], None]
    together = vlm.answer(vlm.see(images), QUESTIONS, choices, max_new_tokens=6)
    alone = [
        vlm.answer(vlm.see([i]), [q], [c], max_new_tokens=6)[0]
        for i, q, c in zip(images, QUESTIONS, choices, strict=True)
    ]
    assert together == alone


def test_nothing_of_another_image_is_left(vlm, images):
    prompts = [vlm.prompt(q) for q in QUESTIONS]
    first, second = vlm.see(images[:1]), vlm.see(images[1:2])
    before = vlm.p_yes(first, [QUESTIONS])[0]
    said = vlm.answer(first, QUESTIONS[:1], max_new_tokens=6)
    prefix = vlm.read(first)
    vlm.answer(second, QUESTIONS[1:2], max_new_tokens=6)
    full(vlm, images[2], prompts[2])
    close(vlm.p_yes(prefix, [QUESTIONS])[0], before)
    close(vlm.p_yes(first, [QUESTIONS])[0], before)
    assert vlm.answer(first, QUESTIONS[:1], max_new_tokens=6) == said


def test_a_prefix_serves_any_number_of_texts(vlm, images):
    prefix = vlm.read(vlm.see(images))
    close(vlm.p_yes(prefix, [QUESTIONS] * 3)[2], vlm.p_yes(vlm.see(images[2:]), [QUESTIONS])[0])
    prefix.narrow([2, 0])
    close(vlm.p_yes(prefix, [QUESTIONS] * 2)[1], vlm.p_yes(vlm.see(images[:1]), [QUESTIONS])[0])


def test_the_vision_part_runs_once(vlm, images):
    if vlm.texts_at_once == 1:
        pytest.skip("nothing is shared where no family serves")
    calls = []
    first = vlm.model.get_submodule(vlm.vision_layers[0])
    handle = first.register_forward_hook(lambda *_: calls.append(1))
    vision = vlm.see(images, vlm.vision_layers)
    vlm.answer(vision, QUESTIONS, [None, ["a", "b"], None], max_new_tokens=3)
    vlm.p_yes(vision, [QUESTIONS] * 3)
    vlm.sentence_nll(vision, "Describe this image.", [["a"]] * 3)
    vlm.language_states(vision, QUESTIONS, vlm.language_layers[-1])
    handle.remove()
    assert len(calls) == 1


def test_layers_are_in_raster_order(vlm):
    if vlm.texts_at_once == 1:
        pytest.skip("images have no regions where no family serves")
    image = picture(3, 128).resize((192, 128), 0)
    changed = image.copy()
    box = (0.25, 0.5, 0.5, 0.75)  # row 2, column 1 of 4 x 4
    changed.paste((255, 0, 255), tuple(int(x * s) for x, s in zip(box, image.size * 2, strict=True)))
    read = [vlm.vision_layers[0], vlm.projector, IMAGE_FEATURES]
    vision = vlm.see([picture(4, 64), image, changed], read)  # one before them: images must not run into each other
    for name in read:
        before, after = vision.layer(name)[1:]
        rows, columns, _ = before.shape
        where = int((after - before).norm(dim=-1).argmax())
        left, top, right, bottom = vision.images[1].view
        assert box[0] <= left + (right - left) * (where % columns + 0.5) / columns <= box[2], name
        assert box[1] <= top + (bottom - top) * (where // columns + 0.5) / rows <= box[3], name


def test_layers_of_a_batch_equal_those_of_single_images(vlm, images):
    together = vlm.see(images, vlm.vision_layers)
    assert set(together.images[0].layers) == set(vlm.vision_layers)
    for i, image in enumerate(images):
        alone = vlm.see([image], vlm.vision_layers).images[0]
        for name in vlm.vision_layers:
            close(together.layer(name)[i], alone.layers[name])


def test_language_layers_are_read_without_padding(vlm, images):
    vision = vlm.see(images)
    for layer in vlm.language_layers:
        together = vlm.language_states(vision, QUESTIONS, layer)
        assert together[0].dim() == 2
        for i, question in enumerate(QUESTIONS):
            close(together[i], vlm.language_states(vision.select([i]), [question], layer)[0])


def test_unknown_layers_are_refused(vlm, images):
    with pytest.raises(ReasonEditError, match=r"no layer 'model\.nothing'"):
        vlm.see(images, ["model.nothing"])


def test_special_tokens_in_texts_are_taken_out(vlm, images):
    dirty = f"What{vlm.image_token} is </s>this{vlm.image_token}<pad>?"
    assert vlm.clean(dirty) == "What is this?"
    assert vlm.answer(vlm.see(images[:1]), [dirty]) == vlm.answer(vlm.see(images[:1]), ["What is this?"])


HOSTILE = st.lists(
    st.sampled_from(
        [
            "</s>",
            "<s>",
            "<pad>",
            "IMAGE",
            "SPECIAL",
            "<",
            ">",
            "|",
            "im",
            "_start",
            "USER",
            "ASSISTANT:",
            "user:",
            "answer:",
            "assistant",
            "Question :",
            "USER\uff1a",
            "A kettle",
            " is ",
            "\n",
            "\u200b",
            "\uff1cimage\uff1e",
            "{{",
            "}}",
            "{% raw %}",
            "</",
            "<image",
        ]
    ),
    min_size=1,
    max_size=12,
)


@given(parts=HOSTILE, pick=st.integers(0, 10**6))
def test_no_stored_text_becomes_more_than_text(vlm, parts, pick):
    """Whatever a fact says: no special token, no image and no turn of the chat that the prompt had not without it."""
    special = {*vlm.tokenizer.all_special_tokens, *(t.content for t in vlm.tokenizer.added_tokens_decoder.values())}
    named = {"IMAGE": vlm.image_token, "SPECIAL": sorted(special)[pick % len(special)]}
    dirty = "".join(named.get(part, part) for part in parts)
    facts = [vlm.clean(f"It is {dirty} round.")]
    marks = set(vlm.tokenizer.all_special_ids) | {i for i, t in vlm.tokenizer.added_tokens_decoder.items() if t.special}
    begins_turn = {w.lower() for w in re.findall(r"(\w+)\s*:", vlm.prompt("What is it?"))}
    told = []
    for text in (with_facts(facts, "What is it?"), "What is it?", f"It is {dirty} round. What is it?"):
        prompt = vlm.prompt(text)
        ids = [i for i in vlm.token_ids([prompt])[0] if i in marks]
        turns = [w.lower() for w in re.findall(r"(\w+)\s*[:\uff1a]", prompt) if w.lower() in begins_turn]
        told.append((ids, turns, prompt.count(vlm.image_token)))
    assert told[0] == told[1] == told[2]


def test_it_answers_in_predict_and_no_weight_changes(vlm, images):
    before = copy.deepcopy(vlm.model.state_dict())
    batch = {"images": images, "prompts": list(QUESTIONS)}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(accelerator="cpu", logger=False, **quiet)
    loader = DataLoader([batch], batch_size=None, collate_fn=dict)
    found = trainer.predict(VLMModule(vlm, max_new_tokens=6), loader)
    assert found == [vlm.answer(vlm.see(images), QUESTIONS, max_new_tokens=6)]
    assert all(torch.equal(before[k], v) for k, v in vlm.model.state_dict().items())
    assert not vlm.model.training


@pytest.mark.parametrize("options", [{}, {"attn_implementation": "eager"}, {"device_map": "cpu"}], ids=str)
def test_saved_and_loaded_it_answers_the_same(vlm, images, options, tmp_path):
    vlm.model.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    again = load_vlm(str(tmp_path), dtype="float32", **options)
    assert type(again) is type(vlm)
    assert again.fingerprint == vlm.fingerprint
    assert again.answer(again.see(images), QUESTIONS, max_new_tokens=6) == vlm.answer(
        vlm.see(images), QUESTIONS, max_new_tokens=6
    )
    close(again.p_yes(again.see(images), [QUESTIONS] * 3)[1], vlm.p_yes(vlm.see(images), [QUESTIONS] * 3)[1])


def test_evidence_is_that_of_one_window_at_a_time(vlm, monkeypatch):
    image, sentences = picture(5, 64), ["The thing is red.", "It flies."]
    found = EvidenceFinder(vlm, EvidenceConfig()).find(image, sentences)
    monkeypatch.setattr(type(vlm), "images_at_once", lambda self, *sizes: 1)
    apart = EvidenceFinder(vlm, EvidenceConfig()).find(image, sentences)
    for one, other in zip(found, apart, strict=True):
        close(torch.tensor([w.p_yes for w in one.windows]), torch.tensor([w.p_yes for w in other.windows]))
        assert [w.nll is None for w in one.windows] == [w.nll is None for w in other.windows]


@pytest.mark.usefixtures("hash_encoder")
def test_it_is_edited(vlm, images, tmp_path):
    editor = ReasonEditor(vlm, design(k=3, keys="both", merge=True))
    edit = editor.edit(images[1], "What is it?", answer="a boat", reasoning="It is long. It swims.")
    answer = editor.ask(images[1], "What is it?")
    assert answer.hits[0].fact == edit.answer_fact
    assert answer.nearest == pytest.approx(0, abs=1e-3)
    assert {h.fact for h in answer.hits} <= {edit.answer_fact, "It is long.", "It swims."}
    assert answer.prompt.startswith(edit.answer_fact)
    editor.save(tmp_path / "book")
    again = ReasonEditor.load(tmp_path / "book", vlm)
    assert again.ask(images[1], "What is it?").text == answer.text


def test_generation_is_greedy_and_ends_whatever_the_checkpoint_says(vlm, images):
    """Checkpoints ship sampling and penalties; some name a token as the end that is not their tokenizer's."""
    vision = vlm.see(images)
    plain = vlm.answer(vision, QUESTIONS, max_new_tokens=8)
    inner = getattr(vlm.model, "language_model", vlm.model)
    configs = [m.generation_config for m in (vlm.model, inner) if getattr(m, "generation_config", None) is not None]
    before = [copy.deepcopy(c) for c in configs]
    first = vlm.generate(vision.select([0]), [vlm.prompt(QUESTIONS[0])], Generation(8))[0]
    end, vlm.tokenizer.eos_token = vlm.tokenizer.eos_token, vlm.tokenizer.convert_ids_to_tokens(int(first[2]))
    try:
        for config in configs:
            config.update(do_sample=True, temperature=5.0, top_p=0.9, repetition_penalty=5.0, eos_token_id=7)
            config.update(return_dict_in_generate=True, num_return_sequences=2, stop_strings=["###"])
            config.update(guidance_scale=2.0, prompt_lookup_num_tokens=3, cache_implementation="static")
            config.update(forced_eos_token_id=5, min_length=9)
        vlm.__dict__.pop("end_token_ids", None)
        again = vlm.generate(vision.select([0]), [vlm.prompt(QUESTIONS[0])], Generation(8))[0]
        length = first.tolist().index(int(first[2])) + 1
        assert again.tolist()[:length] == first.tolist()[:length]
        assert len(again) == length or 7 in again.tolist()
    finally:
        vlm.tokenizer.eos_token = end
        vlm.__dict__.pop("end_token_ids", None)
        for config, old in zip(configs, before, strict=True):
            config.update(**old.to_dict())
    assert vlm.answer(vision, QUESTIONS, max_new_tokens=8) == plain


def test_a_model_without_a_family_is_named_in_one_warning(tmp_path, caplog):
    folder = str(FAMILIES["unknown"](tmp_path))
    with caplog.at_level(logging.WARNING):
        load_vlm(folder)
    (line,) = [r.message for r in caplog.records if r.name == "reasonedit.vlm.wrap"]
    assert line.startswith(f"No family serves '{folder}' (model type 'vipllava')")
    assert "each text runs alone" in line


def test_a_model_that_is_loaded_already_is_taken_as_it_is(vlm, images):
    same = as_vlm(vlm.model, vlm.processor)
    assert type(same) is type(vlm)
    assert same.model is vlm.model
    assert same.name == vlm.model.config.name_or_path


def test_images_that_a_processor_refuses_are_named(tmp_path):
    vlm = load_vlm(str(FAMILIES["qwen3_vl"](tmp_path)), dtype="float32")
    with pytest.raises(ReasonEditError, match=r"takes no image of 2000 x 4 pixels: .*aspect ratio"):
        vlm.see([Image.new("RGB", (2000, 4))])


def test_a_processor_may_name_a_return_type_of_its_own(tmp_path):
    vlm = load_vlm(str(FAMILIES["llava"](tmp_path)), dtype="float32")
    right = vlm.pixels([picture(0, 64)])["pixel_values"]
    vlm.processor.images_kwargs = {"return_tensors": "np"}
    assert torch.equal(vlm.pixels([picture(0, 64)])["pixel_values"], right)


def test_an_encoder_decoder_is_refused(tmp_path):
    import transformers as tf
    from helpers.families import VISION, save
    from helpers.tiny import tokenizer

    words = tokenizer()
    t5 = tf.T5Config(vocab_size=400, d_model=48, d_ff=96, d_kv=12, num_layers=2, num_heads=4).to_dict()
    former = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = tf.InstructBlipConfig(
        vision_config=VISION,
        qformer_config={**former, "intermediate_size": 48, "encoder_hidden_size": 32},
        text_config=t5,
    )
    processor = tf.InstructBlipProcessor(tf.BlipImageProcessor(), words, tokenizer(), num_query_tokens=4)
    folder = save(tmp_path, tf.InstructBlipForConditionalGeneration, config, processor)
    with pytest.raises(ReasonEditError, match="encoder-decoder"):
        load_vlm(str(folder), dtype="float32")


def test_a_model_that_is_kept_on_disk_runs_where_it_is(tmp_path):
    """Lightning moves what is registered; what accelerate has spread out must stay."""
    folder = str(FAMILIES["llava"](tmp_path / "model"))
    images, plain = [picture(0, 64)], load_vlm(folder, dtype="float32")
    said = plain.answer(plain.see(images), QUESTIONS[:1], max_new_tokens=4)
    parts = ["model.vision_tower", "model.multi_modal_projector", "model.language_model", "lm_head"]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    for offloaded in ("model.language_model", "model.vision_tower"):
        spread = {part: "disk" if part == offloaded else "cpu" for part in parts}
        vlm = load_vlm(folder, dtype="float32", device_map=spread, offload_folder=str(tmp_path / offloaded))
        assert vlm.answer(vlm.see(images), QUESTIONS[:1], max_new_tokens=4) == said
        close(vlm.p_yes(vlm.see(images), [QUESTIONS])[0], plain.p_yes(plain.see(images), [QUESTIONS])[0])
        trainer = L.Trainer(accelerator="cpu", logger=False, **quiet)
        loader = DataLoader([{"images": images, "prompts": QUESTIONS[:1]}], batch_size=None, collate_fn=dict)
        assert trainer.predict(VLMModule(vlm, max_new_tokens=4), loader) == [said]


def test_a_template_that_the_tokenizer_alone_has_is_used(tmp_path):
    folder = FAMILIES["llava_onevision"](tmp_path)
    for file in folder.glob("*.jinja"):
        file.unlink()
    with pytest.raises(ReasonEditError, match=r"has no chat template: put a chat_template\.jinja into its folder"):
        load_vlm(str(folder), dtype="float32").prompt("What?")
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(folder)
    words.chat_template = "{% for m in messages %}ITS OWN <image> {{ m['content'][1]['text'] }}{% endfor %}"
    words.save_pretrained(folder, save_jinja_files=False)
    assert load_vlm(str(folder), dtype="float32").prompt("What?") == "ITS OWN <image> What?"


@pytest.mark.parametrize("family", ["llava", "gemma3"])
def test_a_template_may_put_the_text_before_the_image(tmp_path, images, family):
    vlm = load_vlm(str(FAMILIES[family](tmp_path)), dtype="float32")
    parts = "{{% for p in m['content'] if p['type'] == '{}' %}}{}{{% endfor %}}"
    both = parts.format("text", "{{ p['text'] }}") + parts.format("image", f" {vlm.image_token}")
    vlm.processor.chat_template = f"{{% for m in messages %}}USER: {both}{{% endfor %}} ASSISTANT:"
    vision, prompts = vlm.see(images), [vlm.prompt(q) for q in QUESTIONS]
    right = torch.stack([full(vlm, i, p)[-1] for i, p in zip(images, prompts, strict=True)])
    close(torch.cat(vlm.read(vision).next_logits([[p] for p in prompts])), right)
    tokens = [vlm.tokenizer.decode(token, skip_special_tokens=True).strip() for token in right.argmax(-1)]
    assert vlm.answer(vision, QUESTIONS, max_new_tokens=1) == tokens


@pytest.mark.parametrize("kind", ["chunked", "convolution", "windows"])
def test_a_language_model_may_have_layers_that_take_no_mask(images, kind):
    """Layers that see chunks, or keep a state: texts that share an image would run into each other in them."""
    import transformers as tf
    from helpers.families import CHAT, VISION, text, words

    tokenizer = words(bos=True)
    shape = text(tokenizer)
    layers = {"chunked": "chunked_attention", "convolution": "conv", "windows": "sliding_attention"}
    shape["layer_types"] = [layers[kind], "full_attention"]
    torch.manual_seed(0)
    language = {
        "chunked": lambda: tf.Llama4TextConfig(
            **shape, head_dim=12, attention_chunk_size=16, num_local_experts=2, intermediate_size_mlp=96
        ),
        "convolution": lambda: tf.Lfm2Config(**shape),
        "windows": lambda: tf.Gemma2Config(**shape, head_dim=12, sliding_window=16, query_pre_attn_scalar=12),
    }[kind]()
    model = tf.LlavaForConditionalGeneration(
        tf.LlavaConfig(
            vision_config=tf.CLIPVisionConfig(**VISION),
            text_config=language,
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        )
    )
    processor = tf.LlavaProcessor(
        tf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT.replace("IMAGE", "<image>\n"),
    )
    vlm = as_vlm(model, processor, "mixed")
    vision, prompts = vlm.see(images), [vlm.prompt(q) for q in QUESTIONS]
    found = vlm.read(vision).next_logits([[p] for p in prompts])
    right = [full(vlm, image, prompt)[-1:] for image, prompt in zip(images, prompts, strict=True)]
    close(torch.cat(found), torch.cat(right))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "{% for m in messages %}{{ m['content'] | trim }}{% endfor %}",
            "has no place for an image: put a chat",
        ),
        ("{% for m in messages %}{{ 'USER: ' + m['content'] }}{% endfor %}", "does not take these turns: can only con"),
        ("{% for m in messages %}{{ raise_exception('No.') }}{% endfor %}", "does not take these turns: No."),
        ("{% for m in messages", "does not take these turns: unexpected end of template"),
    ],
)
def test_a_template_that_takes_no_images_is_named(tmp_path, template, said):
    """A folder without a template of its own has that of its language model's tokenizer."""
    folder = str(FAMILIES["llava"](tmp_path))
    vlm = load_vlm(folder, dtype="float32")
    vlm.processor.chat_template = template
    assert vlm.question_template == ""
    vision = vlm.see([picture(0, 64)])
    for ask in (lambda: vlm.answer(vision, ["What?"]), lambda: vlm.p_yes(vision, [["Is it?"]])):
        with pytest.raises(ReasonEditError, match=f"The chat template of '{folder}' {said}"):
            ask()


def test_choices_of_a_question_to_instructblip_are_framed_too(tmp_path):
    vlm = load_vlm(str(FAMILIES["instructblip"](tmp_path)), dtype="float32")
    assert vlm.prompt("What is it?", ["a", "b"]) == "<image>Question: What is it? Choices: a, b. Short answer:"
    assert vlm.prompt("Describe this image.") == "<image>Describe this image."


def test_what_a_processor_gives_as_lists_is_not_left_out(tmp_path, images, monkeypatch):
    vlm = load_vlm(str(FAMILIES["blip2"](tmp_path)), dtype="float32")
    assert isinstance(vlm, AnyVLM)
    prompt, processor, forward = vlm.prompt(QUESTIONS[0]), vlm.processor, vlm.model.forward
    right = vlm.next_token_probabilities(vlm.see(images[:1]), [prompt])

    class Lists:
        give = list

        def __getattr__(self, name):
            return getattr(processor, name)

        def __call__(self, **options):
            inputs = processor(**options)
            return {**inputs, "pixel_values": self.give(inputs["pixel_values"]), "told": "nothing that the model takes"}

    monkeypatch.setattr(vlm, "processor", Lists())
    monkeypatch.setattr(
        vlm.model, "forward", lambda pixel_values, **inputs: forward(pixel_values=torch.stack(pixel_values), **inputs)
    )
    close(vlm.next_token_probabilities(vlm.see(images[:1]), [prompt]), right)
    monkeypatch.setattr(Lists, "give", staticmethod(lambda pixels: pixels.numpy()))
    with pytest.raises(ReasonEditError, match="gives 'pixel_values' as ndarray, not as tensors"):
        vlm.see(images[:1])
