"""What sees for the keys of a VLM behind an endpoint: its own vision part, or a vision model by itself."""

import json
import math
import shutil

import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import picture, save_tiny_llava
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from reasonedit.embedding import DualEmbedder, EmbeddingConfig
from reasonedit.errors import InputError, NotFoundError, ReasonEditError, UnavailableError
from reasonedit.vlm import IMAGE_FEATURES, load_vlm
from reasonedit.vlm.endpoint.encoder import clean_text
from reasonedit.vlm.endpoint.load import load_encoder
from reasonedit.vlm.endpoint.names import EndpointSettings

SERVED = sorted(set(FAMILIES) - {"unknown", "blip2", "mllama", "instructblip_t5"})
SIZES = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}


def encoder(vision, dtype="float32"):
    return load_encoder(EndpointSettings("some", vision=str(vision)), dtype)


# ---- the VLM's own vision part


@pytest.mark.parametrize("family", SERVED)
def test_a_vision_part_by_itself_makes_the_same_keys(family, tmp_path):
    folder = FAMILIES[family](tmp_path)
    whole, part = load_vlm(str(folder), dtype="float32"), encoder(folder)
    assert part.vision_layers == whole.vision_layers
    assert part.projector == whole.projector
    images = [picture(1, 48), picture(2, 48)]
    seen, right = part.see(images, part.vision_layers), whole.see(images, whole.vision_layers)
    for name in whole.vision_layers:
        for mine, theirs in zip(seen.layer(name), right.layer(name), strict=True):
            assert torch.equal(mine, theirs), name
        assert part.key_parts(name) == whole.key_parts(name)
    assert part.clean("USER: <image> hi") == whole.clean("USER: <image> hi")
    language = part.model.get_submodule(whole.language_layers[-1])
    assert {p.device.type for p in language.parameters()} == {"meta"}  # it is not here


def save_in_shards(folder):
    model = load_vlm(str(folder), dtype="float32").model
    for file in folder.glob("*.safetensors"):
        file.unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    return json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]


def test_files_without_the_vision_part_are_not_even_opened(tmp_path):
    folder = save_tiny_llava(tmp_path / "model")
    right = load_vlm(str(folder), dtype="float32").see([picture(1)], [IMAGE_FEATURES])
    places = save_in_shards(folder)
    needed = {file for name, file in places.items() if "language" not in name and "lm_head" not in name}
    others = set(places.values()) - needed
    assert len(others) > 1
    for file in others:
        (folder / file).write_bytes(b"not a weight")
    seen = encoder(folder).see([picture(1)], [IMAGE_FEATURES])
    assert torch.equal(seen.layer(IMAGE_FEATURES)[0], right.layer(IMAGE_FEATURES)[0])


def test_what_holds_no_vision_part_is_refused(tmp_path):
    folder = save_tiny_llava(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    left = {name: weight for name, weight in weights.items() if "multi_modal_projector.linear_1" not in name}
    save_file(left, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"does not hold all of its weights: .*multi_modal_projector"):
        encoder(folder)
    shutil.rmtree(folder)
    with pytest.raises(NotFoundError, match="name it by vision="):
        encoder(folder)
    with pytest.raises(InputError, match="cannot be told from the rest"):
        encoder(FAMILIES["unknown"](tmp_path / "unknown"))


# ---- vision models by themselves


@pytest.fixture
def clip(tmp_path):
    """A tiny open_clip model, by its name."""
    import open_clip

    size = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    (tmp_path / "tiny-vision.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": size, "text_cfg": text}))
    open_clip.add_model_config(tmp_path / "tiny-vision.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny-vision").state_dict(), tmp_path / "weights.pt")
    return f"open_clip:tiny-vision/{tmp_path / 'weights.pt'}"


def save_vision(folder, kind):
    torch.manual_seed(0)
    sides = {"height": 32, "width": 32}
    made = {
        "siglip": (lambda: SiglipVisionModel(SiglipVisionConfig(**SIZES, intermediate_size=48)), SiglipImageProcessor),
        "clip": (lambda: CLIPVisionModel(CLIPVisionConfig(**SIZES, intermediate_size=48)), CLIPImageProcessor),
        "dinov2": (lambda: Dinov2Model(Dinov2Config(**SIZES, mlp_ratio=2)), CLIPImageProcessor),
    }[kind]
    made[0]().save_pretrained(folder)
    options = {"size": {"shortest_edge": 40}, "crop_size": sides} if made[1] is CLIPImageProcessor else {"size": sides}
    made[1](**options).save_pretrained(folder)
    return folder


@pytest.fixture(params=["open_clip", "siglip", "clip", "dinov2"])
def vision_model(request, tmp_path):
    if request.param == "open_clip":
        return request.getfixturevalue("clip")
    return save_vision(tmp_path / request.param, request.param)


