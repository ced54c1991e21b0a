"""Scenes of the embedded world: things lie anywhere, in several sizes, and enough of each is seen to tell it."""

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from reasonedit.data.world.icons import draw_icon
from reasonedit.data.world.kinds import ICONS
from reasonedit.data.world.probe_samples import ProbeSamples
from reasonedit.data.world.questions import ask_about, subjects_of
from reasonedit.data.world.relations import RELATIONS
from reasonedit.data.world.scenes import (
    BACKGROUNDS,
    SIZE,
    WHOLE_PICTURE,
    Scene,
    Thing,
    _layout,
    neighbour,
    random_part,
    random_scene,
)


@pytest.fixture(scope="module")
def scenes():
    rng = random.Random(0)
    return [random_scene(rng) for _ in range(600)]


def pixels_of(box):
    """The pixels of a box or square, also those outside of the picture."""
    left, top, right, bottom = box
    return set(product(range(left, right), range(top, bottom)))


def test_icons_are_told_apart():
    drawn = {k: np.asarray(draw_icon(k, (200, 40, 40), 64)).astype(int) for k in ICONS}
    assert min(np.abs(drawn[a] - drawn[b]).mean() for i, a in enumerate(drawn) for b in list(drawn)[:i]) > 5


def test_boxes_hold_the_things_and_nothing_but_the_pictures_edge_cuts_them(scenes):
    for scene in scenes:
        assert scene.background in BACKGROUNDS
        for (x0, y0, x1, y1), (x, y, side) in zip(scene.boxes(), _layout(scene), strict=True):
            assert 0 <= x0 < x1 <= SIZE
            assert 0 <= y0 < y1 <= SIZE
            assert (x0, y0) == (max(x, 0), max(y, 0))
            assert (x1, y1) == (min(x + side, SIZE), min(y + side, SIZE))


def test_what_a_thing_changes_in_a_picture_lies_in_its_box(scenes):
    for scene in scenes[:40]:
        background = np.asarray(replace(scene, things=()).render()).astype(int)
        drawn = np.asarray(scene.render()).astype(int)
        inside = np.zeros((SIZE, SIZE), bool)
        for left, top, right, bottom in scene.boxes():
            inside[top:bottom, left:right] = True
        assert (drawn == background)[~inside].all()
        assert (drawn != background)[inside].any()


def test_the_centre_of_each_thing_lies_clearly_in_its_ninth(scenes):
    for scene in scenes:
        for thing, (x, y, side) in zip(scene.things, _layout(scene), strict=True):
            row, column = divmod(thing.place, 3)
            for centre, ninth in ((x + side / 2, column), (y + side / 2, row)):
                from_lines = min(abs(centre - line) for line in (32, 64))
                assert ninth == sum(centre > line for line in (32, 64))
                assert from_lines >= 2.5  # pixels


@pytest.mark.parametrize(("cells", "least"), [(3, 0.6), (4, 0.8)])
def test_most_things_lie_across_lines_of_any_grid(scenes, cells, least):
    lines = [SIZE * i / cells for i in range(1, cells)]
    boxes = [box for scene in scenes for box in scene.boxes()]
    across = [any(b[i] + 1 < line < b[i + 2] - 1 for i in (0, 1) for line in lines) for b in boxes]
    assert np.mean(across) > least


def test_things_come_in_all_sizes(scenes):
    sides = Counter(side for scene in scenes for _, _, side in _layout(scene))
    assert min(sides) >= 19
    assert max(sides) <= 42
    total = sum(sides.values())
    for low, high in pairwise((19, 25, 31, 37, 43)):
        assert sum(sides[s] for s in range(low, high)) > 0.15 * total


def test_things_lie_across_the_edge_of_the_picture_by_a_fifth_at_most(scenes):
    beyond = [max(-x, -y, x + side - SIZE, y + side - SIZE) / side for s in scenes for x, y, side in _layout(s)]
    assert max(beyond) <= 0.2 + 0.5 / 19  # to the next pixel
    assert np.mean([share > 0 for share in beyond]) > 0.3


