"""What a codebook, and a cached answer, belong to."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path

import peft
import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import HashEncoder, design, picture
from tokenizers import normalizers
from transformers import AutoModelForImageTextToText, AutoProcessor

from reasonedit import Query, ReasonEditError, ReasonEditor
from reasonedit.data.answers import Answers
from reasonedit.embedding import DualEmbedder, EmbeddingConfig, SentenceEncoder
from reasonedit.util.weights import files_digest, weight_sums
from reasonedit.vlm import Generation, as_vlm, load_vlm
from reasonedit.vlm.llava import _TEMPLATE

EVERY_FAMILY = sorted(set(FAMILIES) - {"unknown"})


OLD = Path(__file__).parent / "data" / "codebook-format-4-early"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return FAMILIES["llava"](tmp_path_factory.mktemp("llava"))


def loaded(folder, change=lambda model, processor: None, dtype=torch.float32):
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype)
    processor = AutoProcessor.from_pretrained(folder)
    changed = change(model, processor)
    return as_vlm(changed if changed is not None else model, processor)


def tuned(*words, by=0.3):
    @torch.no_grad()
    def change(model, _processor):
        names = [n for n, _ in model.named_parameters() if all(w in n for w in words)]
        assert names
        for name in names:
            model.get_parameter(name).add_(by * torch.ones_like(model.get_parameter(name)))

    return change


def image(**values):
    def change(_model, processor):
        for name, value in values.items():
            setattr(processor.image_processor, name, value)

    return change


def template(_model, processor):
    processor.chat_template = _TEMPLATE.replace("ASSISTANT:", "ANSWER:")


def lora(*targets):
    def change(model, _processor):
        torch.manual_seed(0)
        wrapped = peft.get_peft_model(
            model, peft.LoraConfig(r=2, target_modules=list(targets), init_lora_weights=False)
        )
        return wrapped

    return change


def vision_config(model, _processor):
    model.config.vision_feature_layer = -1


TOWER, LANGUAGE = "model.vision_tower", "model.language_model.layers"
CHANGES = {
    "nothing": (lambda model, processor: None, True, True),
    "the tower": (tuned("vision_tower", "layers.0"), False, False),
    "one number of the tower": (tuned("vision_tower", "layers.1", "q_proj.bias", by=0.01), False, False),
    "the projector, behind the layer that is read": (tuned("multi_modal_projector"), True, False),
    "the language model": (tuned("language_model.layers.0"), True, False),
    "the normalisation": (image(image_mean=[0, 0, 0], image_std=[1, 1, 1]), False, False),
    "the size": (image(size={"height": 48, "width": 48}), False, False),
    "the resampling": (image(resample=0), False, False),
    "the chat template": (template, True, False),
    "an adapter of the tower": (lora("vision_tower.*q_proj"), False, False),
    "what of the tower is read": (vision_config, False, False),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_codebook_is_told_apart_by_what_its_keys_depend_on(what, folder, tmp_path, hash_encoder):
    change, keys_stay, answers_stay = CHANGES[what]
    if what == "an adapter of the tower":
        change = lora(*[n for n, _ in loaded(folder).model.named_modules() if TOWER in n and n.endswith("q_proj")])
    plain = loaded(folder)
    editor = ReasonEditor(plain, design(keys="both"))
    editor.save(tmp_path / "book")
    editor.edit(picture(0), "What is it?", answer="a thing", reasoning=["It is round."])
    other = loaded(folder, change)
    if keys_stay:
        assert ReasonEditor.load(tmp_path / "book", other).ask(picture(0), "What is it?").nearest < 1e-4
    else:
        with pytest.raises(ReasonEditError, match=r"another model or setting .*'reasonedit codebook migrate'"):
            ReasonEditor.load(tmp_path / "book", other)
    assert (other.identity == plain.identity) == answers_stay


def test_an_adapter_of_the_language_model_alone_leaves_keys_as_they_are(folder, hash_encoder):
    plain = loaded(folder)
    names = [n for n, _ in plain.model.named_modules() if LANGUAGE in n and n.endswith("q_proj")]
    adapted = loaded(folder, lora(*names))
    assert adapted.key_parts(adapted.projector) == plain.key_parts(plain.projector)
    assert adapted.identity != plain.identity
    # Its scaling is in no weight.
    scaled = loaded(folder, lora(*names))
    for module in scaled.model.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling = {name: 2 * value for name, value in module.scaling.items()}
    assert scaled.identity != adapted.identity
    layer = plain.language_layers[1]
    assert adapted.key_parts(layer) != plain.key_parts(layer)
    assert scaled.key_parts(layer) != adapted.key_parts(layer)


@pytest.mark.parametrize("kind", ["lora", "ia3", "vera", "oft"])
def test_an_adapter_that_is_off_or_another_one_is_another_model(kind, folder):
    layers = {"target_modules": ["q_proj"]}
    make = {
        "lora": lambda: peft.LoraConfig(r=2, init_lora_weights=False, **layers),
        "ia3": lambda: peft.IA3Config(feedforward_modules=[], init_ia3_weights=False, **layers),
        "vera": lambda: peft.VeraConfig(r=2, init_weights=False, **layers),
        "oft": lambda: peft.OFTConfig(oft_block_size=4, init_weights=False, **layers),
    }[kind]
    model = peft.get_peft_model(AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32), make())
    vlm = as_vlm(model, AutoProcessor.from_pretrained(folder))

    def told():
        return vlm.key_parts(vlm.projector)["vision_weights"], vlm.identity

    on = told()
    with model.disable_adapter():
        off = told()
    assert not set(on) & set(off)
    assert told() == on
    if kind != "vera":  # whose adapters share what they project with
        model.add_adapter("other", make())
        first = told()
        model.set_adapter("other")
        assert not set(told()) & set(first)


@pytest.mark.parametrize("part", ["", "model", "model.vision_tower"])
def test_a_compiled_model_is_told_apart_by_its_weights(folder, part):
    def compiled(scale):
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        with torch.no_grad():
            model.get_submodule("model.vision_tower.encoder.layers.0.mlp.fc1").weight.mul_(scale)
        owner, _, name = part.rpartition(".")
        if part:
            whole = model.get_submodule(owner)
            setattr(whole, name, torch.compile(getattr(whole, name), backend="eager"))
        else:
            model = torch.compile(model, backend="eager")
        return as_vlm(model, AutoProcessor.from_pretrained(folder), str(folder))

    plain, same, other = load_vlm(str(folder), dtype="float32"), compiled(1.0), compiled(2.0)
    assert same.key_parts(plain.projector) == plain.key_parts(plain.projector) != other.key_parts(plain.projector)
    assert same.identity == plain.identity != other.identity


def test_weights_on_disk_count_as_in_memory(folder, tmp_path):
    """A model that does not fit into memory is told apart as one that does, by the weights themselves."""
    there = {"model.vision_tower": "disk", "model.multi_modal_projector": "cpu"}
    there |= {"model.language_model": "disk", "lm_head": "disk"}

    def told(model, **kwargs):
        vlm = load_vlm(str(model), dtype="float32", **kwargs)
        return vlm.key_parts(vlm.projector), vlm.key_parts(vlm.language_layers[1]), vlm.identity

    def on_disk(model, name):
        return told(model, device_map=there, offload_folder=str(tmp_path / name))

    assert on_disk(folder, "first") == told(folder)
    for number, words in enumerate((("vision_tower",), ("language_model.layers.0",))):
        changed = loaded(folder, tuned(*words))
        changed.model.save_pretrained(tmp_path / f"{number}")
        changed.processor.save_pretrained(tmp_path / f"{number}")
        mine = on_disk(tmp_path / f"{number}", f"offloaded{number}")
        assert mine == told(tmp_path / f"{number}")
        assert (mine[0] == told(folder)[0]) == (number == 1)
        assert mine[2] != told(folder)[2]


def test_the_tokenizer_of_a_q_former_counts(tmp_path):
    where = FAMILIES["instructblip"](tmp_path)

    def lower(_model, processor):
        processor.qformer_tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()

    plain, changed = loaded(where), loaded(where, lower)
    assert plain.identity != changed.identity
    assert plain.key_parts(plain.projector) == changed.key_parts(plain.projector)
    layer = plain.language_layers[1]
    assert plain.key_parts(layer)["tokenizer"] != changed.key_parts(layer)["tokenizer"]


def test_a_layer_depends_on_what_comes_before_it(folder):
    first, second, projector = (loaded(folder).vision_layers[i] for i in (0, 1, -2))
    plain, changed = loaded(folder), loaded(folder, tuned("vision_tower", "layers.0"))
    assert plain.key_parts(first) == changed.key_parts(first)
    for layer in (second, projector, "image_features", plain.language_layers[0]):
        assert plain.key_parts(layer) != changed.key_parts(layer)
    changed = loaded(folder, tuned("multi_modal_projector"))
    assert plain.key_parts(projector) == changed.key_parts(projector)
    assert plain.key_parts("image_features") != changed.key_parts("image_features")
    reads = plain.language_layers
    changed = loaded(folder, tuned("language_model.layers.1"))
    assert plain.key_parts(reads[1]) == changed.key_parts(reads[1])
    changed = loaded(folder, tuned("language_model.layers.0"))
    assert plain.key_parts(reads[1]) != changed.key_parts(reads[1])
    changed = loaded(folder, template)  # what a language layer reads is worded by it
    assert plain.key_parts(reads[0]) != changed.key_parts(reads[0])


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_in_every_family_the_tower_counts_for_keys_and_the_rest_does_not(family, tmp_path):
    vlm = load_vlm(str(FAMILIES[family](tmp_path)), dtype="float32")
    before, identity, layer = vlm.key_parts(vlm.projector), vlm.identity, vlm.projector
    blocks = vlm.model.get_submodule(vlm.language_layers[-1])
    with torch.no_grad():
        next(p for p in blocks.parameters()).add_(0.5)
    assert vlm.key_parts(layer) == before
    assert vlm.identity != identity
    if not vlm.vision_layers:
        return
    with torch.no_grad():
        next(p for p in vlm.model.get_submodule(vlm.vision_layers[0]).parameters()).add_(0.5)
    assert vlm.key_parts(layer)["vision_weights"] != before["vision_weights"]


def test_float32_and_bfloat16_have_the_same_keys_and_other_answers(folder):
    full, half = loaded(folder), loaded(folder, dtype=torch.bfloat16)
    assert full.key_parts(full.projector) == half.key_parts(half.projector)
    assert full.identity != half.identity


def test_a_copy_of_the_files_is_the_same_model(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    one, other = load_vlm(str(folder), dtype="float32"), load_vlm(str(tmp_path / "copy"), dtype="float32")
    assert one.identity == other.identity
    assert one.key_parts(one.projector) == other.key_parts(other.projector)


def test_the_encoder_counts_by_its_weights(tiny_vlm, tmp_path):
    plain = SentenceEncoder.from_pretrained()
    plain.model.save(str(tmp_path / "moved"))
    moved = SentenceEncoder.from_pretrained(str(tmp_path / "moved"))
    assert moved.identity == plain.identity

    def parts(encoder, **config):
        return DualEmbedder(tiny_vlm, EmbeddingConfig(**config), encoder).fingerprint

    assert parts(moved) == parts(plain)
    with torch.no_grad():
        next(moved.model.parameters())[5, 5] += 0.1
    assert moved.identity != plain.identity
    assert parts(moved) != parts(plain)
    assert parts(moved, text_weight=0.0) == parts(plain, text_weight=0.0)  # no sentence half, no encoder
    shorter = SentenceEncoder.from_pretrained()
    shorter.model.max_seq_length = 64
    assert shorter.identity != plain.identity
    assert parts(HashEncoder())["sentence_encoder"] == "hash"


def test_keys_without_a_vision_half_do_not_depend_on_the_vlm(folder, tmp_path):
    other = loaded(folder, tuned("vision_tower"))
    made = [DualEmbedder(v, EmbeddingConfig(layer="none"), HashEncoder()).fingerprint for v in (loaded(folder), other)]
    assert made[0] == made[1]


def test_answers_are_those_of_the_model_as_it_is_now(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.data.answers.cache_folder", lambda: tmp_path)
    query = Query(picture(3, 64), "What is it?", ["a cat", "a very old boat"])
    files = set()
    for change, _, _ in [*CHANGES.values()][:9]:
        vlm = loaded(folder, change)
        for how in (Generation(), Generation(4), Generation(choice_rule="acc_norm"), Generation().but(num_beams=2)):
            answers = Answers(vlm, how)
            replies, _ = answers.replies([query])
            assert answers.ask([query])[0] == [reply.text for reply in replies]
            assert replies == vlm.reply(vlm.see([query.image]), [query.question], [query.choices], how)
            answers.close()
            there = set((tmp_path / "answers").iterdir())
            assert len(there - files) == 1  # each has a file of its own
            files = there


FAMILY = """
from dataclasses import replace

