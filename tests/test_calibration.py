"""Calibration by unlabelled pictures: what it measures, keeps and refuses, and what it makes of keys and questions."""

import json
import math
import statistics as plain
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny import HashEncoder, design, picture
from PIL import Image
from test_store import killed_before_each

from reasonedit import Edit, ReasonEditError, ReasonEditor
from reasonedit.boxes import WHOLE
from reasonedit.calibration import Calibration, CalibrationPictures, PictureRange, calibrate, calibrated
from reasonedit.calibration.gathered import GatheredPictures
from reasonedit.calibration.thresholds import match_threshold, range_threshold
from reasonedit.codebook import EditMemory, Store, as_edit
from reasonedit.cold_start import ColdStart
from reasonedit.design import DEFAULT
from reasonedit.embedding import QUERY_REGIONS, DualEmbedder, EmbeddingConfig, statistics_of, tensors_of
from reasonedit.embedding.unrelated import Unrelated, distances_from_pictures
from reasonedit.embedding.views import PARTS, VIEWS
from reasonedit.errors import ConflictError, InputError, NotFoundError, UnavailableError
from reasonedit.experiments.designs import without_pictures
from reasonedit.pipeline import EditingPipeline
from reasonedit.recalibrate import recalibrate
from reasonedit.retrieval import FactRetriever, RetrievalConfig
from reasonedit.retrieval.visual_match import VisualMatch

pytestmark = pytest.mark.usefixtures("hash_encoder")


def points(count: int, width: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, width))).float()


def pictures(count: int = 20, first: int = 100):
    return [picture(first + number) for number in range(count)]


def whitened(**retrieval):
    base = design(keys="grounded")
    return replace(
        base,
        embedding=replace(base.embedding, transform="whitened"),
        retrieval=replace(base.retrieval, query_regions=True, percentile=100.0, **retrieval),
    )


@pytest.fixture
def embedder(tiny_vlm):
    return DualEmbedder(tiny_vlm, whitened().embedding, HashEncoder())


# ---- how near unrelated pictures come to each other


