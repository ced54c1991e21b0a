"""Modularity against networkx, and the selection on planted data."""

import json
import random
import zlib

import networkx as nx
import numpy as np
import pytest
import torch
from helpers.tiny import picture

from reasonedit import ReasonEditError
from reasonedit.commands import select as command
from reasonedit.design import Design
from reasonedit.embedding.layer_choice import score_layers, score_views
from reasonedit.embedding.layer_passes import make_ahead
from reasonedit.embedding.modularity import balance, modularity, pair_modularity, similarity
from reasonedit.embedding.select import WEIGHTS, select
from reasonedit.embedding.selection import SelectionConfig
from reasonedit.images.augment import augment


def squared(points):
    return torch.cdist(points, points).square()


def oracle(adjacency, communities):
    graph = nx.from_numpy_array(np.asarray(adjacency))
    sets = [set(np.nonzero(np.asarray(communities) == c)[0].tolist()) for c in sorted(set(communities.tolist()))]
    return nx.algorithms.community.modularity(graph, sets, weight="weight")


@pytest.mark.parametrize("neighbours", [None, 4])
@pytest.mark.parametrize("seed", range(3))
def test_modularity_is_that_of_networkx(seed, neighbours):
    generator = torch.Generator().manual_seed(seed)
    adjacency = similarity(squared(torch.randn(24, 5, generator=generator)), neighbours)
    communities = torch.randint(0, 4, (24,), generator=generator)
    assert modularity(adjacency, communities) == pytest.approx(oracle(adjacency, communities), abs=1e-6)


def test_edges_are_symmetric_never_negative_and_without_loops():
    adjacency = similarity(squared(torch.randn(30, 4, generator=torch.Generator().manual_seed(0))), 5)
    torch.testing.assert_close(adjacency, adjacency.T)
    assert float(adjacency.min()) >= 0
    assert float(adjacency.diagonal().abs().max()) == 0
    assert ((adjacency > 0).sum(1) >= 5).all()


@pytest.mark.parametrize("weight", [0.3, 1.0, 4.0])
def test_pairs_are_laid_out_as_the_embedding_lays_them_out(weight):
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(5, 3, generator=generator), torch.randn(4, 6, generator=generator)
    points = torch.stack([torch.cat([i, weight * t]) for i in images for t in texts])
    adjacency = similarity(squared(points))
    by_image = torch.tensor([i for i in range(5) for _ in range(4)])
    by_text = torch.tensor([t for _ in range(5) for t in range(4)])
    vision, language = pair_modularity(squared(images), squared(texts), weight)
    assert vision == pytest.approx(oracle(adjacency, by_image), abs=1e-6)
    assert language == pytest.approx(oracle(adjacency, by_text), abs=1e-6)


def test_planted_halves_give_the_modularity_they_must():
    generator = torch.Generator().manual_seed(0)
    apart, alike = 4 * torch.randn(8, 16, generator=generator), torch.zeros(8, 16)
    vision, language = pair_modularity(squared(apart), squared(alike), 1.0)
    assert vision > 0  # pictures alone shape the graph …
    assert language < 0  # … and texts do not at all
    vision, language = pair_modularity(squared(alike), squared(apart), 1.0)
    assert language > 0
    assert vision < 0
    assert balance(vision, language) == 0
    both = pair_modularity(squared(apart), squared(apart), 1.0)
    assert both[0] == pytest.approx(both[1], abs=1e-6)
    assert both[0] > 0


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_the_balance_is_where_both_halves_weigh_the_same(scale):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(10, 32, generator=generator)
    texts = images / scale  # the same clusters, so w must be the scale
    found = {w: balance(*pair_modularity(squared(images), squared(texts), w)) for w in WEIGHTS}
    best = max(found, key=found.get)
    assert best == pytest.approx(scale, rel=0.25)  # one step of the grid


class PlantedVLM:
    """Three layers: noise; what picture it is, with some noise; what picture it is, drowned in noise."""

    name = "planted"
    fingerprint = {"architecture": "planted"}  # noqa: RUF012
    vision_layers = ["noise", "right", "drowned"]  # noqa: RUF012
    language_layers: list[str] = []  # noqa: RUF012
    passes = 0

    def check_layer(self, name):
        assert name in self.vision_layers

    def see(self, images, layers=()):
        from reasonedit.vlm import Seen, Vision

        self.passes += len(images)
        identity = torch.tensor([[*np.asarray(i.resize((2, 2)), dtype=np.float32).ravel()] for i in images]) / 64
        seeds = [torch.Generator().manual_seed(zlib.crc32(image.tobytes())) for image in images]
        noise = torch.stack([torch.randn(4, 12, generator=generator) for generator in seeds])
        planted = {"noise": noise, "right": identity[:, None] + 0.1 * noise, "drowned": identity[:, None] + 3 * noise}
        each = [{k: planted[k][i].view(2, 2, -1) for k in layers} for i in range(len(images))]
        return Vision([Seen(torch.zeros(4, 1), mine, "", 4) for mine in each])


