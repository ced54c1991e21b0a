"""The pipeline against a plain and slow second implementation, over streams of edits, undone ones, and questions."""

import hashlib
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.oracle_search import AskedOracle
from PIL import Image

from reasonedit import Edit
from reasonedit.calibration import calibrate
from reasonedit.codebook import Store
from reasonedit.design import DEFAULT, PAPER, Design, WritingConfig
from reasonedit.embedding import EmbeddingConfig, SentenceEncoder
from reasonedit.evidence import EvidenceConfig, EvidenceFinder
from reasonedit.pipeline import EditingPipeline
from reasonedit.recalibrate import recalibrate
from reasonedit.retrieval import RetrievalConfig
from reasonedit.vlm import Generation, Vision

NOUNS = "kettle zither bell lamp sailor harbor clinic cabinet garden".split()
SENTENCES = (
    "The object on the left is a {}.",
    "The {} hums.",
    "A {} is kept in the {}.",
    "The {} belongs to the {}.",
    "It stands beside the {}.",
)
QUESTIONS = "What is this?", "Who owns the {}?", "Where is the {} kept?"
SEEDS = range(85, 93)
AFFIRMED = 0.67, 0.73, 0.78  # the tiny VLM's own probabilities lie about these


class WordEncoder:
    """A sentence encoder without a model: no two texts are equally near to a third."""

    name = "words"

    def encode(self, texts):
        return torch.nn.functional.normalize(
            torch.stack([sum(map(self.word, t.lower().split())) for t in texts]), dim=1
        )

    @staticmethod
    def word(word):
        seed = int(hashlib.md5(word.encode()).hexdigest(), 16) % 2**32
        return torch.from_numpy(np.random.default_rng(seed).normal(size=24)).float()


class Ranked:
    """A shortlist in an order that depends on window and sentence alone."""

    @staticmethod
    def rank(crops, sentences):
        def place(window, sentence):
            return hashlib.md5(window.tobytes() + sentence.encode()).digest()

        return [sorted(range(len(crops)), key=lambda i, s=s: place(crops[i], s)) for s in sentences]


def finder(vlm, config):
    return EvidenceFinder(vlm, config, Ranked())


@pytest.fixture(autouse=True)
def encoder_of_words(monkeypatch):
    monkeypatch.setattr(SentenceEncoder, "from_pretrained", classmethod(lambda *_, **__: WordEncoder()))