def brute_force_scores(wholes: torch.Tensor, regions: torch.Tensor) -> list[float]:
    """The match of each region with each other picture, by the definition, one pair at a time."""
    count, each = len(wholes), len(regions) // len(wholes)
    cohort = [(number // each, region) for number, region in enumerate(regions.tolist())]
    nearest = min(max(2, round(0.2 * len(cohort))), len(cohort) - each)

    def level(owner: int, row: list[float]) -> tuple[float, float]:
        distances = sorted(math.dist(row, other) for of, other in cohort if of != owner)[:nearest]
        return plain.mean(distances), plain.stdev(distances)

    scores = []
    for owner, key in cohort:
        for other in range(count):
            if other == owner:
                continue
            rows = [row for of, row in cohort if of == other] + [wholes[other].tolist()]
            found = []
            for row in rows:
                distance = math.dist(key, row)
                sides = (level(owner, key), level(other, row))
                found.append(sum((mean - distance) / spread for mean, spread in sides) / 2)
            scores.append(max(found))
    return sorted(scores)


def test_scores_of_unrelated_pairs_are_those_of_the_definition():
    wholes, regions = points(5, seed=1), points(15, seed=2)
    unrelated = Unrelated.of((wholes, regions), (wholes, regions))
    assert unrelated.scores.tolist() == pytest.approx(brute_force_scores(wholes, regions), rel=1e-3, abs=1e-3)


def test_the_distance_from_all_pictures_leaves_each_out_of_its_own():
    wholes, regions = points(7, seed=1), points(21, seed=2)
    unrelated = Unrelated.of((wholes, regions), (wholes, regions))
    for i in range(7):
        others = [j for j in range(7) if j != i]
        whole = plain.mean(sorted(math.dist(wholes[i], wholes[j]) for j in others)[:5])
        rows = [regions[3 * j + r].tolist() for j in others for r in range(3)]
        parts = [plain.mean(sorted(math.dist(regions[3 * i + r], row) for row in rows)[:5]) for r in range(3)]
        assert unrelated.spread[i].tolist() == pytest.approx([whole, plain.mean(parts)], rel=1e-4)
    assert Unrelated.of((wholes[:2], regions[:6]), (wholes[:2], regions[:6])) is None  # no third to compare with


def test_many_pairs_are_kept_as_quantiles():
    wholes, regions = points(30, seed=1), points(270, seed=2)
    scores = Unrelated.of((wholes, regions), (wholes, regions)).scores
    assert len(scores) == 4096
    assert torch.equal(scores, scores.sort().values)


@pytest.mark.parametrize("rate", [0.2, 0.05, 0.01])
def test_a_bound_from_a_rate_of_false_alarms_keeps_it(rate):
    """Counted on pictures of the same kind that the bound was not made of."""
    made_of, new = (Unrelated.of(pair, pair) for pair in ((points(60, 8, s), points(540, 8, s + 1)) for s in (1, 3)))
    share = float((new.scores >= match_threshold(made_of.scores, rate)).float().mean())
    assert share == pytest.approx(rate, rel=0.6)


def test_bounds_are_quantiles_of_all_pairs_related_ones_included():
    null = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    mixed = torch.cat([null, 8 + null[:3_000]]).sort().values
    for rate in (0.2, 0.04, 0.01):
        bound = match_threshold(mixed, rate)
        assert bound == pytest.approx(float(np.quantile(mixed.double().numpy(), 1 - rate)), rel=1e-6)
        assert float((mixed >= bound).double().mean()) == pytest.approx(rate, rel=1e-3)
    assert match_threshold(mixed, 0.01) > 7 > 3 > match_threshold(mixed, 0.04)
    assert range_threshold(null.sort().values, 0.05) == pytest.approx((1 + 2 / math.sqrt(len(null))) * 1.645, abs=0.05)


def test_the_rate_replaces_the_bound_only_where_statistics_say_how_near_pictures_come(embedder):
    measured = calibrate(embedder, pictures()).statistics
    config = RetrievalConfig(visual_match=2.5, false_alarms=0.01)
    assert calibrated(config, measured).visual_match == match_threshold(measured.unrelated.scores, 0.01)
    assert calibrated(config, replace(measured, unrelated=None)) == config  # of an earlier version
    assert calibrated(config, None) == config
    assert calibrated(RetrievalConfig(visual_match=2.5), measured).visual_match == 2.5
    for rates in ({"false_alarms": 0.0}, {"out_of_range": 1.0}):
        with pytest.raises(ReasonEditError, match="must be above 0 and below 1"):
            RetrievalConfig(**rates)


def test_the_scores_are_those_that_retrieval_gives(embedder):
    """A key of one picture's region and another picture as the query, through the codebook."""
    shown = pictures(12)
    found = calibrate(embedder, pictures(16)).statistics
    embedder.use(found)
    regions = [*QUERY_REGIONS, WHOLE]
    halves = embedder.embed_regions(embedder.see(shown[:2]), [regions] * 2)
    memory = EditMemory()
    from reasonedit.codebook import Entry, Fact
    from reasonedit.kinds import KeyKind

    key = torch.cat([halves[0][4], torch.zeros(2)])
    memory.write(Edit(shown[0], "What?", "it", ["It is."]), [Entry(key, 0.0, Fact("It is.", KeyKind.PATCH, "e"))])
    query = torch.cat([halves[1], torch.zeros(10, 2)], dim=1)
    match = VisualMatch(found.cohort)
    match.update(memory)
    score = float(match.score(memory, query, match.level(query), torch.tensor([0])))
    low, high = found.unrelated.scores.min(), found.unrelated.scores.max()
    assert low - 1 < score < high + 1


# ---- the object and its files


def test_a_calibration_comes_back_from_its_files(embedder, tmp_path):
    made = calibrate(embedder, pictures())
    made.save(tmp_path / "new" / "mine")
    again = Calibration.load(tmp_path / "new" / "mine")
    assert again.record == made.record
    assert made.record.pictures == 20
    for name, tensor in tensors_of(made.statistics).items():
        assert torch.equal(tensors_of(again.statistics)[name], tensor), name
    assert sorted(p.name for p in (tmp_path / "new" / "mine").iterdir()) == [
        "calibration.json",
        "calibration.safetensors",
    ]
    with pytest.raises(ReasonEditError, match=r"There is a calibration in .* already"):
        made.save(tmp_path / "new" / "mine")
    with pytest.raises(ReasonEditError, match="There is no calibration"):
        Calibration.load(tmp_path)


def test_damaged_files_are_refused_in_words(embedder, tmp_path):
    calibrate(embedder, pictures()).save(tmp_path)
    record, tensors = tmp_path / "calibration.json", tmp_path / "calibration.safetensors"
    good_record, good_tensors = record.read_bytes(), tensors.read_bytes()
    values = json.loads(good_record)
    for broken in (
        b"{",
        b"[]",
        json.dumps(values | {"digest": "0" * 32}).encode(),
        json.dumps(values | {"record": values["record"] | {"pictures": "many"}}).encode(),
        json.dumps(values | {"record": {}}).encode(),
    ):
        record.write_bytes(broken)
        with pytest.raises(ReasonEditError, match=r"is damaged .* make it again"):
            Calibration.load(tmp_path)
    record.write_bytes(json.dumps(values | {"format": 9}).encode())
    with pytest.raises(ReasonEditError, match="is of format 9"):
        Calibration.load(tmp_path)
    record.write_bytes(good_record)
    for broken in (good_tensors[:-9], good_tensors[:-9] + b"x" * 9, b""):
        tensors.write_bytes(broken)
        with pytest.raises(ReasonEditError, match=r"is damaged .* make it again"):
            Calibration.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "model.vision_tower.encoder.layers.1"}, "layer: '.*projector' there, '.*layers.1' here"),
        ({"transform": "raw"}, "transform: 'whitened' there, 'raw' here"),
        ({"pooling": "last"}, "pooling: 'mean' there, 'last' here"),
    ],
)
def test_another_setting_is_refused(embedder, tiny_vlm, change, message):
    made = calibrate(embedder, pictures())
    other = replace(whitened(), embedding=replace(whitened().embedding, **change))
    with pytest.raises(ReasonEditError, match=message):
        ReasonEditor(tiny_vlm, other, calibration=made)


