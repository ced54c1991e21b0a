"""Files of models that are not what they should be, and models with adapters."""

from __future__ import annotations

import hashlib
import json
import shutil

import peft
import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import design, picture
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from reasonedit import ReasonEditError, ReasonEditor
from reasonedit.vlm import as_vlm, load_vlm


@pytest.fixture
def folder(tmp_path):
    return FAMILIES["llava"](tmp_path / "model")


def rewrite(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def told(folder):
    with pytest.raises(ReasonEditError) as raised:
        load_vlm(str(folder), dtype="float32")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_weights_that_are_missing_are_named(folder):
    def change(weights):
        for name in [n for n in weights if "projector" in n]:
            del weights[name]

    rewrite(folder, change)
    said = told(folder)
    assert "does not hold all of its weights: model.multi_modal_projector.linear_1.bias" in said
    assert said.endswith("Fetch it again, or correct its config.json.")


def test_weights_that_are_left_over_are_named(folder):
    rewrite(folder, lambda weights: weights.update({"model.extra.weight": torch.zeros(2, 2)}))
    assert "holds weights that its config has no place for: model.extra.weight." in told(folder)


def test_weights_of_another_shape_are_refused(folder):
    rewrite(folder, lambda weights: weights.update({n: torch.zeros(3, 3) for n in weights if "lm_head" in n}))
    assert "lm_head" in told(folder) or "shape" in told(folder) or "size mismatch" in told(folder)


def test_buffers_that_are_computed_anew_may_be_left_over(folder):
    rewrite(folder, lambda w: w.update({"model.vision_tower.embeddings.position_ids": torch.arange(4)}))
    assert load_vlm(str(folder), dtype="float32")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_called_one(folder, name):
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    said = told(folder)
    assert f"'{name}' of the model" in said
    assert "is a Git LFS pointer, not the file itself: run 'git lfs pull'" in said


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "processor_config.json"])
def test_a_file_that_is_cut_off_is_called_damaged(folder, name):
    text = (folder / name).read_text()
    (folder / name).write_text(text[: len(text) // 2])
    assert f"'{name}' of the model '{folder}' is damaged or not complete" in told(folder)


def test_weights_that_are_cut_off_are_refused(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-100])
    assert f"The model '{folder}' cannot be loaded" in told(folder)


# ---- adapters


def adapter(folder, path, **config):
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(0)
    settings = peft.LoraConfig(**{"r": 2, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False, **config})
    wrapped = peft.get_peft_model(model, settings)
    wrapped.save_pretrained(path)
    return wrapped


def test_the_folder_of_an_adapter_is_its_model_with_it(folder, tmp_path, hash_encoder):
    wrapped = adapter(folder, tmp_path / "adapter")
    processor = AutoProcessor.from_pretrained(folder)
    images, questions = [picture(0, 64)], ["What is it?"]
    given = as_vlm(wrapped, processor)
    loaded = load_vlm(str(tmp_path / "adapter"), dtype="float32")
    merged = as_vlm(adapter(folder, tmp_path / "again").merge_and_unload(), processor)
    plain = load_vlm(str(folder), dtype="float32")
    layer = plain.vision_layers[2]

    def features(vlm):
        return vlm.see(images, [layer]).layer(layer)[0]

    for vlm in (loaded, merged):
        assert vlm.answer(vlm.see(images), questions) == given.answer(given.see(images), questions)
        torch.testing.assert_close(features(vlm), features(given))
    assert not torch.allclose(features(plain), features(given))
    assert loaded.name == str(tmp_path / "adapter")
    # A codebook of it opens by its name again, and not on the bare model.
    editor = ReasonEditor(loaded, design())
    editor.save(tmp_path / "book")
    editor.edit(picture(0), "What is it?", answer="a thing", reasoning=["It is round."])
    assert ReasonEditor.load(tmp_path / "book", dtype="float32").ask(picture(0), "What is it?").nearest < 1e-4
    with pytest.raises(ReasonEditError, match="another vision weights"):
        ReasonEditor.load(tmp_path / "book", plain)


def test_an_adapter_that_is_not_whole_is_refused(folder, tmp_path):
    adapter(folder, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(path)
    gone = sorted(weights)[0]
    save_file({n: w for n, w in weights.items() if n != gone}, path)
    assert gone.split(".lora")[0].removeprefix("base_model.model.") in told(tmp_path / "adapter")


def test_an_adapter_without_its_model_says_what_it_needs(folder, tmp_path):
    adapter(folder, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "base_model_name_or_path": "nobody/nothing"}))
    assert "is an adapter for the model 'nobody/nothing', which cannot be reached" in told(tmp_path / "adapter")
    path.write_text(json.dumps({**config, "base_model_name_or_path": None}))
    assert "does not say which model it is for" in told(tmp_path / "adapter")


def publish(hub, name, revision, folder):
    """Put a folder into a cache of the hub, as it would have been fetched."""
    commit, repository = hashlib.sha1(f"{name} {revision}".encode()).hexdigest(), hub / f"models--{name}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / revision).write_text(commit)
    shutil.copytree(folder, repository / "snapshots" / commit)


@pytest.mark.filterwarnings("ignore:Could not find a config file")
@pytest.mark.parametrize("named", [None, "old"])
def test_a_revision_is_that_of_the_adapter_and_its_config_names_that_of_its_model(folder, tmp_path, named):
    publish(tmp_path, "base", "main", folder)
    rewrite(folder, lambda weights: next(w for n, w in weights.items() if "lm_head" in n).zero_())
    publish(tmp_path, "base", "old", folder)
    adapter(folder, tmp_path / "adapter", revision=named)
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "base"}))
    publish(tmp_path, "lora", "v2", tmp_path / "adapter")
    vlm = load_vlm("lora", dtype="float32", cache_dir=str(tmp_path), revision="v2")
    assert bool(vlm.model.lm_head.weight.any()) == (named is None)
    local = load_vlm(str(tmp_path / "adapter"), dtype="float32", cache_dir=str(tmp_path), revision="main")
    assert local.model.lm_head.weight.any()  # an adapter in a folder has none: the model's is meant


def test_an_adapter_that_learns_prompts_is_refused(folder):
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    config = peft.PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=2, num_layers=2, token_dim=48, num_attention_heads=4
    )
    wrapped = peft.get_peft_model(model, config)
    with pytest.raises(ReasonEditError, match="learns prompts"):
        as_vlm(wrapped, AutoProcessor.from_pretrained(folder))


def test_a_model_folder_is_found_from_whatever_folder(folder, tmp_path, hash_encoder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    editor = ReasonEditor.from_pretrained(folder.name, design(), dtype="float32")
    editor.save(tmp_path / "book")
    monkeypatch.chdir(tmp_path / "book")
    assert ReasonEditor.load(tmp_path / "book", dtype="float32").vlm.name == str(folder)
