"""Pictures of the embedded world that have nothing to do with any edit: the reference ``"world"``."""

from __future__ import annotations

from PIL import Image

from .scenes import unrelated_scenes, unrelated_things

SCENES = 150


def reference_images() -> list[Image.Image]:
    """Scenes that belong to no benchmark, the same each time."""
    return [scene.render() for scene in unrelated_scenes(SCENES)]


def reference_things() -> tuple[list[Image.Image], list[int]]:
    """5,520 pictures of 1,236 things, no novel kind of the world among them, and the thing that each shows."""
    return unrelated_things()