def by_hand(distances, own):
    """Views found, AUC and margin by plain loops."""
    found, auc, margin = [], [], []
    for row, mine in zip(distances.tolist(), own.tolist(), strict=True):
        others = [d for i, d in enumerate(row) if i != mine]
        tied, nearer = sum(d == row[mine] for d in others), sum(d < row[mine] for d in others)
        found.append(0 if nearer else 1 / (1 + tied))
        auc.append(sum(1.0 if d > row[mine] else 0.5 if d == row[mine] else 0.0 for d in others) / len(others))
        margin.append((np.mean(others) - row[mine]) / np.std(others, ddof=1))
    return np.mean(found), np.mean(auc), np.mean(margin)


@pytest.mark.parametrize("coarse", [False, True])
def test_views_are_scored_as_plain_loops_score_them(coarse):
    generator = torch.Generator().manual_seed(0)
    distances, own = torch.rand(9, 6, generator=generator).double(), torch.randint(0, 6, (9,), generator=generator)
    if coarse:  # many ties
        distances = (3 * distances).round()
    assert score_views(distances, own) == pytest.approx(by_hand(distances, own), rel=1e-6)


def test_a_layer_that_sees_nothing_finds_no_more_than_chance():
    distances, own = torch.ones(8, 8), torch.arange(8)
    assert score_views(distances, own) == pytest.approx((1 / 8, 0.5, 0))


def test_views_find_the_planted_layer_without_texts_or_labels():
    vlm = PlantedVLM()
    pictures = [picture(i) for i in range(10)]
    scores = score_layers(vlm, pictures, transforms=("raw", "whitened"))
    assert max(scores, key=lambda score: score.rank).layer == "right"
    found = {(score.layer, score.transform): score.found for score in scores}
    assert found["right", "raw"] > found["drowned", "raw"]
    assert vlm.passes == 2 * 4 * 10 + 10  # two views of each quarter, and each picture for the whitening
    assert score_layers(PlantedVLM(), pictures, transforms=("raw", "whitened")) == scores
    with pytest.raises(ReasonEditError, match="4 pictures or more"):
        score_layers(vlm, pictures[:3])


@pytest.mark.parametrize("transform", ["raw", "whitened"])
def test_a_layer_of_numbers_that_are_not_finite_is_no_best_one(monkeypatch, transform):
    """As float16 makes them of some pictures: nothing is nearer than a distance that is none."""
    see = PlantedVLM.see

    def overflows(self, images, layers=()):
        vision = see(self, images, layers)
        vision.images[-1].layers["noise"][0, 0, 0] = torch.inf
        return vision

    monkeypatch.setattr(PlantedVLM, "see", overflows)
    with pytest.raises(ReasonEditError, match="activations of the layer 'noise' are not finite"):
        score_layers(PlantedVLM(), [picture(i) for i in range(10)], transforms=(transform,))


def test_many_pictures_are_looked_at_in_part():
    vlm = PlantedVLM()
    score_layers(vlm, [picture(i) for i in range(600)])
    assert vlm.passes == 2 * 256


@pytest.mark.parametrize("criterion", ["views", "modularity"])
def test_the_selection_finds_the_planted_layer_from_one_pass_per_picture(hash_encoder, criterion):
    vlm = PlantedVLM()
    pairs = [(picture(i), f"question about {'abcdefghijkl'[i]} number {i}") for i in range(12)]
    config = SelectionConfig(layer_sample=6, weight_sample=6, runs=4, criterion=criterion)
    found = select(vlm, pairs, config)
    assert found.embedding.layer == "right"
    by_layer = {s.layer: s.mean for s in found.layers}
    assert by_layer["right"] > by_layer["drowned"] > by_layer["noise"]
    # Each picture and copy once, the reference pictures, and two views of each quarter.
    assert vlm.passes == 12 * 6 + 128 + 2 * 4 * 12
    assert 0 < found.embedding.text_weight < 10
    again = select(PlantedVLM(), pairs, config)
    assert (again.layers, again.weights) == (found.layers, found.weights)


