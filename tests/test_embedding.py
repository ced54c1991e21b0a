"""The dual embedding, half by half."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny import HashEncoder, picture
from PIL import Image

from reasonedit import EmbeddingConfig, ReasonEditError
from reasonedit.boxes import WHOLE
from reasonedit.embedding import QUERY_REGIONS, DualEmbedder, SentenceEncoder, Statistics, pool, reference_images
from reasonedit.embedding.config import NO_LAYER
from reasonedit.embedding.reference import reference_things
from reasonedit.embedding.statistics import SHRINKAGE, ReferenceTokens
from reasonedit.embedding.views import PARTS, VIEWS, views_of_parts, views_of_region
from reasonedit.evidence import crop


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_an_embedding_is_the_scaled_layer_and_the_weighted_sentence(tiny_vlm, weight):
    layer = tiny_vlm.vision_layers[1]
    embedder = DualEmbedder(tiny_vlm, EmbeddingConfig(layer, weight, "hash"), HashEncoder())
    images, texts = [picture(1), picture(2)], ["a cat sleeps", "two dogs"]
    found = embedder.embed(embedder.see(images), texts)
    pooled = torch.stack([tokens.flatten(0, 1).mean(0) for tokens in tiny_vlm.see(images, [layer]).layer(layer)])
    torch.testing.assert_close(
        found, torch.cat([pooled / embedder.statistics.scale, weight * HashEncoder().encode(texts)], 1)
    )


def test_the_scale_is_the_distance_of_unrelated_pictures(tiny_vlm, tiny_embedder):
    images = reference_images("patterns")
    halves = tiny_embedder.embed(tiny_embedder.see(images), ["same"] * len(images))
    squared = [float((a - b).square().sum()) for i, a in enumerate(halves) for b in halves[:i]]
    assert sum(squared) / len(squared) == pytest.approx(1, rel=1e-4)


def test_the_layer_is_the_projector_unless_named(tiny_vlm, tiny_embedder):
    assert tiny_embedder.layer == tiny_vlm.projector == "model.multi_modal_projector"
    assert tiny_embedder.fingerprint["layer"] == tiny_vlm.projector


def test_a_fingerprint_tells_models_apart(tiny_vlm, tmp_path):
    import shutil

    from helpers.tiny import save_tiny_llava
    from safetensors.torch import load_file, save_file

    from reasonedit.vlm import load_vlm

    same = load_vlm(str(save_tiny_llava(tmp_path / "same")), dtype="float32")
    assert same.fingerprint == tiny_vlm.fingerprint
    shutil.copytree(tmp_path / "same", tmp_path / "other")
    weights = {k: v + 0.1 for k, v in load_file(tmp_path / "same" / "model.safetensors").items()}
    save_file(weights, tmp_path / "other" / "model.safetensors", {"format": "pt"})
    assert load_vlm(str(tmp_path / "other"), dtype="float32").fingerprint != tiny_vlm.fingerprint


def test_special_tokens_do_not_move_an_embedding(tiny_embedder):
    vision = tiny_embedder.see([picture(0)])
    assert torch.equal(tiny_embedder.embed(vision, ["a <image>cat"]), tiny_embedder.embed(vision, ["a cat"]))


def test_the_embedded_encoder_is_normalised_and_means_something():
    encoder = SentenceEncoder.from_pretrained()
    cat, kitten, tax = encoder.encode(["A cat sleeps.", "A kitten is asleep.", "The tax rate rose."])
    assert float(cat.norm()) == pytest.approx(1, abs=1e-5)
    assert cat @ kitten > cat @ tax + 0.3


def test_bad_arguments_are_refused(tiny_vlm):
    with pytest.raises(ReasonEditError, match="text_weight must be 0 or more"):
        EmbeddingConfig(text_weight=-1)
    with pytest.raises(ReasonEditError, match="There is no sentence encoder 'no/such'"):
        SentenceEncoder.from_pretrained("no/such")
    with pytest.raises(ReasonEditError, match="transform must be one of raw, whitened, discriminant, not 'white'"):
        EmbeddingConfig(transform="white")
    with pytest.raises(ReasonEditError, match="nothing is left to embed"):
        EmbeddingConfig(layer=NO_LAYER, text_weight=0)
    near = r"no layer 'model.multi_modal_projecter'. Did you mean: model.multi_modal_projector"
    with pytest.raises(ReasonEditError, match=near):
        DualEmbedder(tiny_vlm, EmbeddingConfig("model.multi_modal_projecter", encoder="hash"), HashEncoder())
    with pytest.raises(ReasonEditError, match="There are fewer than two reference images in 'nowhere'"):
        reference_images("nowhere")


def test_static_embeddings_embed_sentences(caplog):
    """Their tokenizer is one of tokenizers itself, and they read texts of any length."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2, "dog": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)])
    encoder = SentenceEncoder(model, "static")
    found = encoder.encode(["the cat", "the dog " * 5000])
    expected = torch.nn.functional.normalize(torch.tensor(model.encode(["the cat", "the dog"])), dim=1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    assert encoder.identity == SentenceEncoder(model, "static").identity
    with pytest.raises(ReasonEditError, match="'static' knows no word of 'a kettle'"):
        encoder.encode(["a kettle"])
    encoder.languages = ("en",)
    with caplog.at_level("WARNING"):
        encoder.encode(["the cat \u0427\u0442\u043e"])
    assert "'static', made for the language en, tells texts like" in caplog.text


def test_last_token_pooling_takes_the_last_token(tiny_vlm):
    layer = tiny_vlm.vision_layers[0]
    embedder = DualEmbedder(tiny_vlm, EmbeddingConfig(layer, 0.0, "hash", pooling="last"), HashEncoder())
    found = embedder.embed(embedder.see([picture(1)]), ["x"])[0, :32]
    token = tiny_vlm.see([picture(1)], [layer]).layer(layer)[0][-1, -1]
    torch.testing.assert_close(found * embedder.statistics.scale, token)


def test_the_sentence_half_alone_and_a_language_layer_alone(tiny_vlm):
    text = DualEmbedder(tiny_vlm, EmbeddingConfig(NO_LAYER, 1.0, "hash"), HashEncoder())
    torch.testing.assert_close(text.embed(text.see([picture(0)]), ["a cat"]), HashEncoder().encode(["a cat"]))
    layer = tiny_vlm.language_layers[1]
    embedder = DualEmbedder(tiny_vlm, EmbeddingConfig(layer, 0.0, "hash"), HashEncoder())
    ran = []
    hooks = [
        tiny_vlm.model.get_submodule(name).register_forward_hook(lambda *_, n=name: ran.append(n))
        for name in tiny_vlm.language_layers
    ]
    texts = ["What is it?", "Which of the many things is the largest?"]
    together = embedder.embed(embedder.see([picture(1), picture(2)]), texts)
    assert set(ran) == {tiny_vlm.language_layers[0]}  # it stopped at the layer that was asked for
    for hook in hooks:
        hook.remove()
    for i, text in enumerate(texts):  # padding does not count: alone it is the same
        inputs = tiny_vlm.processor(images=[picture(i + 1)], text=[tiny_vlm.prompt(text)], return_tensors="pt")
        with torch.inference_mode():
            states = tiny_vlm.model(**inputs, output_hidden_states=True).hidden_states[1][0]
        scale = embedder.statistics.scale
        torch.testing.assert_close(together[i, :48] * scale, states.mean(0), atol=1e-5, rtol=1e-4)


def test_regions_cover_the_picture_and_overlap():
    assert len(QUERY_REGIONS) == 9
    places = [((x + 0.5) / 200, (y + 0.5) / 200) for x in range(200) for y in range(200)]
    holds = [sum(l <= x < r and t <= y < b for l, t, r, b in QUERY_REGIONS) for x, y in places]  # noqa: E741
    assert min(holds) == 1
    assert max(holds) == 4
    assert sum(h > 1 for h in holds) > 0.3 * len(holds)
    for number, (left, top, right, bottom) in enumerate(QUERY_REGIONS):
        assert (right - left, bottom - top) == pytest.approx((0.4, 0.4))
        assert (left, top) == pytest.approx((0.3 * (number % 3), 0.3 * (number // 3)))
    assert QUERY_REGIONS[8][2:] == pytest.approx((1, 1))
    # Whatever is no larger than their overlap, a tenth of the picture, is whole in one.
    for x, y in places[::7]:
        thing = (min(x, 0.9), min(y, 0.9), min(x, 0.9) + 0.1, min(y, 0.9) + 0.1)
        assert any(
            box[0] <= thing[0] + 1e-9
            and box[1] <= thing[1] + 1e-9
            and box[2] >= thing[2] - 1e-9
            and box[3] >= thing[3] - 1e-9
            for box in QUERY_REGIONS
        )


def test_regions_are_means_of_their_own_tokens():
    tokens = torch.arange(100.0).view(10, 10, 1)
    regions = pool(tokens, QUERY_REGIONS)[:, 0]
    for number, found in enumerate(regions):
        row, column = 3 * (number // 3), 3 * (number % 3)
        assert found == tokens[row : row + 4, column : column + 4].mean()
    assert pool(tokens, [WHOLE])[0, 0] == tokens.mean()
    assert pool(tokens, [(0.99, 0.99, 1.0, 1.0)])[0, 0] == 99  # never no token at all
    with pytest.raises(ReasonEditError, match="no regions"):
        pool(tokens.flatten(0, 1), QUERY_REGIONS)


def test_regions_of_a_picture_that_was_cut_are_where_they_were():
    tokens = torch.arange(36.0).view(6, 6, 1)  # the middle two thirds of a picture half as wide again as high
    view = (1 / 6, 0.0, 5 / 6, 1.0)
    assert pool(tokens, [(0.5, 0.0, 5 / 6, 1.0)], view)[0, 0] == tokens[:, 3:].mean()
    assert pool(tokens, [(1 / 6, 0.5, 0.5, 1.0)], view)[0, 0] == tokens[3:, :3].mean()
    assert pool(tokens, [(0.0, 0.0, 1 / 6, 1.0)], view)[0, 0] == tokens[:, 0].mean()  # cut off: what is next to it


def reference_tokens(pictures, regions=None):
    reference = ReferenceTokens()
    for i, tokens in enumerate(pictures):
        reference.add(tokens, None if regions is None else regions[i])
    return reference


def whitened_by_hand(regions, views, count=96):
    """The map of differences of regions that whitening makes, by a dense covariance in double precision."""
    centred = regions - regions.mean(0)
    covariance = centred.T @ centred / (len(regions) - 1)
    spread = np.trace(covariance)
    if views is not None:
        moved = (views - views.mean(1, keepdims=True)).reshape(-1, views.shape[-1])
        covariance = covariance + 10 * moved.T @ moved / (len(views) * (views.shape[1] - 1))
    values, directions = np.linalg.eigh(covariance)
    rows = len(regions) + (0 if views is None else views.shape[0] * views.shape[1])
    kept = min(count, regions.shape[1], rows)
    values, directions = values[-kept:], directions[:, -kept:]
    there = values > 1e-9 * values[-1]
    values, directions = values[there], directions[:, there]
    return directions / (values + 0.01 * spread / kept) @ directions.T


@pytest.mark.parametrize("in_colours", [False, True])
@pytest.mark.parametrize(
    ("pictures", "width"), [(40, 12), (40, 100), (3, 100), (12, 300)], ids=["dense", "most", "few", "few-most"]
)
def test_whitening_is_that_of_a_dense_covariance(pictures, width, in_colours):
    """With more rows than dimensions and with fewer, with more directions than are kept and with fewer."""
    rng = np.random.default_rng(0)
    regions = rng.normal(size=(pictures, 9, width)) * np.linspace(0.1, 5, width) + 20
    views = rng.normal(size=(pictures, 2, 4, width)) * np.linspace(3, 0.1, width) if in_colours else None
    reference = ReferenceTokens()
    for i in range(pictures):
        coloured = None if views is None else torch.from_numpy(views[i]).float()
        reference.add(torch.zeros(2, 2, width), torch.from_numpy(regions[i]).float(), coloured)
    statistics = Statistics.of(reference, "whitened")
    expected = whitened_by_hand(regions.reshape(-1, width), None if views is None else views.reshape(-1, 4, width))
    found = statistics.projection.double().numpy()
    np.testing.assert_allclose(found @ found.T, expected, atol=2e-5 * np.abs(expected).max())
    np.testing.assert_allclose(statistics.mean.numpy(), regions.reshape(-1, width).mean(0), rtol=1e-4)
    white = statistics.apply(torch.from_numpy(regions[:, 0]).float(), "whitened")
    torch.testing.assert_close(white.norm(dim=1) * statistics.scale, torch.ones(pictures))


def test_whitening_makes_every_direction_count_alike():
    """But for what varies little: at 100, 10, 1 and 0.1 times a unit the floor of 0.01 of the mean is far above two."""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q
    for stretch, alike in (([100.0, 90, 80, 70], [1, 1, 1, 1]), ([100.0, 100, 100, 0.001], [1, 1, 1, 0])):
        regions = (torch.randn(500, 9, 4, generator=generator) @ torch.tensor(stretch).diag() @ mixed) + 7
        statistics = Statistics.of(reference_tokens(regions.view(500, 3, 3, 4), regions), "whitened")
        plain = (regions.reshape(-1, 4) - statistics.mean) @ statistics.projection
        varies = torch.cov(plain.T).diag().sort(descending=True).values
        torch.testing.assert_close(varies, torch.tensor(alike).float(), atol=0.03, rtol=0)


def test_a_direction_in_which_views_move_counts_less():
    rng = np.random.default_rng(0)
    reference = ReferenceTokens()
    for _ in range(60):
        regions = torch.from_numpy(rng.normal(size=(9, 6))).float()
        views = torch.zeros(2, 4, 6) + torch.from_numpy(rng.normal(size=(2, 1, 6))).float()
        views[:, :, 0] += torch.from_numpy(rng.normal(size=(2, 4))).float()
        reference.add(torch.zeros(2, 2, 6), regions, views)
    gain = Statistics.of(reference, "whitened").projection.norm(dim=1)
    torch.testing.assert_close(gain[1:], torch.ones(5), atol=0.1, rtol=0)
    assert float(gain[0]) == pytest.approx((1 + 10) ** -0.5, rel=0.1)


def test_pictures_that_are_all_alike_in_a_layer_blow_nothing_up():
    one = torch.randn(3, 3, 50, generator=torch.Generator().manual_seed(0))
    rounded = [one + 1e-6 * torch.randn(3, 3, 50, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    statistics = Statistics.of(reference_tokens(rounded), "whitened")
    assert torch.isfinite(statistics.projection).all()
    assert torch.isfinite(statistics.cohort).all()


def test_what_was_added_comes_back_from_its_tensors():
    generator = torch.Generator().manual_seed(0)

    def some(count, with_views):
        made = ReferenceTokens()
        for _ in range(count):
            views = torch.randn(2, 4, 5, generator=generator) if with_views else None
            made.add(torch.randn(6, 6, 5, generator=generator), None, views)
        return made

    for with_views in (False, True):
        first, second = some(3, with_views), some(2, with_views)
        merged = ReferenceTokens()
        for part in (ReferenceTokens(), first, second):
            merged.merge(ReferenceTokens.of_tensors(part.tensors()))
        for name in ("wholes", "regions", "views"):
            expected = getattr(first, name) + getattr(second, name)
            assert len(expected) == (0 if name == "views" and not with_views else 5)
            assert all(torch.equal(a, b) for a, b in zip(getattr(merged, name), expected, strict=True)), name
    assert ReferenceTokens().tensors() == {}


def test_views_of_parts_are_the_same_again_and_differ_in_place_size_and_colour():
    shown = Image.effect_noise((90, 60), 80).convert("RGB")
    views = views_of_parts(shown)
    assert views == views_of_parts(shown.copy())
    assert views != views_of_parts(shown.rotate(180))
    assert len(views) == PARTS * VIEWS
    for part in range(PARTS):
        same = views[part * VIEWS : (part + 1) * VIEWS]
        assert len({view.size for view in same}) > 1
        assert len({view.tobytes() for view in same}) == VIEWS
    # Of a picture of one hue and brightness only the hue, and a little of the brightness, is left to differ.
    plain = views_of_parts(Image.new("RGB", (96, 96), (180, 40, 40)))
    hues, values = np.array([v.convert("HSV").getpixel((0, 0)) for v in plain]).T[[0, 2]]
    assert max(hues) - min(hues) > 40
    assert max(values) - min(values) < 120


def test_views_of_a_region_keep_its_middle_and_stay_in_the_picture():
    """A white dot in the middle of a black region, anywhere in the picture, is in every view of it."""
    for region in ((0.0, 0.0, 0.3, 0.3), (0.4, 0.5, 0.6, 0.7), (0.75, 0.6, 1.0, 1.0)):
        shown = Image.new("RGB", (200, 100))
        middle = (round(100 * (region[0] + region[2])), round(50 * (region[1] + region[3])))
        shown.paste("white", (middle[0] - 2, middle[1] - 2, middle[0] + 2, middle[1] + 2))
        views = views_of_region(shown, region, 20)
        assert views == views_of_region(shown, region, 20)
        assert views[:3] == views_of_region(shown, region, 3)
        for view in views:
            assert np.asarray(view).max() > 150
            for axis, whole in enumerate((200, 100)):
                side = whole * (region[axis + 2] - region[axis])
                assert side - 1 <= view.size[axis] <= min(whole, 1.4 * side + 1)
        assert len({view.size for view in views}) > 10
    whole = views_of_region(shown, WHOLE, 2)
    assert [view.size for view in whole] == [shown.size] * 2


def test_a_region_seen_several_times_has_the_mean_of_its_views(tiny_vlm):
    for transform in ("raw", "whitened"):
        config = EmbeddingConfig("image_features", encoder="hash", transform=transform)
        embedder = DualEmbedder(tiny_vlm, config, HashEncoder())
        reference = ReferenceTokens()
        embedder.read([picture(i) for i in range(20)], reference)
        embedder.use(embedder.measure(reference))
        views = embedder.see([picture(30 + i) for i in range(3)])
        halves = torch.cat(embedder.embed_regions(views, [[WHOLE]] * 3))
        torch.testing.assert_close(embedder.embed_views(views.select([1])), halves[1])
        found, mean = embedder.embed_views(views), halves.mean(0)
        if transform == "raw":
            torch.testing.assert_close(found, mean)
        else:  # of the length that all vision halves have
            torch.testing.assert_close(found / found.norm(), mean / mean.norm())
            torch.testing.assert_close(found.norm(), halves[2].norm())


def test_only_whitening_looks_at_views_of_parts(tiny_vlm):
    def read(transform, count):
        embedder = DualEmbedder(
            tiny_vlm, EmbeddingConfig("image_features", encoder="hash", transform=transform), HashEncoder()
        )
        reference = ReferenceTokens()
        embedder.read([picture(i) for i in range(count)], reference)
        return reference

    plain = read("raw", 3)
    assert (len(plain.regions), plain.views) == (3, [])
    coloured = read("whitened", 3)
    assert [tuple(v.shape) for v in coloured.views] == [(PARTS, VIEWS, 48)] * 3
    for i, views in enumerate(coloured.views):
        seen = tiny_vlm.see(views_of_parts(picture(i)), ["image_features"]).layer("image_features")
        by_hand = torch.stack([tokens.flatten(0, 1).float().mean(0) for tokens in seen])
        torch.testing.assert_close(views.flatten(0, 1), by_hand, atol=1e-5, rtol=1e-4)


def test_discriminants_solve_fishers_eigenproblem():
    from scipy.linalg import eigh

    rng = np.random.default_rng(0)
    spread = np.linalg.qr(rng.normal(size=(6, 6)))[0] * [60, 40, 3, 3, 3, 3]  # of one thing, far above that of things
    centres, things = 10 * rng.normal(size=(12, 6)), np.repeat(np.arange(12), 20)
    pooled = centres[things] + rng.normal(size=(240, 6)) @ spread.T
    seen = reference_tokens(torch.from_numpy(pooled[:45]).float().view(5, 3, 3, 6))
    statistics = Statistics.of(seen, "discriminant", (torch.from_numpy(pooled), torch.from_numpy(things)))
    means = np.stack([pooled[things == i].mean(0) for i in range(12)])

    def shrunk(points):
        covariance = np.cov(points.T, bias=True)
        return (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / 6 * np.eye(6)

    within = shrunk(pooled - means[things])
    _, expected = eigh(shrunk(pooled) - within, within)  # the best come last
    found = statistics.projection.double().numpy()
    np.testing.assert_allclose(np.abs(found.T @ within @ expected[:, ::-1]), np.eye(6), atol=1e-4)

    def error(vectors):  # share of pictures that are nearest to one of another thing
        distances = torch.cdist(vectors, vectors).fill_diagonal_(torch.inf)
        return float((things[distances.argmin(1).numpy()] != things).mean())

    points = torch.from_numpy(pooled).float()
    assert error(statistics.apply(points, "discriminant")) < 0.7 * error(points)


def test_things_of_the_world_are_no_novel_kinds_and_the_same_each_time():
    pictures, shown = reference_things("world")
    assert len(pictures) == len(shown) == 5520
    assert len(set(shown)) == 1236
    assert {min(p.size) for p in pictures} > {15, 24}  # in several sizes
    assert max(max(p.size) for p in pictures) < 48
    again, _ = reference_things("world")
    assert pictures == again


def test_statistics_are_measured_once_for_a_model_and_a_named_reference(tiny_vlm, tmp_path, monkeypatch):
    monkeypatch.setenv("REASONEDIT_CACHE", str(tmp_path))
    config = EmbeddingConfig("image_features", encoder="hash", transform="whitened")
    first = DualEmbedder(tiny_vlm, config, HashEncoder()).statistics
    (file,) = tmp_path.glob("statistics/*")
    seen = []
    see = type(tiny_vlm).see
    monkeypatch.setattr(type(tiny_vlm), "see", lambda *args: seen.append(1) or see(*args))
    second = DualEmbedder(tiny_vlm, config, HashEncoder()).statistics
    assert not seen
    for one, other in ((first.mean, second.mean), (first.projection, second.projection), (first.cohort, second.cohort)):
        assert torch.equal(one, other)
    assert first.scale == second.scale
    DualEmbedder(tiny_vlm, replace(config, transform="raw"), HashEncoder()).statistics  # noqa: B018
    assert seen  # others are their own
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(DualEmbedder(tiny_vlm, config, HashEncoder()).statistics.mean, first.mean)
    assert file.stat().st_size > 100  # what was damaged is made again


def test_things_come_from_folders(tmp_path):
    with pytest.raises(
        ReasonEditError, match="learns from pictures of things: 'patterns' should be 'world', or a folder"
    ):
        reference_things("patterns")
    for thing, count in (("cup", 2), ("hat", 3), ("one", 1)):
        (tmp_path / thing).mkdir()
        for i in range(count):
            picture(i).save(tmp_path / thing / f"{i}.png")
    pictures, shown = reference_things(str(tmp_path))
    assert shown == [0, 0, 1, 1, 1]
    assert pictures[3] == picture(1)
    assert len(reference_images(str(tmp_path))) == 6


@pytest.mark.parametrize("transform", ["raw", "whitened", "discriminant"])
def test_unrelated_pictures_lie_at_distance_one(tiny_vlm, transform):
    reference = "world" if transform == "discriminant" else "patterns"
    config = EmbeddingConfig("image_features", 0.0, "hash", transform=transform, reference=reference)
    embedder = DualEmbedder(tiny_vlm, config, HashEncoder())
    vision = embedder.see(reference_images(reference))
    boxes = [WHOLE] if transform == "raw" else list(QUERY_REGIONS)
    points = torch.cat(embedder.embed_regions(vision, [boxes] * len(vision)))
    squared = torch.pdist(points).square().mean()
    assert float(squared) == pytest.approx(1, rel=1e-3)


def test_query_regions_can_pass_the_vision_part_by_themselves(tiny_vlm):
    config = EmbeddingConfig("image_features", 1.0, "hash", transform="whitened", region_source="crops")
    embedder = DualEmbedder(tiny_vlm, config, HashEncoder())
    image = picture(3, size=96)
    seen = embedder.see([picture(1), image], regions=True)
    boxes = [QUERY_REGIONS[4], WHOLE, (0.0, 0.0, 1.0, 0.5)]
    found = embedder.embed_regions(seen, [[WHOLE], boxes])[1]
    alone = embedder.see([crop(image, QUERY_REGIONS[4])])
    torch.testing.assert_close(found[0], embedder.embed_regions(alone, [[WHOLE]])[0][0], atol=1e-5, rtol=1e-4)
    pooled = DualEmbedder(tiny_vlm, replace(config, region_source="pooled"), HashEncoder(), embedder.statistics)
    plain = pooled.embed_regions(pooled.see([image]), [boxes])[0]
    torch.testing.assert_close(found[1:], plain[1:], atol=1e-5, rtol=1e-4)  # nothing else changes
    assert not torch.allclose(found[0], plain[0], atol=1e-2)
    with pytest.raises(ReasonEditError, match="region_source must be one of pooled, crops"):
        EmbeddingConfig(region_source="none")


@pytest.fixture(scope="module")
def encoder():
    from reasonedit.embedding import SentenceEncoder

    return SentenceEncoder.from_pretrained()


WORDS = "Be careful. Look at every object in the picture, think about what it is used for, and answer in a word. "


def test_a_text_is_read_to_its_end(encoder):
    """256 tokens are read at once; the mean of the parts' embeddings against the model's own, part by part."""
    ends = ["What is the building used for?", "How many people own the boat on the lake?"]
    texts = [WORDS * 16 + end for end in ends]
    cut = encoder.model.encode(texts, normalize_embeddings=True)
    assert (cut[0] == cut[1]).all()
    found = encoder.encode([*texts, "short"])
    assert float((found[0] - found[1]).norm()) > 0.1
    for text, row in zip(texts, found, strict=False):
        parts = encoder._split(text)
        assert " ".join(parts) == text
        sizes = [len(encoder.model.tokenizer(p)["input_ids"]) for p in parts]
        assert max(sizes) <= 256
        assert len(parts) == 2  # as few as fit
        assert max(sizes) - min(sizes) < 20  # and about equal
        alone = torch.tensor(encoder.model.encode(parts, normalize_embeddings=True))
        torch.testing.assert_close(row, torch.nn.functional.normalize(alone.mean(0), dim=0), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[2], encoder.encode(["short"])[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("text", ["a", "ab " * 250, "ab " * 254, "ab " * 255, "ab " * 4000, "-" * 3000, "lamp" * 20])
def test_no_part_is_longer_than_what_is_read(encoder, text):
    parts = encoder._split(text)
    assert max(len(encoder.model.tokenizer(p)["input_ids"]) for p in parts) <= 256
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")
    assert encoder.encode([text]).shape == (1, 384)


def test_no_texts_have_no_embeddings(encoder):
    assert encoder.encode([]).shape == (0, 384)


@pytest.mark.parametrize("text", ["\ua9b2\ua98f\ua9b1\ua9ab", "\U0001f600\U0001f680", "x" * 300])
def test_a_text_of_which_no_word_is_known_is_refused(encoder, text):
    """Two such texts would be one key, at distance 0."""
    with pytest.raises(ReasonEditError, match="'embedded', made for the language en, knows no word of"):
        encoder.encode(["What is it?", text])


def test_the_language_of_an_encoder_is_said_once(caplog, tmp_path):
    from reasonedit.embedding import SentenceEncoder

    encoder = SentenceEncoder.from_pretrained()
    assert encoder.languages == ("en",)
    with caplog.at_level("WARNING"):
        encoder.encode(["What is it?", "a caf\u00e9", "?"])
        assert not caplog.records
        encoder.encode(["\u0427\u0442\u043e \u044d\u0442\u043e?"])
        encoder.encode(["\u0427\u0442\u043e \u044d\u0442\u043e?"])
    (warning,) = caplog.records
    assert "'embedded', made for the language en, tells texts like" in warning.getMessage()
    encoder.model.save(str(tmp_path / "encoder"))
    for card, languages in (("---\nlanguage:\n- de\n- en\n---\n", ("de", "en")), ("---\n{\n---\n", ()), ("", ())):
        (tmp_path / "encoder" / "README.md").write_text(card)
        assert SentenceEncoder.from_pretrained(str(tmp_path / "encoder")).languages == languages


def test_long_questions_that_differ_at_their_ends_are_two(tiny_vlm):
    from reasonedit import ReasonEditor
    from reasonedit.design import Design, WritingConfig

    editor = ReasonEditor(tiny_vlm, Design(writing=WritingConfig(keys="image")))
    first = editor.edit(picture(0), WORDS * 14 + "What is the building?", answer="a", reasoning=["It is a temple."])
    other = WORDS * 14 + "How many people own the boat on the lake?"
    assert editor.ask(picture(0), other).nearest > 0.05
    second = editor.edit(picture(0), other, answer="two", reasoning=["The boat has two owners."])
    assert first.id not in editor.edits[second.id].contradicts