def test_patches_stand_where_they_are_in_the_picture(vision_model):
    """What changes in one corner of a picture changes the patches of that corner the most in the first block."""
    made = encoder(vision_model)
    blocks = [name for name in made.vision_layers if name != IMAGE_FEATURES]
    assert made.vision_layers == [*blocks, IMAGE_FEATURES]
    assert made.projector == IMAGE_FEATURES
    first = picture(1, 64)
    second = first.copy()
    second.paste((255, 0, 0), (48, 0, 64, 16))  # the upper right of 4 x 4 patches
    before, after = (made.see([image], made.vision_layers).images[0] for image in (first, second))
    for name in made.vision_layers:
        assert before.layers[name].shape[:2] == (4, 4), name
    changes = (before.layers[blocks[0]] - after.layers[blocks[0]]).norm(dim=-1)
    assert divmod(int(changes.argmax()), 4) == (0, 3)
    assert float(changes.flatten().sort().values[-2]) < 0.5 * float(changes.max())  # nothing was cut off or moved


def test_what_leaves_a_vision_model_is_what_its_last_block_gives(tmp_path):
    """Against transformers' own hidden states."""
    folder = save_vision(tmp_path, "siglip")
    made, model = encoder(folder), SiglipVisionModel.from_pretrained(folder)
    pixels = SiglipImageProcessor.from_pretrained(folder)(images=[picture(3)], return_tensors="pt")
    with torch.inference_mode():
        states = model(**pixels, output_hidden_states=True).hidden_states
    seen = made.see([picture(3)], made.vision_layers).images[0]
    assert len(states) == len(made.vision_layers) == 4
    for name, theirs in zip(made.vision_layers, states, strict=True):
        assert torch.allclose(seen.layers[name].reshape(16, 32), theirs[0], atol=1e-5), name


def test_keys_hang_on_the_weights_and_on_the_preparation(tmp_path):
    folder = save_vision(tmp_path / "a", "siglip")
    parts = encoder(folder).key_parts(IMAGE_FEATURES)
    assert encoder(folder).key_parts(IMAGE_FEATURES) == parts
    assert encoder(folder, "bfloat16").key_parts(IMAGE_FEATURES) == parts
    shutil.copytree(folder, tmp_path / "b")
    SiglipImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.1] * 3).save_pretrained(tmp_path / "b")
    changed = encoder(tmp_path / "b").key_parts(IMAGE_FEATURES)
    assert {name for name in parts if parts[name] != changed[name]} == {"image_processor"}
    torch.manual_seed(5)
    SiglipVisionModel(SiglipVisionConfig(**SIZES, intermediate_size=48)).save_pretrained(tmp_path / "b")
    assert encoder(tmp_path / "b").key_parts(IMAGE_FEATURES)["vision_weights"] != parts["vision_weights"]


def test_they_embed_pictures_and_their_regions(vision_model, hash_encoder):
    """Statistics, regions and distances as for any VLM: what an embedder takes of a VLM is what an encoder gives."""
    made = encoder(vision_model)
    made.name, made.language_layers = "tiny", []
    made.check_layer = lambda name: None
    config = EmbeddingConfig(IMAGE_FEATURES, 1.0, "hash", transform="whitened", region_source="crops")
    embedder = DualEmbedder(made, config)
    vision = embedder.see([picture(1, 64), picture(2, 64)], regions=True)
    keys = embedder.embed(vision, ["a key", "a cup"])
    assert bool(torch.isfinite(keys).all())
    assert embedder.fingerprint["vision_weights"] == made.key_parts(IMAGE_FEATURES)["vision_weights"]
    same = embedder.embed(embedder.see([picture(1, 64)]), ["a key"])
    assert torch.allclose(keys[:1], same, atol=1e-4)
    assert math.dist(keys[0].tolist(), keys[1].tolist()) > 0.1


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("open_clip:ViT-B-32", InputError, "names no weights"),
        ("open_clip:no-such-thing/laion", UnavailableError, "is not available"),
        ("no/such-model", NotFoundError, "name it by vision="),
    ],
    ids=str,
)
def test_what_is_not_there_is_named(name, kind, message):
    with pytest.raises(kind, match=message) as caught:
        encoder(name)
    assert isinstance(caught.value, ReasonEditError)


def test_marks_of_prompts_are_taken_out_of_texts():
    for text in (
        "a<|im_end|>b",
        "a<|vision_<|im_end|>start|>b",
        "a[/INST]b",
        "a<start_of_turn>b",
        "a</s>b",
        "a<image>b",
    ):
        assert clean_text(text) == "ab"
    assert clean_text("ASSISTANT: no") == "ASSISTANT no"
    assert (
        clean_text("5 < 6 and 7 > 6; [a list]; the user said: yes") == "5 < 6 and 7 > 6; [a list]; the user said: yes"
    )
