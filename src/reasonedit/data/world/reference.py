"""Pictures of the embedded world that have nothing to do with any edit: the reference ``"world"``."""

from __future__ import annotations

import random

from PIL import Image

from .icons import RANDOM
from .kinds import KNOWN_KINDS
from .scenes import random_scene

_SCENES = 150
_SHAPES = 1200
_PICTURES_PER_SHAPE, _PICTURES_PER_KIND = 4, 20
_THINGS_PER_SCENE = 4


def reference_images() -> list[Image.Image]:
    """Scenes that belong to no benchmark, the same each time: what pictures of this world have in common."""
    rng = random.Random("unrelated")
    return [random_scene(rng).render() for _ in range(_SCENES)]


def reference_things() -> tuple[list[Image.Image], list[int]]:
    """Pictures of things by themselves, the same each time: 1,200 random shapes four times, known kinds 20 times.

    Novel kinds are not among them, nor is any scene of a benchmark.

    Returns:
        The pictures (5,520), each cut out of a scene, and for each the number of the thing (1,236) that it shows.
    """
    rng = random.Random("things")
    shapes = [f"{RANDOM}{rng.getrandbits(32)}" for _ in range(_SHAPES)]
    numbers = {kind: i for i, kind in enumerate([*shapes, *KNOWN_KINDS])}
    pictures: list[Image.Image] = []
    things: list[int] = []
    for kinds, times in ((shapes, _PICTURES_PER_SHAPE), (KNOWN_KINDS, _PICTURES_PER_KIND)):
        for _ in range(times):
            order = rng.sample(kinds, len(kinds))
            for i in range(0, len(order), _THINGS_PER_SCENE):
                kinds_of_scene = order[i : i + _THINGS_PER_SCENE]
                scene = random_scene(rng, count=len(kinds_of_scene), required=kinds_of_scene)
                picture = scene.render()
                for thing, box in zip(scene.things, scene.boxes(), strict=True):
                    pictures.append(picture.crop(box))
                    things.append(numbers[thing.kind])
    return pictures, things
