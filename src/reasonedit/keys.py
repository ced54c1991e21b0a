"""From an edit with its evidence to the keys that it writes (section 3 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from reasonedit.boxes import WHOLE, Box
from reasonedit.codebook import Entry, Fact, StoredEdit, augment
from reasonedit.codebook.paraphrase import paraphrase
from reasonedit.design import WritingConfig
from reasonedit.embedding import DualEmbedder
from reasonedit.embedding.views import views_of_region
from reasonedit.evidence import GUESSED, LIKELIEST, Evidence, WindowScore, crop, shrink
from reasonedit.kinds import KeyKind
from reasonedit.types import Edit
from reasonedit.vlm import Seen, Vision

Picture = Image.Image | Box
"""What is embedded as one picture: an image, or a window that is cut out of the edit's image."""


@dataclass(frozen=True)
class Written:
    """What an edit wrote.

    Attributes:
        keys: Number of new keys; the others merged into keys that were there.
        entries: What was written.
        evidence: The evidence found for each sentence; without windows where a person gave it or none was sought.
        edit: The edit as the codebook keeps it.
    """

    keys: int
    entries: list[Entry]
    evidence: list[Evidence]
    edit: StoredEdit


@dataclass(frozen=True)
class PlannedKey:
    """A key before it is embedded.

    Attributes:
        picture: The number of its picture; ``None`` for a key of text alone.
        text: The text of its sentence half.
        fact: The fact that is fetched by it.
    """

    picture: int | None
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

    def build(
        self,
        edit: Edit,
        evidence: Sequence[Evidence],
        image: Seen | None = None,
        windows: Mapping[Box, Seen] | None = None,
    ) -> list[Entry]:
        """Make the keys of an edit.

        Args:
            edit: The edit.
            evidence: What was found for each sentence.
            image: The vision pass of its image, where there was one already.
            windows: The vision passes of windows of it, where there were some already.

        Returns:
            For each key what is written: the key (D,), its radius in units of the embedding, and its fact.
        """
        pictures, planned = self.plan(edit, evidence)
        keys = self._embed(self._see_pictures(pictures, planned, image, windows or {}), planned)
        radii = self._measure_radii(edit, pictures, planned, keys) if self.writing.merge else [0.0] * len(planned)
        return [Entry(key, radius, plan.fact) for key, radius, plan in zip(keys, radii, planned, strict=True)]

    def plan(self, edit: Edit, evidence: Sequence[Evidence]) -> tuple[list[Picture], list[PlannedKey]]:
        """Plan the keys of an edit.

        Returns:
            The pictures that keys are made of, the image first, then windows and pictures of a person; and the keys.
        """
        pictures: list[Picture] = [edit.image]
        planned: list[PlannedKey] = []
        if self.writing.entries != "reasoning":
            planned.append(PlannedKey(0, edit.question, Fact(edit.answer_fact, KeyKind.ANSWER, edit.id)))
        if self.writing.entries == "answer":
            return pictures, planned
        for sentence, given, found in zip(edit.reasoning, edit.evidence, evidence, strict=True):
            texts = [sentence, edit.question] if self.writing.question_keys else [sentence]
            planned += [
                PlannedKey(picture, text, Fact(sentence, kind, edit.id))
                for picture, kind in self._plan_sentence(list(given or ()), found, pictures)
                for text in texts
            ]
        return pictures, planned

    def _plan_sentence(
        self, given: Sequence[Picture], found: Evidence, pictures: list[Picture]
    ) -> list[tuple[int | None, KeyKind]]:
        """The pictures of a sentence's keys, with the kinds of the keys; new pictures are appended to the list."""
        regions = list(given or found.boxes) if self.writing.keys != "image" else []
        keys: list[tuple[int | None, KeyKind]] = []
        if self.writing.keys in ("image", "both"):
            keys.append((0, KeyKind.IMAGE))
        elif self.writing.keys == "grounded" and not regions:
            keys.append((None, KeyKind.TEXT))
        # The VLM can verify in other images what it affirmed here, but not what a person showed or what it guessed.
        kind = KeyKind.GIVEN if given or is_guess(found) else KeyKind.PATCH
        for region in regions:
            if region not in pictures:
                pictures.append(region)
            keys.append((pictures.index(region), kind))
        return keys

    def _see_pictures(
        self,
        pictures: Sequence[Picture],
        planned: Sequence[PlannedKey],
        image: Seen | None,
        windows: Mapping[Box, Seen],
    ) -> dict[int, Vision]:
        """Run the vision part on each picture that a key is made of, unless it passed already, and on its views."""
        seen: dict[int, Vision] = {}
        unseen: list[int] = []
        for number in self._read_pictures(planned):
            picture = pictures[number]
            known = image if number == 0 else windows.get(picture) if isinstance(picture, tuple) else None
            if known is None:
                unseen.append(number)
            else:
                seen[number] = Vision([known])
        views = {number: self._view(pictures, number) for number in self._read_pictures(planned)}
        new = [*_cut_out(pictures, unseen), *(view for of_picture in views.values() for view in of_picture)]
        passes = iter(self.embedder.see(new).images if new else ())
        seen.update({number: Vision([next(passes)]) for number in unseen})
        return {number: Vision([*seen[number].images, *(next(passes) for _ in views[number])]) for number in views}

    def _view(self, pictures: Sequence[Picture], number: int) -> list[Image.Image]:
        """The further views of a picture: of regions alone, where these have some."""
        image, picture = pictures[0], pictures[number]
        assert isinstance(image, Image.Image)
        if number == 0 or not self.writing.region_views or self.embedder.reads_language:
            return []
        if isinstance(picture, tuple):
            return views_of_region(shrink(image), picture, self.writing.region_views)
        return views_of_region(picture, WHOLE, self.writing.region_views)

    def _read_pictures(self, planned: Sequence[PlannedKey]) -> list[int]:
        """The numbers of the pictures that keys are made of."""
        if self.embedder.reads_language:  # it reads a text only together with an image
            return sorted({plan.picture or 0 for plan in planned})
        return sorted({plan.picture for plan in planned if plan.picture is not None})

    def _embed(self, seen: Mapping[int, Vision], planned: Sequence[PlannedKey]) -> list[Tensor]:
        """Embed planned keys: the vision half of each one's picture, then the sentence half."""
        if not planned:
            return []
        if self.embedder.reads_language:
            return [self.embedder.embed(seen[plan.picture or 0], [plan.text])[0] for plan in planned]
        texts = list(dict.fromkeys(plan.text for plan in planned))
        sentence_halves = dict(zip(texts, self.embedder.embed_texts(texts), strict=True))
        vision_halves: dict[int | None, Tensor] = {None: torch.zeros(self.embedder.width)}
        for number, vision in seen.items():
            vision_halves[number] = self.embedder.embed_views(vision)
        return [torch.cat([vision_halves[plan.picture], sentence_halves[plan.text]]) for plan in planned]

    def _measure_radii(
        self, edit: Edit, pictures: Sequence[Picture], planned: Sequence[PlannedKey], keys: Sequence[Tensor]
    ) -> list[float]:
        """The distance of each key from that of an augmented copy of its picture and a paraphrase of its text."""
        rng = random.Random(f"{self.writing.seed}-{edit.id}-0")
        copies = [augment(image, rng) for image in _cut_out(pictures, range(len(pictures)))]
        paraphrases = {text: paraphrase(text, rng) for text in dict.fromkeys(plan.text for plan in planned)}
        numbers = self._read_pictures(planned)
        seen = {}
        if numbers:
            vision = self.embedder.see([copies[number] for number in numbers])
            seen = {number: vision.select([row]) for row, number in enumerate(numbers)}
        changed = self._embed(seen, [replace(plan, text=paraphrases[plan.text]) for plan in planned])
        return [float((key - copy).norm()) for key, copy in zip(keys, changed, strict=True)]


def evidence_of(stored: StoredEdit) -> list[Evidence]:
    """The evidence of each sentence of an edit, as a codebook keeps it."""
    evidence = []
    for i, sentence in enumerate(stored.reasoning):
        boxes = stored.found[i] if i < len(stored.found) else []
        why = GUESSED if i < len(stored.guessed) and stored.guessed[i] else LIKELIEST
        evidence.append(Evidence(sentence, [WindowScore(box, kept=True, why=why) for box in boxes]))
    return evidence


def is_guess(evidence: Evidence) -> bool:
    """Whether the VLM affirmed no window, so that the likeliest was taken."""
    return any(window.why == GUESSED for window in evidence.windows)


def _cut_out(pictures: Sequence[Picture], numbers: Iterable[int]) -> list[Image.Image]:
    """Pictures by their numbers; windows are cut out of the first one, the edit's image, once it is shrunk.

    So are the windows that the VLM verifies, whose passes become keys, and the regions of a query.
    """
    chosen = [pictures[number] for number in numbers]
    image = pictures[0]
    assert isinstance(image, Image.Image)
    if any(isinstance(picture, tuple) for picture in chosen):
        image = shrink(image)
    return [picture if isinstance(picture, Image.Image) else crop(image, picture) for picture in chosen]