def test_q_of_a_layer_is_that_of_networkx_on_the_layer_alone(hash_encoder):
    """Bimodal Q knows nothing of the texts: other texts leave it as it is, and an independent graph gives the same."""
    pictures, copies = [picture(i) for i in range(6)], 5
    config = SelectionConfig(layer_sample=copies, weight_sample=4, runs=1)
    layers = [
        select(PlantedVLM(), [(p, f"{word} {i}") for i, p in enumerate(pictures)], config).layers
        for word in ("colour of", "how many of")
    ]
    assert layers[0] == layers[1]
    made = [
        augment(p, random.Random(f"0-{n}-{which}")) if which else p
        for n, p in enumerate(pictures)
        for which in range(copies)
    ]
    drawn = random.Random("0-layers").sample(range(6), copies)
    rows = [number * copies + which for number in drawn for which in range(copies)]
    points = torch.stack([t.flatten(0, 1).mean(0) for t in PlantedVLM().see(made, ["right"]).layer("right")])[rows]
    gaps = np.linalg.norm(points.double().numpy()[:, None] - points.double().numpy()[None], axis=-1) ** 2
    between = np.sort(gaps[~np.eye(len(rows), dtype=bool)])
    weights = np.exp(-gaps / (2 * between[round(0.02 * len(between)) - 1]))
    np.fill_diagonal(weights, 0)
    expected = oracle(weights, torch.arange(len(rows)) // copies)
    assert next(s.mean for s in layers[0] if s.layer == "right") == pytest.approx(expected, abs=1e-4)


def test_an_unknown_criterion_is_refused():
    with pytest.raises(ReasonEditError, match="criterion must be views or modularity"):
        SelectionConfig(criterion="q")


@pytest.mark.parametrize("neighbours", [0, -3])
def test_a_selection_without_neighbours_is_refused_before_the_model_is_loaded(neighbours):
    with pytest.raises(ReasonEditError, match=f"neighbours must be 1 or more, not {neighbours}"):
        command.main(["--model", "nowhere/at-all", "--neighbours", str(neighbours)])


def test_images_are_made_in_their_order_and_few_ahead():
    made = []

    def job(number):
        def make():
            made.append(number)
            return number

        return make

    images = make_ahead([job(number) for number in range(500)])
    assert next(images) == 0
    assert len(made) < 150
    assert list(images) == list(range(1, 500))
    assert sorted(made) == list(range(500))


def test_the_command_writes_a_choice_that_others_read(tiny_folder, tmp_path, hash_encoder, capsys):
    pairs = tmp_path / "pairs.jsonl"
    for i in range(6):
        picture(i).save(tmp_path / f"{i}.png")
    pairs.write_text("".join(json.dumps({"image": f"{i}.png", "question": f"What is {i}?"}) + "\n" for i in range(6)))
    sizes = ["--layer-sample", "4", "--weight-sample", "4", "--runs", "2", "--dtype", "float32"]
    out = tmp_path / "selected"
    command.main(["--model", str(tiny_folder), "--encoder", "hash", "--pairs", str(pairs), "--out", str(out), *sizes])
    assert "chosen by views: layer" in capsys.readouterr().out
    saved = json.loads((out / "selection.json").read_text())
    assert len(saved["layers"]) == 5
    design = Design.load(out / "selection.json")
    best = max(saved["layers"], key=lambda s: (s["found"], s["auc"], s["margin"]))
    assert design.embedding.layer == best["layer"]
    assert design.embedding.text_weight == max(saved["weights"], key=lambda s: s["balance"])["weight"]
    for name in ("layers.png", "weights.png"):
        assert (out / name).stat().st_size > 10_000
    pairs.write_text(pairs.read_text().splitlines()[0])
    with pytest.raises(ReasonEditError, match="at least 4 pairs"):
        command.main(["--model", str(tiny_folder), "--encoder", "hash", "--pairs", str(pairs), *sizes])
    pairs.write_text('{"picture": "x"}')
    with pytest.raises(ReasonEditError, match="Line 1 of"):
        command.main(["--pairs", str(pairs)])


def test_designs_are_checked_by_name(tmp_path):
    with pytest.raises(ReasonEditError, match="embedding has no 'layr': it has layer, text_weight"):
        Design.from_dict({"embedding": {"layr": "x"}})
    with pytest.raises(ReasonEditError, match="cannot be read"):
        Design.load(tmp_path / "none.json")
    made = Design.from_dict({"writing": {"keys": "grounded"}})
    assert Design.from_dict(made.to_dict()) == made