def test_another_vlm_is_refused(embedder, tiny_vlm):
    made = calibrate(embedder, pictures())
    weights = tiny_vlm.model.get_parameter("model.multi_modal_projector.linear_1.bias")
    record = replace(made.record, parts=made.record.parts | {"vision_weights": "0" * 32})
    assert weights is not None
    with pytest.raises(ReasonEditError, match="which differ in vision_weights"):
        ReasonEditor(tiny_vlm, whitened(), calibration=Calibration(made.statistics, record))


def test_the_layer_is_that_of_the_calibration_where_the_design_names_none(tiny_vlm):
    layer = "model.vision_tower.encoder.layers.1"
    config = replace(whitened().embedding, layer=layer)
    made = calibrate(DualEmbedder(tiny_vlm, config, HashEncoder()), pictures())
    editor = ReasonEditor(tiny_vlm, whitened(), calibration=made)
    assert editor.pipeline.embedder.layer == layer == editor.pipeline.design.embedding.layer


def test_pictures_that_cannot_be_used_are_counted_and_named(embedder, tmp_path):
    for number, shown in enumerate(pictures(17)):
        shown.save(tmp_path / f"{number:02}.png")
    (tmp_path / "within").mkdir()
    picture(100).save(tmp_path / "within" / "again.png")
    (tmp_path / "torn.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("not looked at")
    told = []
    record = calibrate(embedder, tmp_path, lambda *done: told.append(done)).record
    assert record.pictures == 17
    assert record.source == str(tmp_path)
    assert " ".join(record.left_out) == ("1 were left out: the same picture came before. 1 cannot be read: torn.jpg.")
    assert told[-1] == (19, 19)


def test_pictures_of_other_formats_and_in_linked_folders_are_not_passed_over_in_silence(embedder, tmp_path):
    folder, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    for number, shown in enumerate(pictures(17)):
        shown.save((elsewhere if number % 2 else folder) / f"{number:02}.png")
    for link, target in (("linked", elsewhere), ("twice", elsewhere), ("round", folder)):
        (folder / link).symlink_to(target)
    for number in range(6):
        (folder / f"{number}.heic").write_bytes(b"of a telephone")
    record = calibrate(embedder, folder).record
    assert record.pictures == 17
    assert record.left_out == ["6 are not png, jpg, webp or bmp: 0.heic, 1.heic, 2.heic, 3.heic, 4.heic and 1 more."]


def test_too_few_pictures_are_refused_and_few_are_warned_of(embedder, tmp_path, caplog):
    with pytest.raises(ReasonEditError, match="not a folder: name one of pictures"):
        calibrate(embedder, tmp_path / "none")
    with pytest.raises(ReasonEditError, match="There are no pictures in"):
        calibrate(embedder, tmp_path)
    with pytest.raises(ReasonEditError, match="at least 16 distinct pictures, better 64: '15 pictures' has 15"):
        calibrate(embedder, pictures(15))
    with pytest.raises(ReasonEditError, match="There is no image file"):
        calibrate(embedder, [*pictures(20), tmp_path / "gone.png"])
    calibrate(embedder, pictures(16))
    assert "16 pictures is rough: 64 or more are better" in caplog.text
    text_alone = DualEmbedder(embedder.vlm, EmbeddingConfig(encoder="hash", layer="none"), HashEncoder())
    with pytest.raises(ReasonEditError, match="embeds texts alone"):
        calibrate(text_alone, pictures())


@pytest.mark.parametrize("transform", ["raw", "whitened"])
def test_pictures_that_are_all_alike_to_the_layer_are_refused(tiny_vlm, transform):
    """Blank pages of many sizes are distinct pictures, and one picture once the processor has resized them."""
    chosen = DualEmbedder(tiny_vlm, replace(whitened().embedding, transform=transform), HashEncoder())
    blank = [Image.new("RGB", (40 + number, 40 + number), "grey") for number in range(20)]
    with pytest.raises(InputError, match="all 20 pictures are alike"):
        calibrate(chosen, blank)
    calibrate(chosen, [*blank, picture(0)])


@pytest.mark.parametrize("place", ["whole", "region", "view"])
def test_numbers_that_are_not_finite_make_no_calibration(tiny_vlm, monkeypatch, place):
    """A family refuses them in what the language model reads, not in each layer; a model of no family nowhere."""
    config = replace(whitened().embedding, region_source="crops")
    chosen, passed = DualEmbedder(tiny_vlm, config, HashEncoder()), []
    spoilt = {"whole": 5, "region": 30, "view": 16 * 10 + 3}[place]  # wholes pass first, then regions, then views
    see = type(tiny_vlm).see

    def overflows(self, images, layers=()):
        vision = see(self, images, layers)
        for seen in vision.images:
            if len(passed) == spoilt:
                seen.layers = {chosen.layer: torch.full_like(seen.layers[chosen.layer], torch.inf)}
            passed.append(seen)
        return vision

    monkeypatch.setattr(type(tiny_vlm), "see", overflows)
    with pytest.raises(InputError, match=f"activations of the layer '{chosen.layer}' are not finite"):
        calibrate(chosen, pictures(16))


def test_of_very_many_pictures_some_are_taken_at_even_steps():
    sources = [f"{number}.png" for number in range(1201)]
    taken = CalibrationPictures.of(sources)
    assert len(taken) == 401
    assert "401 of 1201 pictures were taken, at even steps." in taken.describe_left_out()


# ---- pictures out of range


def test_pictures_like_the_reference_are_in_range_and_others_are_not(embedder):
    found = calibrate(embedder, pictures(40)).statistics
    embedder.use(found)
    like = PictureRange.of(found, 0.05)
    boxes = [*QUERY_REGIONS, WHOLE]
    rng = np.random.default_rng(0)
    flat = [Image.new("RGB", (32, 32), colour) for colour in ("white", "black", "red", "grey")]
    noise = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(8)]
    for parts in (boxes, [WHOLE]):
        own, one_colour, fine = (
            np.array([like.score(query) for query in embedder.along(embedder.see(shown), [parts] * len(shown))])
            for shown in (pictures(40, first=500), flat, noise)
        )
        assert np.mean(own <= 1) >= 0.9
        assert min(one_colour) > 1
        assert min(fine) > np.median(own)  # as colourful as these on the whole: a random tower hardly tells them apart
    assert PictureRange.of(found, None) is None
    assert PictureRange.of(replace(found, unrelated=None), 0.05) is None


