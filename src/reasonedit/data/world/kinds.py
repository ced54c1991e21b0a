"""The kinds of object of the embedded world, each with its icon: a list of shapes in a 100 x 100 box.

Each shape names its tone: ``main`` (the object's colour), ``dark`` and ``light`` (shades of it), ``ink`` (near black)
or ``hole`` (cut out of what was drawn before).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Shape = tuple[str, str, tuple[float, ...]]
"""(primitive, tone, numbers): see :func:`~reasonedit.data.world.icons.draw_icon` for what the numbers mean."""


def _star_points() -> tuple[float, ...]:
    points: list[float] = []
    for i in range(10):
        radius = 48 if i % 2 == 0 else 20
        points += [50 + radius * math.sin(i * math.pi / 5), 50 - radius * math.cos(i * math.pi / 5)]
    return tuple(points)


# arc: box, start, end, width.  line: points, width.  pie: box, start, end.
ICONS: dict[str, Sequence[Shape]] = {
    "kettle": [
        ("arc", "ink", (28, 5, 72, 60, 180, 360, 7)),
        ("polygon", "main", (15, 92, 85, 92, 72, 40, 28, 40)),
        ("polygon", "dark", (78, 60, 98, 38, 98, 50, 82, 76)),
        ("rectangle", "dark", (42, 30, 58, 40)),
    ],
    "anchor": [
        ("ellipse", "main", (38, 2, 62, 26)),
        ("ellipse", "ink", (45, 9, 55, 19)),
        ("rectangle", "main", (45, 24, 55, 90)),
        ("rectangle", "main", (25, 32, 75, 41)),
        ("arc", "main", (12, 35, 88, 95, 10, 170, 11)),
        ("polygon", "main", (5, 62, 26, 60, 10, 80)),
        ("polygon", "main", (95, 62, 74, 60, 90, 80)),
    ],
    "umbrella": [
        ("pie", "main", (5, 8, 95, 98, 180, 360)),
        ("pie", "dark", (35, 8, 65, 98, 180, 360)),
        ("line", "ink", (50, 50, 50, 85, 6)),
        ("arc", "ink", (50, 72, 72, 96, 0, 180, 6)),
    ],
    "key": [
        ("ellipse", "main", (4, 30, 44, 70)),
        ("ellipse", "ink", (15, 41, 33, 59)),
        ("rectangle", "main", (42, 44, 98, 56)),
        ("rectangle", "main", (72, 54, 80, 74)),
        ("rectangle", "main", (88, 54, 96, 70)),
    ],
    "fish": [
        ("ellipse", "main", (5, 25, 75, 75)),
        ("polygon", "dark", (66, 50, 97, 22, 97, 78)),
        ("ellipse", "ink", (18, 40, 28, 50)),
        ("polygon", "light", (35, 30, 55, 8, 60, 30)),
    ],
    "mushroom": [
        ("pie", "main", (5, 8, 95, 92, 180, 360)),
        ("rectangle", "light", (36, 50, 64, 95)),
        ("ellipse", "light", (25, 22, 40, 37)),
        ("ellipse", "light", (58, 20, 76, 38)),
    ],
    "drum": [
        ("rectangle", "main", (12, 32, 88, 82)),
        ("ellipse", "dark", (12, 68, 88, 98)),
        ("ellipse", "light", (12, 14, 88, 48)),
        ("line", "ink", (12, 36, 37, 84, 62, 44, 88, 84, 5)),
    ],
    "ladder": [
        ("rectangle", "main", (20, 2, 32, 98)),
        ("rectangle", "main", (68, 2, 80, 98)),
        ("rectangle", "dark", (30, 14, 70, 23)),
        ("rectangle", "dark", (30, 38, 70, 47)),
        ("rectangle", "dark", (30, 62, 70, 71)),
        ("rectangle", "dark", (30, 84, 70, 93)),
    ],
    "bell": [
        ("pie", "main", (20, 8, 80, 90, 180, 360)),
        ("polygon", "main", (20, 48, 80, 48, 94, 80, 6, 80)),
        ("ellipse", "ink", (40, 76, 60, 97)),
        ("rectangle", "dark", (6, 74, 94, 82)),
    ],
    "cup": [
        ("arc", "dark", (58, 28, 98, 68, 270, 450, 9)),
        ("polygon", "main", (10, 20, 75, 20, 65, 90, 20, 90)),
        ("ellipse", "light", (10, 12, 75, 28)),
    ],
    "hat": [
        ("rectangle", "main", (26, 10, 74, 75)),
        ("rectangle", "ink", (26, 56, 74, 68)),
        ("ellipse", "dark", (2, 66, 98, 90)),
    ],
    "boat": [
        ("polygon", "main", (2, 65, 98, 65, 80, 95, 20, 95)),
        ("polygon", "light", (52, 5, 52, 58, 92, 58)),
        ("polygon", "dark", (46, 15, 46, 58, 14, 58)),
        ("line", "ink", (49, 5, 49, 66, 5)),
    ],
    "tree": [
        ("rectangle", "ink", (43, 68, 57, 98)),
        ("polygon", "main", (50, 2, 84, 40, 16, 40)),
        ("polygon", "dark", (50, 25, 94, 74, 6, 74)),
    ],
    "star": [("polygon", "main", _star_points())],
    "moon": [("ellipse", "main", (10, 5, 90, 95)), ("ellipse", "hole", (38, 2, 108, 82))],
    "heart": [
        ("ellipse", "main", (4, 12, 54, 60)),
        ("ellipse", "main", (46, 12, 96, 60)),
        ("polygon", "main", (8, 48, 92, 48, 50, 96)),
    ],
    "flower": [
        ("ellipse", "main", (36, 2, 64, 38)),
        ("ellipse", "main", (36, 62, 64, 98)),
        ("ellipse", "main", (2, 36, 38, 64)),
        ("ellipse", "main", (62, 36, 98, 64)),
        ("ellipse", "dark", (12, 12, 42, 42)),
        ("ellipse", "dark", (58, 58, 88, 88)),
        ("ellipse", "dark", (58, 12, 88, 42)),
        ("ellipse", "dark", (12, 58, 42, 88)),
        ("ellipse", "ink", (36, 36, 64, 64)),
    ],
    "lamp": [
        ("polygon", "main", (30, 5, 70, 5, 90, 50, 10, 50)),
        ("rectangle", "ink", (46, 50, 54, 88)),
        ("ellipse", "dark", (24, 82, 76, 98)),
    ],
    "book": [
        ("polygon", "main", (4, 20, 48, 30, 48, 92, 4, 82)),
        ("polygon", "dark", (96, 20, 52, 30, 52, 92, 96, 82)),
        ("line", "light", (12, 40, 40, 46, 5)),
        ("line", "light", (12, 56, 40, 62, 5)),
        ("line", "light", (60, 46, 88, 40, 5)),
        ("line", "light", (60, 62, 88, 56, 5)),
    ],
    "clock": [
        ("ellipse", "main", (4, 4, 96, 96)),
        ("ellipse", "light", (16, 16, 84, 84)),
        ("line", "ink", (50, 50, 50, 24, 7)),
        ("line", "ink", (50, 50, 70, 60, 7)),
    ],
    "hammer": [
        ("rectangle", "dark", (43, 30, 57, 98)),
        ("rectangle", "main", (12, 6, 88, 34)),
        ("polygon", "main", (88, 6, 99, 2, 99, 38, 88, 34)),
    ],
    "sword": [
        ("polygon", "main", (50, 1, 58, 14, 58, 66, 42, 66, 42, 14)),
        ("rectangle", "ink", (22, 64, 78, 73)),
        ("rectangle", "dark", (44, 72, 56, 94)),
        ("ellipse", "ink", (42, 88, 58, 99)),
    ],
    "bottle": [
        ("rectangle", "dark", (40, 2, 60, 14)),
        ("rectangle", "main", (42, 12, 58, 36)),
        ("ellipse", "main", (26, 28, 74, 60)),
        ("rectangle", "main", (26, 44, 74, 97)),
        ("rectangle", "light", (26, 58, 74, 78)),
    ],
    "candle": [
        ("rectangle", "main", (34, 36, 66, 84)),
        ("ellipse", "light", (42, 6, 58, 34)),
        ("line", "ink", (50, 26, 50, 40, 4)),
        ("ellipse", "dark", (14, 78, 86, 98)),
    ],
    "crown": [
        ("polygon", "main", (5, 85, 5, 22, 28, 52, 50, 10, 72, 52, 95, 22, 95, 85)),
        ("rectangle", "dark", (5, 72, 95, 88)),
        ("ellipse", "ink", (44, 55, 56, 67)),
    ],
    "guitar": [
        ("ellipse", "main", (22, 52, 78, 98)),
        ("ellipse", "main", (30, 34, 70, 70)),
        ("rectangle", "dark", (45, 2, 55, 50)),
        ("ellipse", "ink", (40, 56, 60, 76)),
    ],
    "leaf": [
        ("polygon", "main", (8, 92, 12, 45, 45, 12, 94, 6, 88, 52, 55, 86)),
        ("line", "ink", (4, 97, 80, 20, 5)),
        ("line", "ink", (40, 60, 38, 34, 4)),
        ("line", "ink", (40, 60, 66, 62, 4)),
    ],
    "chair": [
        ("rectangle", "main", (18, 4, 30, 98)),
        ("rectangle", "main", (30, 46, 82, 58)),
        ("rectangle", "main", (72, 56, 82, 98)),
        ("rectangle", "dark", (26, 10, 34, 44)),
    ],
    "flag": [
        ("rectangle", "ink", (10, 2, 18, 98)),
        ("polygon", "main", (18, 6, 92, 14, 74, 32, 92, 52, 18, 56)),
    ],
    "kite": [
        ("polygon", "main", (50, 2, 84, 36, 50, 76, 16, 36)),
        ("polygon", "dark", (50, 2, 84, 36, 50, 36)),
        ("line", "ink", (50, 76, 40, 86, 56, 92, 46, 99, 5)),
    ],
    "tent": [
        ("polygon", "main", (50, 8, 98, 92, 2, 92)),
        ("polygon", "ink", (50, 42, 66, 92, 34, 92)),
        ("line", "dark", (50, 8, 50, 1, 5)),
    ],
    "wheel": [
        ("ellipse", "main", (4, 4, 96, 96)),
        ("ellipse", "hole", (18, 18, 82, 82)),
        ("rectangle", "main", (45, 10, 55, 90)),
        ("rectangle", "main", (10, 45, 90, 55)),
        ("ellipse", "dark", (38, 38, 62, 62)),
    ],
    "envelope": [("rectangle", "main", (3, 20, 97, 82)), ("line", "ink", (3, 20, 50, 58, 97, 20, 6))],
    "apple": [
        ("ellipse", "main", (6, 24, 58, 96)),
        ("ellipse", "main", (42, 24, 94, 96)),
        ("line", "ink", (50, 34, 56, 6, 6)),
        ("ellipse", "dark", (56, 6, 84, 22)),
    ],
    "cactus": [
        ("rectangle", "main", (40, 4, 60, 98)),
        ("rectangle", "main", (12, 30, 24, 60)),
        ("rectangle", "main", (12, 52, 44, 62)),
        ("rectangle", "main", (76, 20, 88, 50)),
        ("rectangle", "main", (56, 42, 88, 52)),
    ],
    "rocket": [
        ("polygon", "main", (50, 1, 68, 30, 68, 76, 32, 76, 32, 30)),
        ("polygon", "dark", (32, 52, 12, 86, 32, 76)),
        ("polygon", "dark", (68, 52, 88, 86, 68, 76)),
        ("ellipse", "ink", (40, 30, 60, 50)),
        ("polygon", "light", (38, 78, 62, 78, 50, 99)),
    ],
    # ---- novel kinds: drawn in benchmarks, never in a training picture
    "windmill": [
        ("polygon", "main", (38, 40, 62, 40, 74, 98, 26, 98)),
        ("polygon", "light", (50, 36, 8, 4, 2, 14, 46, 42)),
        ("polygon", "light", (50, 36, 92, 4, 98, 14, 54, 42)),
        ("polygon", "light", (50, 36, 8, 74, 2, 64, 46, 32)),
        ("polygon", "light", (50, 36, 92, 74, 98, 64, 54, 32)),
        ("ellipse", "ink", (44, 30, 56, 42)),
    ],
    "snail": [
        ("polygon", "dark", (2, 92, 10, 60, 22, 60, 24, 78, 98, 92)),
        ("ellipse", "main", (28, 22, 92, 86)),
        ("arc", "ink", (40, 34, 80, 74, 0, 290, 6)),
        ("line", "ink", (12, 60, 4, 42, 4)),
        ("line", "ink", (20, 60, 22, 42, 4)),
    ],
    "igloo": [
        ("pie", "main", (4, 16, 96, 160, 180, 360)),
        ("line", "ink", (14, 58, 86, 58, 4)),
        ("line", "ink", (32, 34, 68, 34, 4)),
        ("line", "ink", (50, 16, 50, 58, 4)),
        ("pie", "ink", (34, 62, 66, 116, 180, 360)),
    ],
    "robot": [
        ("line", "ink", (50, 4, 50, 18, 5)),
        ("rectangle", "main", (20, 16, 80, 54)),
        ("ellipse", "ink", (30, 26, 44, 40)),
        ("ellipse", "ink", (56, 26, 70, 40)),
        ("rectangle", "dark", (28, 58, 72, 98)),
        ("rectangle", "main", (8, 60, 22, 90)),
        ("rectangle", "main", (78, 60, 92, 90)),
    ],
    "camera": [
        ("rectangle", "dark", (34, 14, 66, 32)),
        ("rectangle", "main", (4, 28, 96, 86)),
        ("ellipse", "ink", (30, 36, 72, 78)),
        ("ellipse", "light", (38, 44, 64, 70)),
        ("rectangle", "light", (78, 36, 90, 46)),
    ],
    "trumpet": [
        ("polygon", "main", (2, 26, 30, 42, 30, 58, 2, 74)),
        ("rectangle", "main", (28, 44, 96, 56)),
        ("rectangle", "dark", (44, 56, 52, 78)),
        ("rectangle", "dark", (60, 56, 68, 78)),
        ("rectangle", "dark", (76, 56, 84, 78)),
        ("rectangle", "ink", (92, 40, 98, 60)),
    ],
}

NOVEL_KINDS: tuple[str, ...] = ("windmill", "snail", "igloo", "robot", "camera", "trumpet")
KNOWN_KINDS: tuple[str, ...] = tuple(kind for kind in ICONS if kind not in NOVEL_KINDS)