def blocks(seed, count, size):
    colours = np.random.default_rng(seed).integers(0, 256, (count, count, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)


def scene(rng, size=None):
    """Some of a few things, each in a third of a picture."""
    width, height = size or rng.choice([(48, 48)] * 3 + [(64, 40), (40, 64), (540, 360)])
    image = blocks(rng.randrange(10**6), 2, (width, height))
    for _ in range(rng.choice([1, 2, 3])):
        thing = blocks(rng.randrange(8), 3, (width // 3, height // 3))
        image.paste(thing, (rng.randrange(3) * (width // 3), rng.randrange(3) * (height // 3)))
    return image


def seen_again(image, rng):
    """Nearly the same picture."""
    pixels = np.asarray(image).astype(int)
    noise = np.random.default_rng(rng.randrange(10**6)).integers(-4, 5, pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def said(rng, wordings):
    return rng.choice(wordings).format(*rng.sample(NOUNS, 2))


class Both:
    """A pipeline and an oracle to which the same happens."""

    def __init__(self, vlm, design, pictures, rng, rule=None):
        self.vlm, self.rng = vlm, rng
        self.pipeline = EditingPipeline(vlm, design, finder=finder)
        self.oracle = AskedOracle(vlm, rule or design, WordEncoder(), pictures, Ranked.rank)
        self.sentences = [said(rng, SENTENCES) for _ in range(10)]
        self.scenes = [scene(rng) for _ in range(4)]
        self.undone = []

    def new_edit(self):
        rng = self.rng
        reasoning = rng.sample(self.sentences, rng.choice([1, 2]))
        given = [[(0.0, 0.0, 0.5, 0.5)], [blocks(rng.randrange(8), 3, (16, 16)), (0.3, 0.3, 0.7, 0.7)]]
        evidence = [rng.choice([None, None, None, *given]) for _ in reasoning]
        image, name = seen_again(rng.choice(self.scenes), rng), f"e{len(self.oracle.edits)}"
        return Edit(image, said(rng, QUESTIONS), rng.choice(NOUNS), reasoning, id=name, evidence=evidence)

    def happen(self):
        """Write an edit, now and then in the place of another, and undo or restore some."""
        rng, edit = self.rng, self.new_edit()
        replaces = rng.choice(self.oracle.counting) if self.oracle.counting and rng.random() < 0.2 else ""
        self.pipeline.write(edit, replaces=replaces)
        self.oracle.write(edit, replaces)
        self.undone += [replaces] if replaces else []
        if len(self.oracle.counting) > 1 and rng.random() < 0.3:
            self.undone.append(rng.choice(self.oracle.counting))
            self.pipeline.memory.undo(self.undone[-1])
            self.oracle.undo(self.undone[-1])
        if self.undone and rng.random() < 0.3:
            again = self.undone.pop(rng.randrange(len(self.undone)))
            self.pipeline.memory.restore(again)
            self.oracle.restore(again)

    def reopen(self, folder):
        self.pipeline.save(folder)
        self.pipeline = EditingPipeline.open(Store.open(folder), self.vlm, finder=finder)

    def compare_keys(self):
        memory = self.pipeline.memory
        keys = [[(f.text, f.kind, f.edit_id) for f in memory.said(n)] for n in memory.numbers.tolist()]
        assert keys == [key.said for key in self.oracle.merged()]
        assert memory.radii.tolist() == pytest.approx([key.radius for key in self.oracle.merged()], rel=1e-3, abs=1e-4)

    def questions(self, count):
        rng, edits = self.rng, [edit for edit, _ in self.oracle.edits.values()]
        unlike = blocks(rng.randrange(10**6), 24, (48, 48))
        for _ in range(count):
            known = seen_again(rng.choice(edits).image, rng)
            image = rng.choice([known, known, seen_again(rng.choice(self.scenes), rng), scene(rng), unlike])
            yield image, rng.choice([said(rng, QUESTIONS), rng.choice(edits).question])

    def compare_answers(self, count, monkeypatch):
        """Ask several questions at once, with room for all facts and with less."""
        images, questions = zip(*self.questions(count), strict=True)
        vision = self.pipeline.see(images)
        found = self.pipeline.retrieve(vision, questions)
        for image, question, seen, retrieval in zip(images, questions, vision.images, found, strict=True):
            _, facts = self.oracle.ask(image, question)
            self.compare(retrieval, facts)
            context = self.rng.choice([120, 170, 220])
            with monkeypatch.context() as patch:
                patch.setattr(type(self.vlm), "context_length", property(lambda _, context=context: context))
                (prompt,), (left,) = self.pipeline.prompts(Vision([seen]), [question], [retrieval])
                free = min(Generation().max_new_tokens, context // 2)
                room = context - seen.size - free
                wanted, facts = self.oracle.ask(
                    image, question, lambda text, room=room: self.vlm.count_tokens(self.vlm.prompt(text)) <= room
                )
            assert prompt == wanted
            self.compare(left, facts)
            yield len(facts), len(retrieval.hits) - len(left.hits), sum(bool(f.via) for f in facts)

    def compare(self, retrieval, facts):
        oracle = self.oracle
        assert [(h.fact, h.kind, h.edit_id, h.same_picture) for h in retrieval.hits] == [
            (f.fact, f.kind, f.edit, f.same) for f in facts
        ]
        assert [h.fact for h in retrieval.left_out] == [f.fact for f in oracle.left_out]
        for hit, fact in zip(retrieval.hits, facts, strict=True):
            if isinstance(fact.via, list):  # a walk has no distance of its own
                assert hit.via in fact.via
                continue
            assert hit.via == fact.via
            assert hit.distance == pytest.approx(fact.distance, rel=1e-3, abs=1e-3)
            assert hit.visual_match == (None if fact.match is None else pytest.approx(fact.match, rel=0.02, abs=0.02))
        assert retrieval.in_range == oracle.in_range
        for mine, wanted in ((retrieval.nearest, oracle.nearest), (retrieval.threshold, oracle.threshold)):
            assert mine == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def save_reference(folder, seed, count):
    """Unrelated pictures in a folder."""
    rng, pictures = random.Random(seed), []
    for number in range(count):
        pictures.append(scene(rng, (48, 48)))
        pictures[-1].save(folder / f"{number:02}.png")
    return pictures


def run(both, edits, folder, monkeypatch):
    """Edits, with questions in between, and again from a folder."""
    seen = []
    for number in range(edits):
        both.happen()
        if number == edits // 2:
            both.reopen(folder)
        if number % 2 or number == edits - 1:
            both.compare_keys()
            seen += both.compare_answers(both.rng.choice([1, 3]), monkeypatch)
    return np.array(seen).sum(0)


def test_the_papers_design(tiny_vlm, tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    pictures = save_reference(tmp_path / "pictures", 0, 8)
    design = replace(PAPER, embedding=replace(PAPER.embedding, reference=str(tmp_path / "pictures")))
    design = replace(design, evidence=replace(design.evidence, p_yes=AFFIRMED[1]))
    facts, dropped, _ = run(Both(tiny_vlm, design, pictures, random.Random(0)), 3, tmp_path / "book", monkeypatch)
    assert facts
    assert dropped


def test_the_default_design_before_and_after_a_calibration(tiny_vlm, tmp_path, monkeypatch):
    fixed, rng = save_reference(tmp_path, 1, 8), random.Random(1)
    monkeypatch.setattr("reasonedit.embedding.dual.reference_images", lambda source: {"own": fixed}[source])
    monkeypatch.setattr("reasonedit.embedding.dual.load_or_measure", lambda parts, measure: measure())
    design = replace(DEFAULT, evidence=replace(DEFAULT.evidence, single_window=AFFIRMED[0], p_yes=AFFIRMED[2]))
    careful = replace(design.retrieval, false_alarms=0.05 / 250, percentile=5.0, naming=False, out_of_range=None)
    both = Both(tiny_vlm, design, fixed, rng, replace(design, retrieval=careful))
    run(both, 3, tmp_path / "book", monkeypatch)

    own = [scene(rng, (48, 48)) for _ in range(16)]
    assert recalibrate(both.pipeline, calibrate(both.pipeline.embedder, own)) == len(both.oracle.edits)
    before, both.oracle = both.oracle, AskedOracle(tiny_vlm, design, WordEncoder(), own, Ranked.rank)
    for edit, _ in before.edits.values():
        both.oracle.write(edit)
    both.oracle.counting = before.counting
    both.compare_keys()
    seen = [*both.compare_answers(4, monkeypatch)]
    both.reopen(tmp_path / "book")
    for _ in range(2):
        both.happen()
        both.compare_keys()
        seen += both.compare_answers(3, monkeypatch)
    assert np.array(seen).sum(0)[0]


def drawn_design(rng, vlm, folder):
    """Any settings that go together."""
    layer = rng.choice(["", "", "image_features", vlm.vision_layers[1], "none", vlm.language_layers[1]])
    reads_text, pooling = layer in vlm.language_layers, rng.choice(["mean", "mean", "last"])
    plain = reads_text or layer == "none"
    matches, verify = not plain and rng.random() < 0.6, rng.choice([None, *AFFIRMED[:2]])
    return Design(
        EmbeddingConfig(
            layer,
            text_weight=rng.choice([0.5, 1.4, 2.0]),
            encoder="words",
            pooling=pooling,
            transform="raw" if plain else rng.choice(["raw", "whitened"]),
            reference=str(folder),
            region_source=rng.choice(["pooled", "crops"]),
        ),
        EvidenceConfig(
            grid=rng.choice([3, 4]),
            p_yes=rng.choice(AFFIRMED[1:]),
            single_window=rng.choice([None, AFFIRMED[0]]),
            top=rng.choice([0, 1, 3]),
            shortlist=rng.choice([None, 4]),
        ),
        WritingConfig(
            entries=rng.choice(["all", "all", "reasoning", "answer"]),
            keys=rng.choice(["both", "image", "patch", "grounded"]),
            question_keys=rng.random() < 0.4,
            merge=rng.random() < 0.6,
            seed=rng.randrange(5),
            region_views=rng.choice([0, 2]),
        ),
        RetrievalConfig(
            k=rng.choice([2, 3, 5]),
            k_counts=rng.choice(["keys", "facts"]),
            percentile=rng.choice([10.0, 50.0, 90.0]),
            gate_per_fact=rng.random() < 0.5,
            hubness=rng.random() < 0.3,
            query_regions=not reads_text and pooling == "mean" and rng.random() < 0.5,
            visual_match=rng.choice([-0.5, 0.0, 0.5]) if matches else None,
            false_alarms=rng.choice([None, 0.05, 0.3]) if matches else None,
            out_of_range=rng.choice([None, 0.01, 0.5]),
            k_answers=rng.choice([None, None, 0, 1]),
            verify=verify,
            visual_margin=rng.choice([None, 0.5]) if matches and verify is not None else None,
            chain=rng.random() < 0.5,
            naming=matches and rng.random() < 0.6,
            walk=rng.choice([0, 1, 2]),
            candidates=rng.choice([2, 4, 16]),
        ),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_any_design(tiny_vlm, tmp_path, monkeypatch, seed):
    (tmp_path / "pictures").mkdir()
    pictures, rng = save_reference(tmp_path / "pictures", seed, 6), random.Random(seed)
    design = drawn_design(rng, tiny_vlm, tmp_path / "pictures")
    run(Both(tiny_vlm, design, pictures, rng), rng.choice([2, 4]), tmp_path / "book", monkeypatch)


def test_designs_that_are_drawn_have_every_setting(tiny_vlm):
    drawn = [drawn_design(random.Random(seed), tiny_vlm, "pictures").to_dict() for seed in SEEDS]
    settings = {(part, name) for part, of_part in drawn[0].items() for name in of_part} - {("evidence", "clip")}
    same = {(p, n) for p, n in settings if len({d[p][n] for d in drawn}) == 1}
    assert same == {("embedding", "encoder"), ("embedding", "reference")}