def test_the_score_is_the_distance_as_a_share_of_how_far_a_picture_may_lie():
    wholes, regions = points(30, seed=1), points(90, seed=2)
    like = PictureRange(Unrelated.of((wholes, regions), (wholes, regions)), 0.1)
    query = points(4, seed=3)
    distances = distances_from_pictures(query, wholes, regions)
    spread = Unrelated.of((wholes, regions), (wholes, regions)).spread
    medians = spread.median(0).values
    bound = (1 + 2 / math.sqrt(30)) * np.quantile((spread / medians).mean(1).numpy(), 0.9)
    assert like.score(query) == pytest.approx(float((distances / medians).mean()) / bound, rel=1e-4)


@pytest.mark.parametrize("chain", [False, True])
def test_no_fact_is_fetched_by_a_picture_that_is_unlike_all_others(tiny_vlm, chain):
    made = calibrate(DualEmbedder(tiny_vlm, whitened().embedding, HashEncoder()), pictures(40))
    editor = ReasonEditor(tiny_vlm, whitened(out_of_range=0.02, chain=chain, visual_match=0.0), calibration=made)
    shown = picture(100)
    box = (0.0, 0.0, 0.5, 0.5)
    editor.edit(
        shown, "What is it?", answer="a stop", reasoning=["It is red.", "Red things stop."], evidence=[[box], None]
    )
    found = {hit.kind.value for hit in editor.ask(shown, "What is it?").hits}
    assert "given" in found
    strange = Image.new("RGB", (32, 32), "white")
    answer = editor.ask(strange, "What is it?")
    assert answer.in_range is False
    assert editor.ask(shown, "What is it?").in_range is True
    assert not any(hit.kind.picture for hit in answer.hits)
    if chain:
        assert not answer.hits
    explanation = editor.explain(strange, "What is it?")
    fates = {key.fate for key in explanation.keys if key.kind.picture}
    assert fates == {"the picture is unlike all pictures of the calibration"}
    # What was said of this very picture counts, and nothing that was said of others does.
    own = editor.edit(strange, "Whose is it?", answer="a ghost", reasoning="It is white.")
    hits = editor.ask(strange, "Whose is it?").hits
    assert {(hit.kind.value, hit.edit_id) for hit in hits if hit.kind.picture} == {("answer", own.id)}
    checked = editor.check_edit(own.id)
    assert own.answer_fact in {hit.fact for hit in checked.changes[0].after.hits}
    assert checked.warnings[0].startswith("Only edits of this very picture count for it: the picture is unlike")
    careless = ReasonEditor(tiny_vlm, whitened(), calibration=made)
    assert careless.ask(strange, "What is it?").in_range is None


def test_texts_are_fetched_for_a_picture_out_of_range_however_many_pictures_are_nearer():
    from reasonedit.codebook import Entry, Fact
    from reasonedit.kinds import KeyKind

    memory = EditMemory()
    for number in range(200):
        kind, place = (KeyKind.TEXT, 5.0) if number == 150 else (KeyKind.PATCH, 0.001 * number)
        entry = Entry(torch.tensor([place, 0.0]), 0.0, Fact(f"Fact {number}.", kind, f"e{number}"))
        memory.write(Edit(picture(0), "What?", "it", [f"Fact {number}."], id=f"e{number}"), [entry])
    retriever = FactRetriever(memory, RetrievalConfig(k=3, percentile=100))
    inside, outside = retriever.retrieve(torch.zeros(2, 2), [True, False])
    assert inside.facts == ["Fact 0.", "Fact 1.", "Fact 2."]
    assert outside.facts == ["Fact 150."]
    assert (inside.in_range, outside.in_range) == (True, False)
    assert retriever.retrieve(torch.zeros(1, 2))[0].in_range is None


