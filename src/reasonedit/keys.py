"""From an edit with its evidence to the keys that it writes (section 3 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from PIL import Image
from torch import Tensor

from reasonedit.codebook import Entry, Fact, augmented
from reasonedit.codebook.paraphrase import paraphraser
from reasonedit.codebook.radius import placed
from reasonedit.design import WritingConfig
from reasonedit.edits import WHOLE, Box, Edit
from reasonedit.embedding import DualEmbedder
from reasonedit.evidence import GUESSED, Evidence, crop
from reasonedit.vlm import Vision

Picture = Image.Image | Box
"""What is embedded as a picture of its own: an image, or a window that is cut out of the edit's image."""


@dataclass(frozen=True)
class PlannedKey:
    """A key before it is embedded.

    Attributes:
        picture: The number of its picture; ``None`` for a key of text alone.
        box: The part of that picture.
        text: What the sentence half is made of.
        fact: What is fetched by the key.
    """

    picture: int | None
    box: Box
    text: str
    fact: Fact


class KeyBuilder:
    """Makes the keys of an edit, and measures how far each reaches.

    Args:
        embedder: Embeds pictures and texts.
        writing: Which keys an edit writes.
    """

    def __init__(self, embedder: DualEmbedder, writing: WritingConfig) -> None:
        self.embedder = embedder
        self.writing = writing
        self._paraphrase = paraphraser(writing.paraphraser)

    def build(
        self, edit: Edit, vision: Vision, evidence: Sequence[Evidence], windows: Mapping[Box, Vision]
    ) -> list[Entry]:
        """Make the keys of an edit.

        Args:
            edit: The edit.
            vision: Its image, from the embedder's ``see``.
            evidence: What was found for each sentence.
            windows: Windows that were seen already, while evidence was sought.

        Returns:
            For each key what is written: the key (D,), its radius in units of the embedding, and its fact.
        """
        pictures, planned = self.plan(edit, evidence)
        keys = self._embed(self._see(vision, pictures, windows), planned)
        radii = self._radii(edit, pictures, planned, keys) if self.writing.merge else [0.0] * len(planned)
        return [Entry(key, radius, plan.fact) for key, radius, plan in zip(keys, radii, planned, strict=True)]

    def plan(self, edit: Edit, evidence: Sequence[Evidence]) -> tuple[list[Picture], list[PlannedKey]]:
        """Say which pictures are embedded (the image first, then windows and crops), and which keys they make."""
        pictures: list[Picture] = [edit.image]
        planned: list[PlannedKey] = []
        if self.writing.entries != "reasoning":
            planned.append(PlannedKey(0, WHOLE, edit.question, Fact(edit.answer_fact, "answer", edit.id)))
        if self.writing.entries == "answer":
            return pictures, planned
        for sentence, given, found in zip(edit.reasoning, edit.evidence, evidence, strict=True):
            texts = [sentence, edit.question] if self.writing.questions else [sentence]
            planned += [
                PlannedKey(picture, box, text, Fact(sentence, kind, edit.id))
                for picture, box, kind in self._places(list(given or ()), found, pictures)
                for text in texts
            ]
        return pictures, planned

    def _places(
        self, given: Sequence[Picture], found: Evidence, pictures: list[Picture]
    ) -> list[tuple[int | None, Box, str]]:
        """Where a sentence's keys are taken from, and of which kind they are; new pictures are added to the list."""
        regions = list(given or found.boxes) if self.writing.keys != "image" else []
        places: list[tuple[int | None, Box, str]] = []
        if self.writing.keys in ("image", "both"):
            places.append((0, WHOLE, "image"))
        elif self.writing.keys == "grounded" and not regions:
            places.append((None, WHOLE, "text"))
        # What the VLM affirmed here it can verify elsewhere; what a person showed it, or it guessed, it cannot.
        kind = "given" if given or is_guess(found) else "patch"
        for region in regions:
            if self.writing.patches == "region" and not isinstance(region, Image.Image):
                places.append((0, region, kind))
            else:
                if region not in pictures:
                    pictures.append(region)
                places.append((pictures.index(region), WHOLE, kind))
        return places

    def _see(self, vision: Vision, pictures: Sequence[Picture], windows: Mapping[Box, Vision]) -> list[Vision]:
        """Run the vision part once per picture; windows were seen when evidence was sought."""
        image = pictures[0]
        assert isinstance(image, Image.Image)
        seen: list[Vision | None] = [vision, *(windows.get(p) if isinstance(p, tuple) else None for p in pictures[1:])]
        unseen = [number for number, one in enumerate(seen) if one is None]
        if unseen:
            together = self.embedder.see([_cut(image, pictures[number]) for number in unseen])
            for row, number in enumerate(unseen):
                seen[number] = together.select([row])
        return [one for one in seen if one is not None]

    def _embed(self, seen: Sequence[Vision], planned: Sequence[PlannedKey]) -> list[Tensor]:
        """Embed planned keys: the vision half of each picture's part, then the sentence half."""
        if not planned:
            return []
        if self.embedder.reads_language:
            return [self.embedder.embed(seen[plan.picture or 0], [plan.text])[0] for plan in planned]
        texts = list(dict.fromkeys(plan.text for plan in planned))
        sentence_halves = dict(zip(texts, self.embedder.texts(texts), strict=True))
        vision_halves: dict[tuple[int, Box], Tensor] = {}
        for number, vision in enumerate(seen):
            boxes = list(dict.fromkeys(plan.box for plan in planned if plan.picture == number))
            for box, half in zip(boxes, self.embedder.regions(vision, [boxes])[0], strict=True):
                vision_halves[number, box] = half
        nothing = torch.zeros(self.embedder.width)
        return [
            torch.cat(
                [nothing if plan.picture is None else vision_halves[plan.picture, plan.box], sentence_halves[plan.text]]
            )
            for plan in planned
        ]

    def _radii(
        self, edit: Edit, pictures: Sequence[Picture], planned: Sequence[PlannedKey], keys: Sequence[Tensor]
    ) -> list[float]:
        """The distance of each key from that of an augmented copy; the median where there are several copies."""
        image = pictures[0]
        assert isinstance(image, Image.Image)
        distances: list[list[float]] = [[] for _ in planned]
        for sample in range(self.writing.samples):
            rng = random.Random(f"{self.writing.seed}-{edit.id}-{sample}")
            copies = [augmented(_cut(image, picture), rng) for picture in pictures]
            paraphrases = {text: self._paraphrase(text, rng) for text in dict.fromkeys(plan.text for plan in planned)}
            moved = []
            for plan in planned:
                inside = copies[plan.picture][1] if plan.picture is not None else WHOLE
                box = plan.box if plan.box == WHOLE else placed(plan.box, inside)
                moved.append(replace(plan, box=box, text=paraphrases[plan.text]))
            together = self.embedder.see([copy for copy, _ in copies])
            seen = [together.select([row]) for row in range(len(copies))]
            for row, (old, new) in enumerate(zip(keys, self._embed(seen, moved), strict=True)):
                distances[row].append(float((old - new).norm()))
        return [median(of_one) for of_one in distances]


def is_guess(evidence: Evidence) -> bool:
    """Whether the VLM affirmed no window, so that the likeliest were taken."""
    return any(window.why == GUESSED for window in evidence.windows)


def _cut(image: Image.Image, picture: Picture) -> Image.Image:
    return picture if isinstance(picture, Image.Image) else crop(image, picture)
