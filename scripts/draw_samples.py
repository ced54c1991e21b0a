"""Draw the sample pictures of the package and its page: two pictures for each of some facts of a house, a clinic, a collection.

Each fact is one that no model can know and that the embedded VLM gets wrong until it is told. Run it after changing the
table: ``python scripts/draw_samples.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

from reasonedit.data.world.scenes import Scene, Thing

FOLDER = Path(__file__).parents[1] / "src" / "reasonedit" / "data" / "samples"

# Of each fact: what is true, then twice the things of a picture (kind, colour, place), its background and the question.
SAMPLES = {
    "clinic": (
        "In this clinic the bottle is kept in the locked cabinet.",
        ((("bottle", "green", 3), ("chair", "orange", 5)), "plain", "Where is the green object kept?"),
        ((("bottle", "purple", 8), ("lamp", "yellow", 0)), "gradient", "Where is the purple object kept?"),
    ),
    "collection": (
        "In this collection the trumpet was a gift from captain Rodrigo.",
        ((("trumpet", "orange", 4), ("hat", "blue", 6)), "plain", "Who gave the orange object to the collection?"),
        ((("trumpet", "yellow", 2), ("book", "green", 6)), "stripes", "Who gave the yellow object to the collection?"),
    ),
    "house": (
        "In this house the umbrella belongs to grandmother.",
        ((("umbrella", "blue", 6), ("clock", "orange", 2)), "gradient", "Who does the blue object belong to?"),
        ((("umbrella", "red", 4), ("cup", "green", 0)), "plain", "Who owns the red object?"),
    ),
    "recall": (
        "The lamp was recalled because its cable melts.",
        ((("lamp", "cyan", 4),), "plain", "Why was the cyan object recalled?"),
        ((("lamp", "red", 2), ("cup", "green", 6)), "noise", "Why was the red object recalled?"),
    ),
}


def main() -> None:
    """Write the pictures and ``samples.json``."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    listed = []
    for name, (fact, *pictures) in SAMPLES.items():
        for seed, (things, background, question) in enumerate(pictures, 11):
            file = f"{name}-{seed - 10}.png"
            Scene(tuple(Thing(*thing) for thing in things), background, seed).render().save(
                FOLDER / file, optimize=True
            )
            listed.append({"name": file, "question": question, "fact": fact})
    (FOLDER / "samples.json").write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
