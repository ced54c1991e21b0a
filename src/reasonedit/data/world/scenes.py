"""Scenes of the embedded world: a scene is data, and its picture is rendered from it, the same each time."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image

from .icons import COLOURS, draw_icon
from .kinds import KNOWN_KINDS

SIZE = 96
"""Side of a picture in pixels."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels."""
WHOLE_PICTURE: Box = (0, 0, SIZE, SIZE)

POSITIONS: tuple[str, ...] = (
    "top left",
    "top",
    "top right",
    "left",
    "center",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
BACKGROUNDS: tuple[str, ...] = ("plain", "noise", "stripes", "gradient")

_THIRD = SIZE / 3
_SIDES = (19, 42)  # pixels, smallest and largest
_MARGIN = 3  # pixels from the centre of a thing to the next place: on the line it would have two names
_OUTSIDE = 0.2  # share of a side that may lie outside of the picture
_HIDDEN = 0.25  # share of a thing that others may cover
_SHOWN, _NOT_SHOWN = 0.6, 0.2  # shares of a thing from which on, and up to which, a part of a picture shows it or not
_CLEARLY = 1.3  # by how much farther the second nearest thing is than one that is "next to" another
_TRIES = 100
_ICON_SIZE = 64  # drawn at this size, then shrunk, which smooths the edges


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Attributes:
        kind: What it is (``"kettle"``).
        colour: A name from :data:`~reasonedit.data.world.icons.COLOURS`.
        place: In which ninth of the picture its centre lies, 0 (top left) to 8 (bottom right). The thing itself mostly
            reaches into others.
    """

    kind: str
    colour: str
    place: int

    @property
    def position(self) -> str:
        """The name of its place, such as ``"top left"``."""
        return POSITIONS[self.place]


@dataclass(frozen=True)
class Scene:
    """What a picture shows (``things``) and how it is drawn (``background``, ``seed``).

    Things lie anywhere within their places, in several sizes, across each other's edges and those of the picture.
    """

    things: tuple[Thing, ...]
    background: str
    seed: int

    def find(self, kind: str) -> Thing:
        """The thing of a kind that is in the scene."""
        return next(thing for thing in self.things if thing.kind == kind)

    def boxes(self) -> list[Box]:
        """What of the picture each thing takes, in their order; later things cover earlier ones."""
        return [_within_picture(x, y, side) for x, y, side in _layout(self)]

    def render(self) -> Image.Image:
        """Draw the scene as an RGB picture of 96 x 96 pixels."""
        image = _draw_background(self)
        for icon, (x, y, side) in zip(_icons(self), _layout(self), strict=True):
            image.paste(icon.resize((side, side), Image.Resampling.LANCZOS), (x, y), _mask(icon, side))
        return image

    def redraw(self, rng: random.Random) -> Scene:
        """The same things in the same places drawn again: another background, other spots, sizes and angles."""
        others = [b for b in BACKGROUNDS if b != self.background]
        return replace(self, background=rng.choice(others), seed=rng.getrandbits(32))


def random_scene(
    rng: random.Random,
    *,
    count: int | None = None,
    kinds: Sequence[str] = KNOWN_KINDS,
    required: Sequence[str] = (),
) -> Scene:
    """Make a scene of 1 to 4 things with distinct kinds, colours and places.

    Args:
        rng: Source of randomness.
        count: Number of things; drawn at random when not given, and raised to ``len(required)``.
        kinds: Kinds to choose from.
        required: Kinds that must be there.
    """
    count = max(count or rng.choice((1, 2, 2, 3, 3, 4, 4)), len(required))
    others = [k for k in kinds if k not in required]
    chosen_kinds = [*required, *rng.sample(others, count - len(required))]
    rng.shuffle(chosen_kinds)
    colours = rng.sample(list(COLOURS), count)
    places = rng.sample(range(len(POSITIONS)), count)
    things = tuple(Thing(k, c, p) for k, c, p in zip(chosen_kinds, colours, places, strict=True))
    return Scene(things, rng.choice(BACKGROUNDS), rng.getrandbits(32))


def random_part(rng: random.Random, scene: Scene) -> tuple[Box, tuple[Thing, ...]]:
    """A part of a picture of which it can be said what it shows: of each thing most, or hardly any.

    Args:
        rng: Source of randomness.
        scene: The scene.

    Returns:
        The part, and the things that it shows.
    """
    boxes = scene.boxes()
    for _ in range(_TRIES):
        width = rng.uniform(0.25, 1.0)
        height = min(1.0, max(0.25, width * math.exp(rng.uniform(-math.log(2), math.log(2)))))
        width, height = round(width * SIZE), round(height * SIZE)
        left, top = rng.randint(0, SIZE - width), rng.randint(0, SIZE - height)
        part = (left, top, left + width, top + height)
        shares = [shared_area(box, part) / ((box[2] - box[0]) * (box[3] - box[1])) for box in boxes]
        if not any(_NOT_SHOWN < share < _SHOWN for share in shares):
            return part, tuple(t for t, share in zip(scene.things, shares, strict=True) if share >= _SHOWN)
    return WHOLE_PICTURE, scene.things


def neighbour(scene: Scene, thing: Thing) -> Thing | None:
    """The thing that is next to another one, or ``None`` where nobody could say which.

    Its place shares a side with that of ``thing``, no other's does, and it is clearly nearer than any other.
    """
    row, column = divmod(thing.place, 3)
    near = [t for t in scene.things if abs(t.place // 3 - row) + abs(t.place % 3 - column) == 1]
    if len(near) != 1:
        return None
    centres = {t: (x + side / 2, y + side / 2) for t, (x, y, side) in zip(scene.things, _layout(scene), strict=True)}
    distances = {t: math.dist(centres[thing], centre) for t, centre in centres.items() if t != thing}
    clear = all(d > _CLEARLY * distances[near[0]] for t, d in distances.items() if t != near[0])
    return near[0] if clear else None


@lru_cache(maxsize=65536)
def _layout(scene: Scene) -> list[tuple[int, int, int]]:
    """For each thing left and top, which may lie outside of the picture, and the side of its square."""
    rng = random.Random(f"layout-{scene.seed}")
    largest = float(_SIDES[1])
    while True:
        squares = [_place(rng, thing, largest) for thing in scene.things]
        if all(_hidden_share(square, squares[i + 1 :]) <= _HIDDEN for i, square in enumerate(squares)):
            return squares
        largest = max(_SIDES[0], 0.97 * largest)  # smaller things find room


def _place(rng: random.Random, thing: Thing, largest: float) -> tuple[int, int, int]:
    side = round(rng.uniform(_SIDES[0], largest))
    row, column = divmod(thing.place, 3)
    lowest, highest = -_OUTSIDE * side, SIZE - (1 - _OUTSIDE) * side
    corner = []
    for ninth in (column, row):
        low = ninth * _THIRD + (_MARGIN if ninth else 0)
        high = (ninth + 1) * _THIRD - (_MARGIN if ninth < 2 else 0)
        corner.append(round(min(max(rng.uniform(low, high) - side / 2, lowest), highest)))
    return corner[0], corner[1], side


def _hidden_share(square: tuple[int, int, int], later: Sequence[tuple[int, int, int]]) -> float:
    """The share of a thing's square, as far as it lies in the picture, that others cover."""
    box = _within_picture(*square)
    return sum(shared_area(box, _within_picture(*other)) for other in later) / ((box[2] - box[0]) * (box[3] - box[1]))


def shared_area(box: Sequence[float], other: Sequence[float]) -> float:
    """The area that two boxes share."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _within_picture(x: int, y: int, side: int) -> Box:
    return max(0, x), max(0, y), min(SIZE, x + side), min(SIZE, y + side)


def _icons(scene: Scene) -> list[Image.Image]:
    """The things as they are drawn, each turned a little and in its own shade of its colour."""
    rng = random.Random(scene.seed)
    icons = []
    for thing in scene.things:
        shade = rng.uniform(0.85, 1.06)
        red, green, blue = (int(min(255, max(0, x * shade + rng.gauss(0, 7))) / 5) * 5 for x in COLOURS[thing.colour])
        icon = draw_icon(thing.kind, (red, green, blue), _ICON_SIZE)
        angle = rng.uniform(-20, 20) if rng.random() < 0.8 else 0.0
        icons.append(icon.rotate(angle, resample=Image.Resampling.BILINEAR) if angle else icon)
    return icons


def _mask(icon: Image.Image, side: int) -> Image.Image:
    return icon.getchannel("A").resize((side, side), Image.Resampling.LANCZOS)


def _draw_background(scene: Scene) -> Image.Image:
    rng = np.random.default_rng(scene.seed)
    base = rng.integers(60, 166) + rng.integers(-22, 23, size=3)
    pixels = np.empty((SIZE, SIZE, 3), np.float32)
    pixels[:] = base
    axis = np.arange(SIZE)
    if scene.background == "noise":
        pixels += rng.normal(0, rng.uniform(3, 14), (SIZE, SIZE, 1))
    elif scene.background == "stripes":
        down, across = [(0, 1), (1, 0), (1, 1), (1, -1)][rng.integers(4)]
        bands = ((axis[:, None] * down + axis[None] * across) // rng.integers(5, 17)) % 2
        pixels += (bands * rng.uniform(8, 26))[..., None]
    elif scene.background == "gradient":
        ramp = np.linspace(-25, 25, SIZE)
        pixels += ramp[:, None, None] if rng.random() < 0.5 else ramp[None, :, None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