# ---- keys that are made anew


def edits(count: int = 3):
    told = [[f"It is {number}.", "Things stand."] for number in range(count)]
    return [Edit(picture(i), f"What is {i}?", f"thing {i}", told[i], id=f"e{i}") for i in range(count)]


def same_keys(one: EditMemory, other: EditMemory) -> bool:
    return (
        torch.allclose(one.keys, other.keys, atol=1e-5)
        and torch.allclose(one.radii, other.radii, atol=1e-5)
        and one.entries == other.entries
        and list(one.edits) == list(other.edits)
        and list(one.undone) == list(other.undone)
    )


@pytest.mark.parametrize("folder", [False, True], ids=["memory", "folder"])
@pytest.mark.parametrize("merge", [False, True])
def test_calibrated_later_the_codebook_is_as_if_it_had_been_calibrated_first(tiny_vlm, tmp_path, folder, merge):
    chosen = replace(whitened(), writing=replace(whitened().writing, merge=merge, keys="both"))
    late = ReasonEditor(tiny_vlm, chosen)
    if folder:
        late.save(tmp_path / "late")
    for one in edits():
        late.write(one)
    late.undo("e1", "Ada")
    before = late.memory.keys.clone()
    made = late.calibrate(pictures())
    early = ReasonEditor(tiny_vlm, chosen, calibration=made)
    for one in edits():
        # The evidence is kept, so that it is not sought by other statistics.
        early.memory.add([early.pipeline.embed_anew(one, late.memory.find(one.id))])
    early.undo("e1", "Ada")
    assert not torch.allclose(before, late.memory.keys)
    assert same_keys(late.memory, early.memory)
    assert [(e.op, e.edit_id, e.author) for e in late.memory.events][-1] == ("undo", "e1", "Ada")
    late.restore("e1")
    early.restore("e1")
    assert same_keys(late.memory, early.memory)
    assert [h.fact for h in late.ask(picture(2), "What is 2?").hits] == [
        h.fact for h in early.ask(picture(2), "What is 2?").hits
    ]
    if folder:
        again = ReasonEditor.load(tmp_path / "late", tiny_vlm)
        assert same_keys(again.memory, late.memory)
        assert again.pipeline.statistics.record == made.record
        for name, tensor in tensors_of(made.statistics).items():
            assert torch.equal(tensors_of(again.pipeline.embedder.statistics)[name], tensor)
        assert as_edit(again.memory.find("e0"), {n: again.memory.picture(n) for n in again.memory.find("e0").pictures})


def test_what_no_picture_went_into_is_not_embedded_anew(tiny_vlm, monkeypatch):
    editor = ReasonEditor(tiny_vlm, replace(whitened(), writing=replace(whitened().writing, entries="reasoning")))
    from reasonedit.evidence import Evidence, EvidenceFinder

    monkeypatch.setattr(
        EvidenceFinder, "find_with_windows", lambda self, image, texts, *rest: ([Evidence(t) for t in texts], {})
    )
    for one in edits():
        editor.write(one)
    assert {fact.kind.value for facts in editor.memory.entries for fact in facts} == {"text"}
    before, asked = editor.memory.keys.clone(), []
    monkeypatch.setattr(EditingPipeline, "embed_anew", lambda *_: asked.append(1))
    editor.calibrate(pictures())
    assert torch.equal(before, editor.memory.keys)
    assert not asked


def test_who_reads_the_folder_takes_the_new_statistics_with_the_new_keys(tiny_vlm, tmp_path):
    writer = ReasonEditor(tiny_vlm, whitened())
    writer.save(tmp_path / "book")
    for one in edits():
        writer.write(one)
    reader = ReasonEditor.load(tmp_path / "book", tiny_vlm)
    asked = (picture(1), "What is 1?")
    assert reader.ask(*asked).nearest == pytest.approx(writer.ask(*asked).nearest)
    made = writer.calibrate(pictures())
    answer, expected = reader.ask(*asked), writer.ask(*asked)
    assert answer.nearest == pytest.approx(expected.nearest, abs=1e-5)
    assert [h.fact for h in answer.hits] == [h.fact for h in expected.hits]
    assert reader.pipeline.statistics.record == made.record
    reader.edit(picture(9), "What is 9?", answer="thing 9", reasoning=["It is 9."])
    assert writer.ask(picture(9), "What is 9?").nearest == pytest.approx(0, abs=1e-4)


