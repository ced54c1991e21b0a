"""Photographs in front of the embedded VLM, which was never shown one: what do edits of drawings do to answers about them?

Every answer that changes is wrong: the edits speak of none of these pictures. scikit-learn's two sample photographs are
taken in any case. scikit-image keeps its own in its wheel: ``pip download --no-deps scikit-image``, unpack it, and name
the folder ``skimage/data``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images

from reasonedit import ReasonEditor
from reasonedit.calibration import calibrate
from reasonedit.data.stream import EditStream
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.design import Design
from reasonedit.embedding import DualEmbedder
from reasonedit.embedding.reference import reference_images
from reasonedit.errors import InputError
from reasonedit.images import load_image
from reasonedit.matching import matches
from reasonedit.types import Answer, Query
from reasonedit.vlm import Generation, load_vlm


def photographs(folder: Path | None) -> list[Image.Image]:
    """The pictures of a folder, and scikit-learn's; files that are no picture are named."""
    found, skipped = [], []
    for path in sorted(folder.iterdir()) if folder is not None else []:
        try:
            found.append(load_image(path))
        except (InputError, OSError):
            skipped.append(path.name)
    if skipped:
        print(f"no pictures, left out: {', '.join(skipped)}")
    return found + [Image.fromarray(pixels) for pixels in load_sample_images().images]


def count_changed(answers: list[Answer], before: list[Answer]) -> int:
    return sum(after.text != old.text for after, old in zip(answers, before, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="photographs of your own, or scikit-image's")
    parser.add_argument("--seed", type=int, default=106, help="seed of the edits")
    parser.add_argument("--edits", type=int, default=20)
    arguments = parser.parse_args()
    vlm = load_vlm("embedded")
    edits = EditStream(EmbeddedWorld(edits=arguments.edits, seed=arguments.seed), batch_size=8).find_edits(vlm)
    photos = photographs(arguments.folder)
    queries = [Query(photo, edits[i % len(edits)].question) for i, photo in enumerate(photos)]
    own = [Query(edit.image, edit.question, edit.choices) for edit in edits]
    design = Design.default("embedded")
    calibration = calibrate(DualEmbedder(vlm, design.embedding), reference_images("world"))
    editor = ReasonEditor(vlm, design, Generation(max_new_tokens=8), calibration)
    before = editor.ask_batch(queries)
    for edit in edits:
        editor.write(edit)
    for rate in (design.retrieval.out_of_range, None):
        editor.pipeline.use(replace(design.retrieval, out_of_range=rate))
        after, of_edits = editor.ask_batch(queries), editor.ask_batch(own)
        right = sum(matches(a.text, e.targets) for a, e in zip(of_edits, edits, strict=True))
        name = "without the range" if rate is None else f"out_of_range {rate:g}"
        print(
            f"{name}: of {len(photos)} photographs {sum(bool(a.hits) for a in after)} got facts, "
            f"{count_changed(after, before)} answers changed, {sum(a.in_range is False for a in after)} out of range; "
            f"of {len(edits)} edits' own questions {right} right, "
            f"{sum(a.in_range is False for a in of_edits)} out of range",
            flush=True,
        )


if __name__ == "__main__":
    main()