from reasonedit.vlm.llava import LlavaVLM

class Theirs(LlavaVLM):
    model_types = ()

    def reply(self, *asked):
        return [replace(reply, text="{text}") for reply in super().reply(*asked)]
"""


def test_answers_belong_to_the_code_of_a_family_outside_the_package(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.data.answers.cache_folder", lambda: tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    plain, query = loaded(folder), Query(picture(3, 64), "What is it?")

    def ask(text):
        (tmp_path / "their_family.py").write_text(FAMILY.format(text=text))
        monkeypatch.delitem(sys.modules, "their_family", raising=False)
        theirs = importlib.import_module("their_family").Theirs(plain.model, plain.processor, "theirs")
        answers = Answers(theirs)
        texts, (ms,) = answers.ask([query])
        answers.close()
        return texts, ms is None

    assert ask("a boat") == (["a boat"], False)
    assert ask("a boat") == (["a boat"], True)
    assert ask("another boat") == (["another boat"], False)
    # Of a class in no file, as in a notebook, nothing says whether it is still the same.
    there = set((tmp_path / "answers").iterdir())
    notebook = {"__name__": "a_notebook"}
    exec(FAMILY.format(text="a bus"), notebook)
    for _ in range(2):
        answers = Answers(notebook["Theirs"](plain.model, plain.processor, "theirs"))
        assert [answers.ask([query])[1] == [None] for _ in range(2)] == [False, True]
        answers.close()
    assert set((tmp_path / "answers").iterdir()) == there


def test_checksums_are_taken_once_for_the_same_files(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.util.weights.cache_folder", lambda: tmp_path / "cache")
    taken = []
    take = __import__("reasonedit.util.weights", fromlist=["_take"])._take
    monkeypatch.setattr("reasonedit.util.weights._take", lambda *given: taken.append(given) or take(*given))
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    first = load_vlm(str(copy), dtype="float32").identity
    assert load_vlm(str(copy), dtype="float32").identity == first
    assert len(taken) == 1
    os.utime(copy / "model.safetensors", (1, 1))  # touched: looked at again, and found to be the same
    assert load_vlm(str(copy), dtype="float32").identity == first
    assert len(taken) == 2
    for path in (tmp_path / "cache" / "weights").iterdir():
        path.write_text("{")
    assert load_vlm(str(copy), dtype="float32").identity == first
    assert len(taken) == 3
    assert files_digest("nowhere/at-all") == ""
    assert files_digest("somebody/model", "c0ffee") != files_digest("somebody/model", "decaf")


def test_files_of_the_hub_are_known_by_their_commit(folder, tmp_path):
    """transformers' configs named it once; without it the checksums of a large model are taken at every start."""
    repository = tmp_path / "models--somebody--tiny"
    known = set()
    for commit in ("c0ffee" + "0" * 34, "decaf" + "0" * 35):
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        shutil.copytree(folder, repository / "snapshots" / commit)
        for revision in ("main", commit):
            vlm = load_vlm("somebody/tiny", dtype="float32", cache_dir=str(tmp_path), revision=revision)
            assert vlm.files_digest == files_digest("somebody/tiny", commit) != ""
        known.add(vlm.files_digest)
    assert len(known) == 2


@pytest.mark.parametrize("past_autograd", [False, True])
def test_weights_that_change_in_memory_are_seen(folder, past_autograd):
    vlm = load_vlm(str(folder), dtype="float32")
    before, sums = vlm.identity, weight_sums(vlm.model)
    weight = next(p for n, p in vlm.model.named_parameters() if "vision_tower" in n and p.dim() == 2)
    if past_autograd:
        weight.data.mul_(1.5)
    else:
        with torch.no_grad():
            weight[0, 0] += 1.0
    assert vlm.identity != before
    assert weight_sums(vlm.model) != sums


def test_a_codebook_of_before_is_refused_with_the_command_that_migrates_it(folder, hash_encoder):
    with pytest.raises(ReasonEditError, match=r"of an earlier version.*'reasonedit codebook migrate'"):
        ReasonEditor.load(OLD, loaded(folder))