def test_an_edit_that_was_embedded_while_others_calibrated_is_embedded_anew(tiny_vlm, tmp_path, monkeypatch):
    writer = ReasonEditor(tiny_vlm, whitened())
    writer.save(tmp_path / "book")
    other = ReasonEditor.load(tmp_path / "book", tiny_vlm)
    draft = EditingPipeline.draft

    def draft_and_wait(self, edit, vision=None):
        made = draft(self, edit, vision)
        if self is other.pipeline:
            writer.calibrate(pictures())
        return made

    monkeypatch.setattr(EditingPipeline, "draft", draft_and_wait)
    other.write(edits()[0])
    assert other.pipeline.statistics.record is not None
    assert writer.ask(picture(0), "What is 0?").nearest == pytest.approx(0, abs=1e-4)


def test_questions_that_are_asked_while_the_codebook_is_calibrated_see_one_or_the_other(tiny_vlm):
    editor = ReasonEditor(tiny_vlm, whitened())
    for one in edits(2):
        editor.write(one)
    asked = (picture(0), "What is 0?")
    legal = {round(editor.ask(*asked).nearest, 3)}
    first = calibrate(editor.pipeline.embedder, pictures())
    seen, stop = set(), threading.Event()

    def ask():
        while not stop.is_set():
            seen.add(round(editor.ask(*asked).nearest, 3))

    thread = threading.Thread(target=ask)
    thread.start()
    for number in range(4):
        made = calibrate(editor.pipeline.embedder, pictures(first=1000 * number)) if number % 2 else first
        recalibrate(editor.pipeline, made)
        legal.add(round(editor.ask(*asked).nearest, 3))
    stop.set()
    thread.join()
    assert seen <= legal


def test_killed_in_the_middle_the_codebook_is_the_old_one_or_the_new_one(tiny_vlm, tmp_path):
    editor = ReasonEditor(tiny_vlm, whitened())
    editor.save(tmp_path / "book")
    for one in edits():
        editor.write(one)
    old = {"keys": editor.memory.keys.clone(), "statistics": Store.open(tmp_path / "book").statistics()}
    made = calibrate(editor.pipeline.embedder, pictures())
    anew = EditingPipeline(tiny_vlm, whitened(), calibration=made)
    entries = {one.id: anew.embed_anew(one, editor.memory.find(one.id)).entries for one in edits()}
    new = {
        "keys": torch.stack([e.key for one in edits() for e in entries[one.id]]),
        "statistics": tensors_of(made.statistics),
    }
    states = []

    def replace_keys():
        memory = EditMemory.open(Store.open(tmp_path / "book"))
        memory.replace_keys(entries, tensors_of(made.statistics), anew.settings)

    def look():
        store = Store.open(tmp_path / "book")
        memory, there = EditMemory.open(store), store.statistics()
        is_new = "calibration" in store.manifest.config
        expected = new if is_new else old
        assert torch.equal(memory.keys, expected["keys"])
        assert all(torch.equal(there[name], tensor) for name, tensor in expected["statistics"].items())
        states.append(is_new)

    assert killed_before_each(replace_keys, look) > 6
    look()
    assert states == sorted(states)
    assert set(states) == {False, True}
    assert statistics_of(Store.open(tmp_path / "book").statistics()) is not None


def test_an_error_on_the_way_changes_nothing(tiny_vlm, monkeypatch):
    editor = ReasonEditor(tiny_vlm, whitened())
    for one in edits():
        editor.write(one)
    before, by = editor.memory.keys.clone(), editor.pipeline.statistics.value
    monkeypatch.setattr(EditMemory, "picture", lambda *_: (_ for _ in ()).throw(ReasonEditError("gone")))
    with pytest.raises(ReasonEditError, match="gone"):
        editor.calibrate(pictures())
    assert torch.equal(before, editor.memory.keys)
    assert editor.pipeline.statistics.value is by
    assert editor.pipeline.statistics.record is None


# ---- no calibration at first


def own(**retrieval):
    base = whitened(**retrieval)
    return replace(base, embedding=replace(base.embedding, reference="own"))


def test_without_pictures_it_begins_cautiously_and_calibrates_itself_once_there_are_enough(tiny_vlm, caplog):
    caplog.set_level("INFO", "reasonedit.cold_start")
    editor = ReasonEditor(tiny_vlm, own(false_alarms=0.01, out_of_range=0.02))
    assert editor.pipeline.retriever.config.percentile == 20.0
    first = calibrated(editor.pipeline.retriever.config, editor.pipeline.statistics.value).visual_match
    assert first == editor.pipeline.retriever.config.visual_match
    assert editor.pipeline.retriever.config.false_alarms == pytest.approx(0.00004)
    editor.edit(picture(0), "What is 0?", answer="thing 0", reasoning=["It is 0."])
    before = editor.memory.keys.clone()
    for number in range(30):  # with that of the edit 31
        answer = editor.ask(picture(1 + number), "What is it?")
        editor.ask(picture(1 + number), "And what is this?")  # the same picture counts once
        assert answer.in_range is None  # nobody knows yet
    assert torch.equal(editor.memory.keys, before)
    assert not caplog.records
    assert editor.ask(picture(99), "What is it?").in_range is True
    said = "Calibrated by the first {} pictures that were asked about and edited; 1 edits were embedded again."
    assert [record.message for record in caplog.records] == [said.format(32)]
    assert not torch.allclose(editor.memory.keys, before)
    assert editor.pipeline.statistics.record.pictures == 32
    assert editor.pipeline.retriever.config.percentile == 100.0
    before = editor.memory.keys.clone()
    for number in range(31):
        editor.ask(picture(200 + number), "What is it?")
    assert torch.equal(editor.memory.keys, before)
    editor.ask(picture(300), "What is it?")
    assert [record.message for record in caplog.records] == [said.format(32), said.format(64)]
    record = editor.pipeline.statistics.record
    assert record.pictures == 64
    for number in range(70):
        editor.ask(picture(400 + number), "What is it?")
    assert editor.pipeline.statistics.record is record  # for good