def test_some_things_are_partly_hidden_and_none_by_more_than_a_quarter(scenes):
    hidden = []
    for scene in scenes:
        pixels = [pixels_of(box) for box in scene.boxes()]
        hidden += [len(p & set().union(*pixels[i + 1 :])) / len(p) for i, p in enumerate(pixels)]
    assert max(hidden) <= 0.25
    assert np.mean([share > 0.05 for share in hidden]) > 0.05


def test_a_part_shows_most_of_a_thing_or_hardly_any(scenes):
    rng = random.Random(1)
    parts = [random_part(rng, scene) for scene in scenes]
    for scene, (part, shown) in zip(scenes, parts, strict=True):
        assert pixels_of(part) <= pixels_of(WHOLE_PICTURE)
        for thing, box in zip(scene.things, scene.boxes(), strict=True):
            share = len(pixels_of(box) & pixels_of(part)) / len(pixels_of(box))
            assert share >= 0.6 if thing in shown else share <= 0.2
        assert [t for t in scene.things if t in shown] == list(shown)
    across = np.array([part[2] - part[0] for part, _ in parts])
    assert min(across) >= SIZE / 4
    assert np.ptp(across) > SIZE / 2
    assert len({part[:2] for part, _ in parts}) > 300  # at no fixed places
    assert np.mean([len(shown) for _, shown in parts]) > 0.5


def test_next_to_a_thing_is_the_one_that_everybody_would_name(scenes):
    """Against all pairs, measured by hand."""
    found = 0
    for scene in scenes:
        centres = [np.array([x + side / 2, y + side / 2]) for x, y, side in _layout(scene)]
        for i, thing in enumerate(scene.things):
            ranked = sorted((np.linalg.norm(centres[i] - c), j) for j, c in enumerate(centres) if j != i)
            sharing = []
            for _, j in ranked:
                rows, columns = np.subtract(divmod(thing.place, 3), divmod(scene.things[j].place, 3))
                if sorted((abs(rows), abs(columns))) == [0, 1]:
                    sharing.append(j)
            alone = len(sharing) == 1 and ranked[0][1] == sharing[0]
            clear = alone and (len(ranked) == 1 or ranked[1][0] > 1.3 * ranked[0][0])
            assert neighbour(scene, thing) == (scene.things[sharing[0]] if clear else None)
            found += clear
    assert found > 200


def test_nothing_is_next_to_what_has_two_neighbours_or_none():
    middle, above, below, corner = (Thing(k, c, p) for k, c, p in (
        ("kettle", "red", 4), ("key", "blue", 1), ("boat", "green", 7), ("bell", "white", 0)
    ))  # fmt: skip
    for seed in range(20):
        assert neighbour(Scene((middle, above, below), "plain", seed), middle) is None
        assert neighbour(Scene((middle, corner), "plain", seed), middle) is None
        assert neighbour(Scene((middle,), "plain", seed), middle) is None
        assert neighbour(Scene((middle, above), "plain", seed), middle) == above


def test_a_scene_drawn_again_shows_the_same_things_elsewhere_in_their_places(scenes):
    rng = random.Random(2)
    for scene in scenes[:100]:
        again = scene.redraw(rng)
        assert again.things == scene.things
        assert again.background != scene.background
        assert again.boxes() != scene.boxes()
        assert not np.array_equal(np.asarray(again.render()), np.asarray(scene.render()))


def test_a_question_drawn_again_still_means_the_same_thing(scenes):
    """Questions about what is next to something are left out where nobody could tell in the new picture."""
    from reasonedit.data.world.facts import new_table

    facts, rng, redrawn = new_table(100), random.Random(3), 0
    for scene in scenes:
        for thing in scene.things:
            for subject in subjects_of(scene, thing):
                if subject.style != "next":
                    continue
                sample = ask_about(scene, thing, subject, RELATIONS["use"], facts, two_steps=False, wording=0)
                for probe in ProbeSamples(facts, [sample]).draw(rng, sample)["i_gen"]:
                    beside = probe.scene.find(subject.text.rsplit(" ", 1)[1])
                    assert neighbour(probe.scene, beside) == probe.scene.find(thing.kind)
                    assert probe.scene.seed != scene.seed
                    redrawn += 1
        if redrawn > 60:
            return
    pytest.fail("hardly any question was drawn again")
