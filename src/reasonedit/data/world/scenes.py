"""Scenes of the embedded world: a scene is data, and its picture is rendered from it, the same each time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from .icons import COLOURS, draw_icon
from .kinds import KNOWN_KINDS

SIZE = 96
GRID = 3
CELL = SIZE // GRID

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

_ICON_SIZE = 64  # drawn at this size, then shrunk, which smooths the edges


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Attributes:
        kind: What it is (``"kettle"``).
        colour: A name from :data:`~reasonedit.data.world.icons.COLOURS`.
        cell: Where it stands on the 3 x 3 grid, 0 (top left) to 8 (bottom right).
    """

    kind: str
    colour: str
    cell: int

    @property
    def position(self) -> str:
        """The name of its cell, such as ``"top left"``."""
        return POSITIONS[self.cell]


@dataclass(frozen=True)
class Scene:
    """What a picture shows (``things``) and how it is drawn (``background``, ``seed``)."""

    things: tuple[Thing, ...]
    background: str
    seed: int

    def find(self, kind: str) -> Thing:
        """The thing of a kind that is in the scene."""
        return next(thing for thing in self.things if thing.kind == kind)

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """Pixel boxes (left, top, right, bottom) of the things, in their order."""
        return [(x, y, x + side, y + side) for _, x, y, side in _placements(self)]

    def render(self) -> Image.Image:
        """Draw the scene as an RGB picture of 96 x 96 pixels."""
        image = _draw_background(self)
        for icon, x, y, side in _placements(self):
            image.paste(icon.resize((side, side), Image.Resampling.LANCZOS), (x, y), _mask(icon, side))
        return image

    def redraw(self, rng: random.Random) -> Scene:
        """The same content drawn again: other background, jitter, sizes and angles."""
        others = [b for b in BACKGROUNDS if b != self.background]
        return replace(self, background=rng.choice(others), seed=rng.getrandbits(32))


def random_scene(
    rng: random.Random,
    *,
    count: int | None = None,
    kinds: Sequence[str] = KNOWN_KINDS,
    required: Sequence[str] = (),
) -> Scene:
    """Make a scene of 1 to 4 things with distinct kinds, colours and cells.

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
    cells = rng.sample(range(GRID * GRID), count)
    things = tuple(Thing(k, c, p) for k, c, p in zip(chosen_kinds, colours, cells, strict=True))
    return Scene(things, rng.choice(BACKGROUNDS), rng.getrandbits(32))


def neighbours(scene: Scene, thing: Thing) -> list[Thing]:
    """Things in a cell that shares a side with that of ``thing``."""
    row, column = divmod(thing.cell, GRID)
    return [t for t in scene.things if abs(t.cell // GRID - row) + abs(t.cell % GRID - column) == 1]


def _placements(scene: Scene) -> list[tuple[Image.Image, int, int, int]]:
    rng = random.Random(scene.seed)
    placements = []
    for thing in scene.things:
        side = int(rng.uniform(0.68, 0.98) * CELL)
        shade = rng.uniform(0.85, 1.06)
        red, green, blue = (int(min(255, max(0, x * shade + rng.gauss(0, 7))) / 5) * 5 for x in COLOURS[thing.colour])
        icon = draw_icon(thing.kind, (red, green, blue), _ICON_SIZE)
        angle = rng.uniform(-20, 20) if rng.random() < 0.8 else 0.0
        if angle:
            icon = icon.rotate(angle, resample=Image.Resampling.BILINEAR)
        row, column = divmod(thing.cell, GRID)
        slack = CELL - side + 2
        x = min(SIZE - side, max(0, int(column * CELL - 1 + rng.uniform(0, slack))))
        y = min(SIZE - side, max(0, int(row * CELL - 1 + rng.uniform(0, slack))))
        placements.append((icon, x, y, side))
    return placements


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