def test_what_began_with_few_pictures_goes_on_in_another_process(tiny_vlm, tmp_path, caplog):
    editor = ReasonEditor(tiny_vlm, own())
    editor.save(tmp_path / "book")
    for one in pictures(32):
        editor.ask(one, "What is it?")
    assert Store.open(tmp_path / "book").manifest.config["calibration"]["pictures"] == 32
    ReasonEditor.load(tmp_path / "book", tiny_vlm, read_only=True).ask(picture(0), "What is it?")
    assert not warnings_in(caplog)  # it has a calibration, though only that of the first pictures
    again = ReasonEditor.load(tmp_path / "book", tiny_vlm)
    for one in pictures(64, first=100):
        again.ask(one, "What is it?")
    assert Store.open(tmp_path / "book").manifest.config["calibration"]["pictures"] == 64
    assert ReasonEditor.load(tmp_path / "book", tiny_vlm)._cold_start is None


def test_the_calibration_by_what_is_asked_is_that_by_the_same_pictures(tiny_vlm):
    editor = ReasonEditor(tiny_vlm, own())
    shown = pictures(64)
    for one in shown:
        editor.ask(one, "What is it?")
    expected = calibrate(DualEmbedder(tiny_vlm, own().embedding, HashEncoder()), shown)
    found = editor.pipeline.statistics.value
    probe = points(5, len(found.mean))
    distances = [
        torch.cdist(s.apply(probe, "whitened"), s.apply(probe, "whitened")) for s in (found, expected.statistics)
    ]
    torch.testing.assert_close(*distances, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.unrelated.scores, expected.statistics.unrelated.scores, rtol=1e-2, atol=1e-2)
    assert editor.pipeline.statistics.record.parts == expected.record.parts


def test_a_design_that_reads_no_vision_side_layer_is_not_cautious(tiny_vlm, hash_encoder):
    own = replace(DEFAULT, embedding=replace(DEFAULT.embedding, encoder="hash"))
    for layer in ("none", tiny_vlm.language_layers[1]):
        pipeline = EditingPipeline(tiny_vlm, without_pictures(own, layer=layer, transform="raw"))
        assert pipeline.own.embedding.reference == "own"
        assert not pipeline.statistics.awaits_pictures
        assert pipeline.retriever.config.percentile == DEFAULT.retrieval.percentile


def test_a_calibration_that_is_given_or_another_reference_switches_the_cold_start_off(tiny_vlm):
    made = calibrate(DualEmbedder(tiny_vlm, own().embedding, HashEncoder()), pictures())
    for editor in (ReasonEditor(tiny_vlm, own(), calibration=made), ReasonEditor(tiny_vlm, whitened())):
        before = editor.pipeline.statistics.value
        for number in range(65):
            editor.ask(picture(number), "What is it?")
        assert editor.pipeline.statistics.value is before
        assert editor.pipeline.retriever.config.percentile == 100.0


@pytest.mark.parametrize("source", ["pooled", "crops"])
def test_an_image_that_is_asked_about_passes_once_all_the_same(tiny_vlm, monkeypatch, source):
    """Its regions, too, where they are crops; beside it pass views of its parts, until there are enough."""
    base = own()
    editor = ReasonEditor(tiny_vlm, replace(base, embedding=replace(base.embedding, region_source=source)))
    passed = []
    see = type(tiny_vlm).see
    monkeypatch.setattr(
        type(tiny_vlm),
        "see",
        lambda self, images, *rest, **more: passed.append(len(images)) or see(self, images, *rest, **more),
    )
    for asked in (1, 2):
        editor.ask(picture(1), "What is it?")
        first = 1 + (len(QUERY_REGIONS) if source == "crops" else 0)
        assert sum(passed) == asked * first + PARTS * VIEWS  # those once for each picture
    if source == "pooled":
        return
    passed.clear()
    editor.edit(picture(2), "What is it?", answer="a stop", reasoning=["It is red."], evidence=[[WHOLE]])
    taken = editor.pipeline.watch.__self__._pictures.reference
    shown = editor.pipeline.embedder.see([picture(2)], regions=True)
    expected = torch.stack(
        [seen.layers[editor.pipeline.embedder.layer].flatten(0, 1).mean(0) for seen in shown.images[0].regions.values()]
    )
    torch.testing.assert_close(taken.regions[-1], expected, atol=1e-5, rtol=1e-4)  # crops


