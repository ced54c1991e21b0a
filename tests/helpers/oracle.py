"""The whole method once more, plainly and slowly: loops over all keys, in double precision, nothing kept up to date.

Of the VLM it asks one image and one text at a time. Of the package it takes what is random, the wordings, the windows'
crops and the content words; all else follows from the documentation.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from reasonedit.codebook import augment
from reasonedit.codebook.paraphrase import paraphrase
from reasonedit.embedding.views import views_of_parts, views_of_region
from reasonedit.evidence import crop, shrink
from reasonedit.prompts import DESCRIBE, verification_question
from reasonedit.sentences import content_words, named_place

WHOLE = (0.0, 0.0, 1.0, 1.0)
THIRDS = [(c / 3, r / 3, (c + 1) / 3, (r + 1) / 3) for r in range(3) for c in range(3)]
REGIONS = [(0.3 * c, 0.3 * r, 0.3 * c + 0.4, 0.3 * r + 0.4) for r in range(3) for c in range(3)]
SHAPES = {3: [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2)], 4: [(1, 1), (1, 2), (2, 1), (2, 2)]}
SHOWS = ("image", "patch", "given")


@dataclass
class Key:
    """What an edit writes; several become one where they merge (``said``)."""

    point: np.ndarray
    radius: float
    kind: str
    text: str
    edit: str
    said: list = field(default_factory=list)


@dataclass
class Found:
    """A fact that was found."""

    fact: str
    distance: float
    kind: str
    edit: str
    match: float | None = None
    same: bool = False
    via: str | list = ""
    edits: set = field(default_factory=set)
    by_text: bool = False


def gap(one, other):
    return float(np.linalg.norm(one - other))


def rms_distance(points):
    return math.sqrt(float(np.mean([gap(a, b) ** 2 for a, b in combinations(points, 2)])))


def mean_of_nearest(point, others, count):
    return float(np.mean(nearest(point, others, count)))


def nearest(point, others, count):
    """The distances to the nearest of others, rising."""
    return np.sort(np.linalg.norm(np.array(others) - point, axis=1))[:count]


class Oracle:
    """What a codebook holds, and how it is written.

    Args:
        vlm: The VLM.
        design: The design.
        encoder: The sentence encoder.
        reference: The unrelated pictures, or those of a calibration.
        rank: Orders the windows of a shortlist: as :meth:`reasonedit.evidence.Shortlist.rank`.
    """

    def __init__(self, vlm, design, encoder, reference, rank=None):
        self.vlm, self.design, self.encoder, self.rank = vlm, design, encoder, rank
        self.layer = design.embedding.layer or vlm.projector
        self.reads_text = self.layer in vlm.language_layers
        self.edits, self.counting = {}, []  # all that was ever written, in order; those that count
        self._passes, self._asked = {}, {}
        self.measure([image.convert("RGB") for image in reference])

    # ---- embedding

    def tokens(self, image, text=""):
        name = (image.size, image.tobytes(), text if self.reads_text else "")
        if name not in self._passes:
            if self.reads_text:
                states = self.vlm.language_states(self.vlm.see([image]), [text], self.layer)[0]
            else:
                states = self.vlm.see([image], [self.layer]).layer(self.layer)[0]
            self._passes[name] = states.double().cpu().numpy()
        return self._passes[name]

    def pooled(self, image, text=""):
        tokens = self.tokens(image, text)
        tokens = tokens.reshape(-1, tokens.shape[-1])
        return tokens[-1] if self.design.embedding.pooling == "last" else tokens.mean(0)

    def pooled_regions(self, image):
        """The nine query regions of an image, or nothing where it has none."""
        if self.design.embedding.region_source == "crops" and not self.reads_text:
            return [self.pooled(crop(shrink(image), box)) for box in REGIONS]
        tokens = self.tokens(image, DESCRIBE)
        if self.design.embedding.pooling == "last" or tokens.ndim != 3:
            return []
        rows, columns = tokens.shape[:2]
        parts = []
        for left, top, right, bottom in REGIONS:
            part = tokens[round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)]
            parts.append(part.reshape(-1, part.shape[-1]).mean(0))
        return parts

    def measure(self, pictures):
        if self.layer == "none":
            return
        wholes = [self.pooled(p, DESCRIBE) for p in pictures]
        regions = [self.pooled_regions(p) or [w] for p, w in zip(pictures, wholes, strict=True)]
        every = np.array([r for of_picture in regions for r in of_picture])
        self.mean = every.mean(0)
        between = np.cov(every.T)
        spread, rows = np.trace(between), len(every)
        if self.design.embedding.transform == "whitened":
            views = [np.array([self.pooled(v) for v in views_of_parts(p)]).reshape(2, 4, -1) for p in pictures]
            between = between + 10 * np.mean([np.cov(part.T) for of_picture in views for part in of_picture], axis=0)
            rows += 8 * len(pictures)
        values, directions = np.linalg.eigh(between)
        count = min(
            96, rows, len(values)
        )  # of few pictures no more directions than rows; where none lies there is none
        directions = np.where(values > 1e-10 * values[-1], directions, 0)[:, -count:]
        self.projection = directions / np.sqrt(values[-count:].clip(0) + 0.01 * spread / count)
        self.scale = 1.0
        raw = self.design.embedding.transform == "raw"
        self.scale = rms_distance(wholes if raw else [self.transformed(r) for r in every])
        self.cohort = [self.transformed(r) for r in every]
        if not self.reads_text:
            self.compare([self.transformed(w) for w in wholes], [[self.transformed(r) for r in p] for p in regions])
            self.along = [self.directed(w) for w in wholes], [[self.directed(r) for r in p] for p in regions]

    def directed(self, pooled):
        return (pooled - self.mean) @ self.projection

    def transformed(self, pooled):
        if self.design.embedding.transform == "raw":
            return pooled / self.scale
        along = self.directed(pooled)
        return along / np.linalg.norm(along) / self.scale

    def compare(self, wholes, regions):
        """The visual match of each region of a picture with each other picture; own regions are no cohort."""
        numbers = range(len(wholes))
        count = min(self.cohort_count, (len(wholes) - 1) * len(regions[0]))

        def level(point, own):
            return self.level(point, [r for i in numbers if i != own for r in regions[i]], count)

        levels = [[level(p, i) for p in [*regions[i], wholes[i]]] for i in numbers]
        self.scores = [
            max(
                self.score(gap(key, part), levels[i][k], of_part)
                for part, of_part in zip([*regions[j], wholes[j]], levels[j], strict=True)
            )
            for j in numbers
            for i in numbers
            if i != j
            for k, key in enumerate(regions[i])
        ]

    @property
    def cohort_count(self):
        return max(2, round(0.2 * len(self.cohort)))

    def level(self, point, cohort, count):
        distances = nearest(point, cohort, count)
        return float(np.mean(distances)), float(np.std(distances, ddof=1))

    @staticmethod
    def score(distance, key, query):
        return ((key[0] - distance) / key[1] + (query[0] - distance) / query[1]) / 2

    def text_half(self, text):
        return self.design.embedding.text_weight * self.encoder.encode([self.vlm.clean(text)])[0].double().numpy()

    def vision_half(self, image, text):
        if self.layer == "none":
            return np.zeros(0)
        return self.pooled(image, text) / self.scale if self.reads_text else self.transformed(self.pooled(image))

    def embed(self, images, text):
        """Of a region with several views, the first of which is itself; ``None`` for a text alone."""
        half = np.mean([self.vision_half(image, text) for image in images], axis=0)
        if len(images) > 1 and self.design.embedding.transform != "raw":
            half *= np.linalg.norm(self.vision_half(images[0], text)) / np.linalg.norm(half)
        return np.concatenate([half, self.text_half(text)])

    # ---- writing

    def listed(self, crops, sentence):
        """The numbers of the windows about which the VLM is asked."""
        if self.design.evidence.shortlist is None:
            return set(range(len(crops)))
        return set(self.rank(crops, [sentence])[0][: self.design.evidence.shortlist])

    def p_yes(self, image, sentence):
        name = (image.size, image.tobytes(), sentence)
        if name not in self._asked:
            self._asked[name] = float(self.vlm.p_yes(self.vlm.see([image]), [[verification_question(sentence)]])[0][0])
        return self._asked[name]

    def evidence(self, image, sentences):
        """For each sentence its windows and whether they are a guess."""
        config, image = self.design.evidence, shrink(image)
        if config.single_window is not None:
            return self.single_windows(image, sentences)
        windows = []
        for rows, columns in SHAPES[config.grid]:
            if (image.width > image.height and columns > rows) or (image.height > image.width and rows > columns):
                continue
            for top in range(config.grid - rows + 1):
                for left in range(config.grid - columns + 1):
                    box = tuple(x / config.grid for x in (left, top, left + columns, top + rows))
                    windows.append((rows * columns, box, crop(image, box)))
        windows.sort(key=lambda window: window[0])
        found = []
        for sentence in sentences:
            listed, scored = self.listed([window for *_, window in windows], sentence), []
            for number, (size, box, window) in enumerate(windows):
                if number in listed and self.p_yes(window, sentence) > config.p_yes:
                    nll = self.vlm.sentence_nll(self.vlm.see([window]), DESCRIBE, [[sentence]])[0][0]
                    scored.append((round(float(nll), 2), size, box))
            small = [s for s in scored if s[1] == min(s[1] for s in scored)]
            kept = {s[2] for s in small if s[0] == min(s[0] for s in small)}
            kept |= {s[2] for s in sorted(scored, key=lambda s: s[:2])[: config.top]}
            found.append(([s[2] for s in scored if s[2] in kept], False))
        return found

    def single_windows(self, image, sentences):
        config = self.design.evidence
        crops = [crop(image, box) for box in THIRDS]
        listed = [self.listed(crops, sentence) for sentence in sentences]
        chances = [
            [self.p_yes(window, sentence) if i in mine else 0.0 for i, window in enumerate(crops)]
            for sentence, mine in zip(sentences, listed, strict=True)
        ]
        denied = [i for i, p in enumerate(chances) if config.single_window < max(p) <= config.p_yes]
        found = []
        for i, p in enumerate(chances):
            if max(p) > config.p_yes:
                found.append(([THIRDS[p.index(max(p))]], False))
            elif i in denied:
                words = content_words(sentences[i])
                same = [j for j in denied if j == i or content_words(sentences[j]) & words]
                first = next((j for j in same if named_place(sentences[j])), same[0])
                place = named_place(sentences[first])

                def worth(number, of=first, place=place):
                    left, top, right, bottom = THIRDS[number]
                    middle = (left + right) / 2, (top + bottom) / 2
                    away = sum(abs(a - b) for a, b in zip(middle, place, strict=True)) if place else 0.0
                    return math.log(chances[of][number] / (1 - chances[of][number])) - 9 * away

                found.append(([THIRDS[max(listed[first], key=worth)]], True))
            else:
                found.append(([], False))
        return found

    def write(self, edit, replaces=""):
        writing, keys = self.design.writing, []
        pictures, texts = [edit.image], []

        def add(picture, text, kind, fact):
            keys.append((picture, text, kind, fact))
            texts.append(text)

        if writing.entries != "reasoning":
            add(0, edit.question, "answer", edit.answer_fact)
        sentences = edit.reasoning if writing.entries != "answer" else []
        without = [s for s, given in zip(sentences, edit.evidence, strict=False) if not given]
        found = iter(self.evidence(edit.image, without) if writing.keys != "image" and without else ())
        for sentence, given in zip(sentences, edit.evidence, strict=False):
            boxes, guess = (list(given), True) if given else next(found, ([], False))
            boxes = boxes if writing.keys != "image" else []
            planned = [(0, "image")] if writing.keys in ("image", "both") else []
            if writing.keys == "grounded" and not boxes:
                planned = [(None, "text")]
            for box in boxes:
                if box not in pictures:
                    pictures.append(box)
                planned.append((pictures.index(box), "given" if guess else "patch"))
            for picture, kind in planned:
                for text in [sentence, edit.question] if writing.question_keys else [sentence]:
                    add(picture, text, kind, sentence)
        cut = [edit.image, *(p if not isinstance(p, tuple) else crop(shrink(edit.image), p) for p in pictures[1:])]
        rng = random.Random(f"{writing.seed}-{edit.id}-0")
        copies, said = [augment(c, rng) for c in cut], {t: paraphrase(t, rng) for t in dict.fromkeys(texts)}
        entries = []
        for picture, text, kind, fact in keys:
            views = [cut[picture or 0]]
            if picture and not self.reads_text:
                box = pictures[picture]
                whole, part = (shrink(edit.image), box) if isinstance(box, tuple) else (box, WHOLE)
                views += views_of_region(whole, part, writing.region_views)
            point, copy = self.embed(views, text), self.embed([copies[picture or 0]], said[text])
            if picture is None and not self.reads_text:
                width = len(point) - len(self.text_half(text))
                point[:width] = copy[:width] = 0
            entries.append(Key(point, gap(point, copy) if writing.merge else 0.0, kind, fact, edit.id))
        self.edits[edit.id] = edit, entries
        self.counting = [e for e in self.edits if e in {*self.counting, edit.id} - {replaces}]

    def undo(self, edit_id):
        self.counting.remove(edit_id)

    def restore(self, edit_id):
        self.counting = [e for e in self.edits if e in {*self.counting, edit_id}]

    def merged(self):
        """The keys of the edits that count, the later ones merged into the earlier."""
        keys = []
        for entry in (e for name in self.counting for e in self.edits[name][1]):
            new = replace(entry, said=[(entry.text, entry.kind, entry.edit)])
            for key in keys:
                if self.design.writing.merge:
                    joins = merges(new.radius, key.radius, gap(new.point, key.point))
                else:
                    joins = key.kind == new.kind and gap(new.point, key.point) == 0
                if joins:
                    key.radius = max(key.radius, gap(new.point, key.point) + new.radius)
                    key.said += [s for s in new.said if s not in key.said]
                    break
            else:
                keys.append(new)
        return keys


def merges(a, b, d):
    """Whether two circles nearly coincide; the shared area is the sum of thin strips."""
    if d < 0.1 * a and d < 0.1 * b:
        return True
    if min(a, b) <= 0 or d >= a + b:
        return d == 0 and a == b == 0
    x = np.linspace(-a, a, 2001)
    heights = np.minimum(np.sqrt(np.clip(a * a - x * x, 0, None)), np.sqrt(np.clip(b * b - (x - d) ** 2, 0, None)))
    return 2 * float(np.trapezoid(heights, x)) > 0.9 * math.pi * max(a, b) ** 2