@pytest.fixture
def cautious_book(tiny_vlm, tmp_path):
    """An editor with one edit that awaits pictures, in a folder, and its cold start, which 16 pictures suffice."""
    editor = ReasonEditor(tiny_vlm, own())
    editor.write(edits(1)[0])
    editor.save(tmp_path / "book")
    return editor, ColdStart(editor.pipeline, enough=16)


def warnings_in(caplog) -> list[str]:
    return [r.message for r in caplog.records if r.name == "reasonedit.cold_start" and r.levelname == "WARNING"]


def test_where_somebody_else_writes_it_is_calibrated_later(cautious_book, monkeypatch, caplog):
    (editor, start), embedded = cautious_book, []
    folder, embed = editor.memory.store.folder, EditingPipeline.embed_anew
    monkeypatch.setattr(EditingPipeline, "embed_anew", lambda *args: embedded.append(1) or embed(*args))
    with Store.open(folder).writing():
        began = time.monotonic()
        start.take(pictures(16))
        for number in range(64 + 63):
            start.take([picture(number)])
        assert time.monotonic() - began < 10  # no question waits for whoever writes
    assert editor.pipeline.statistics.awaits_pictures
    assert not embedded
    said = warnings_in(caplog)
    assert [f"tried again after {number} more pictures" in text for number, text in zip((64, 128), said, strict=True)]
    assert all("is being written by" in text for text in said)
    start.take(pictures(64))
    assert editor.pipeline.statistics.awaits_pictures  # not at each question
    start.take(pictures(64))
    assert editor.pipeline.statistics.record.pictures == 16
    assert "calibration" in Store.open(folder).manifest.config
    assert len(warnings_in(caplog)) == 2


def test_what_a_full_disk_prevents_is_tried_again_and_what_does_not_pass_is_said_once(
    cautious_book, monkeypatch, caplog
):
    editor, start = cautious_book
    tried = []

    def fail(error):
        def rewrite(*_, **__):
            tried.append(error)
            raise error

        return rewrite

    with monkeypatch.context() as patch:
        patch.setattr(Store, "rewrite", fail(UnavailableError("no space")))
        start.take(pictures(16))
        start.take(pictures(63))
        assert len(tried) == 1
        start.take(pictures(1))
        assert len(tried) == 2
        patch.setattr(Store, "rewrite", fail(NotFoundError("a picture is gone")))
        for _ in range(8):
            start.take(pictures(64))
        assert len(tried) == 3
    assert [text.rpartition("(")[2] for text in warnings_in(caplog)] == ["no space)", "no space)", "a picture is gone)"]
    assert editor.pipeline.statistics.awaits_pictures


def test_what_others_calibrated_meanwhile_is_kept(cautious_book, tiny_vlm):
    editor, start = cautious_book
    with Store.open(editor.memory.store.folder).writing():
        start.take(pictures(16))
    made = ReasonEditor.load(editor.memory.store.folder, tiny_vlm).calibrate(pictures(17, first=500))
    start.take(pictures(64))
    assert editor.pipeline.statistics.record == made.record


def test_a_codebook_that_is_only_read_is_not_calibrated_until_it_is_saved_elsewhere(
    cautious_book, tiny_vlm, tmp_path, caplog
):
    folder = cautious_book[0].memory.store.folder
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    editor = ReasonEditor.load(folder, tiny_vlm, read_only=True)
    start = ColdStart(editor.pipeline, enough=16)
    for _ in range(3):
        start.take(pictures(16))
    assert editor.pipeline.statistics.awaits_pictures
    (said,) = warnings_in(caplog)
    assert "has no calibration, and none is made as it is only read" in said
    with pytest.raises(ConflictError, match="save it into another folder first"):
        editor.write(edits(2)[1])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    editor.save(tmp_path / "mine")
    start.take(pictures(16))
    assert "calibration" in Store.open(tmp_path / "mine").manifest.config


def test_a_picture_counts_once_it_was_read(tiny_vlm, monkeypatch):
    embedder = DualEmbedder(tiny_vlm, own().embedding, HashEncoder())
    gathered = GatheredPictures(embedder, most=18)

    def fail_late(images, reference, vision=None):
        reference.add(torch.ones(4, 4, 8))  # some were read already
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(embedder, "read", fail_late)
        for _ in range(3):
            with pytest.raises(torch.OutOfMemoryError):
                gathered.take(pictures(8))
    assert (len(gathered), len(gathered.reference.wholes)) == (0, 0)
    gathered.take([*pictures(8), *pictures(8)])
    assert (len(gathered), len(gathered.reference.wholes), gathered.full) == (8, 8, False)
    with pytest.raises(InputError, match="takes at least 16 distinct pictures, better 64: 'those asked about' has 8"):
        gathered.calibration("those asked about")
    gathered.take(pictures(20))
    assert (len(gathered), len(gathered.reference.wholes), gathered.full) == (18, 18, True)
    assert gathered.calibration("those asked about").record.pictures == 18
