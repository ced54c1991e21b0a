"""Evidence: windows, verification, scores and the choice, against one forward pass at a time."""

import math
import random

import one_by_one
import pytest
import torch
from helpers.tiny import design, picture
from PIL import Image

from reasonedit import Edit, ReasonEditError
from reasonedit.evidence import (
    Evidence,
    EvidenceConfig,
    EvidenceFinder,
    WindowScore,
    area,
    choose_windows,
    crop,
    windows_of,
)
from reasonedit.evidence.choice import (
    BEST,
    GUESSED,
    LIKELIEST,
    OUTSCORED,
    SMALLEST,
    UNLISTED,
    UNVERIFIED,
    keep_single_windows,
)
from reasonedit.evidence.windows import THIRDS

SENTENCES = ["The red object is a kettle.", "A kettle is used for boiling.", "It flies."]


@pytest.mark.parametrize(
    ("size", "grid", "count"),
    [((90, 90), 3, 29), ((120, 90), 3, 21), ((90, 120), 3, 21), ((8, 8), 4, 49), ((9, 8), 4, 37), ((8, 9), 4, 37)],
)
def test_windows_follow_the_grid_and_the_aspect(size, grid, count):
    found = windows_of(size, grid)
    assert len(set(found)) == len(found) == count
    assert [area(b) for b in found] == sorted(area(b) for b in found)
    assert (0.0, 0.0, 1.0, 1.0) not in found
    for left, top, right, bottom in found:
        columns, rows = round((right - left) * grid), round((bottom - top) * grid)
        assert columns <= rows or size[0] <= size[1]
        assert rows <= columns or size[1] <= size[0]


def test_windows_cut_out_what_they_say():
    image = Image.new("RGB", (90, 60))
    image.paste((255, 0, 0), (30, 20, 60, 40))
    assert crop(image, (1 / 3, 1 / 3, 2 / 3, 2 / 3)).getcolors() == [(600, (255, 0, 0))]
    assert crop(Image.new("RGB", (4, 4)), (0.0, 0.0, 1 / 9, 1 / 9)).size == (1, 1)


def window(box, nll):
    return WindowScore(box, 0.9, nll)


def test_two_routes_with_ties():
    small = [(0.0, 0.0, 0.3, 0.3), (0.3, 0.0, 0.6, 0.3), (0.6, 0.0, 0.9, 0.3)]
    large = [(0.0, 0.0, 0.6, 0.6), (0.0, 0.3, 0.6, 0.9)]
    windows = [*map(window, small, [1.004, 0.996, 1.3]), *map(window, large, [0.5, 0.7])]
    windows.append(WindowScore((0.5, 0.5, 0.8, 0.8), 0.2, None, why=UNVERIFIED))
    choose_windows(windows, top=1)
    assert [w.kept for w in windows] == [True, True, False, True, False, False]
    assert [w.why for w in windows] == [SMALLEST, SMALLEST, OUTSCORED, BEST, OUTSCORED, UNVERIFIED]
    choose_windows(windows, top=3)
    assert [w.kept for w in windows] == [True, True, False, True, True, False]
    choose_windows(windows, top=0)
    assert [w.kept for w in windows] == [True, True, False, False, False, False]
    # Where only larger windows were affirmed, the smallest of these count.
    choose_windows(windows[3:], top=1)
    assert windows[3].why == f"{SMALLEST} and {BEST}"


@pytest.mark.parametrize("size", [(48, 48), (60, 40), (40, 64)])
@pytest.mark.parametrize("sentences", [1, 3])
def test_shared_passes_choose_what_single_passes_choose(tiny_vlm, size, sentences):
    image = picture(4, 64).resize(size)
    # A threshold in the middle of what this model says, so that some windows are out and some are in.
    every = [one_by_one.p_yes(tiny_vlm, crop(image, box), s) for box in windows_of(size) for s in SENTENCES[:sentences]]
    ordered = sorted(every)
    config = EvidenceConfig(p_yes=sum(ordered[len(ordered) // 2 :][:2]) / 2, top=2)
    fast = EvidenceFinder(tiny_vlm, config).find(image, SENTENCES[:sentences])
    slow = one_by_one.find(tiny_vlm, image, SENTENCES[:sentences], config)
    assert any(e.boxes for e in fast)
    for mine, theirs in zip(fast, slow, strict=True):
        assert mine.sentence == theirs.sentence
        assert mine.boxes == theirs.boxes
        for a, b in zip(mine.windows, theirs.windows, strict=True):
            assert a.p_yes == pytest.approx(b.p_yes, abs=1e-4)
            assert (a.nll is None) == (b.nll is None)
            if a.nll is not None:
                assert a.nll == pytest.approx(b.nll, abs=1e-3)
            assert a.kept == b.kept


def test_families_without_a_shared_prefix_find_the_same(tiny_vlm, monkeypatch):
    config, image = EvidenceConfig(p_yes=0.3), picture(2, 48)
    shared = EvidenceFinder(tiny_vlm, config).find(image, SENTENCES)
    monkeypatch.setattr(type(tiny_vlm), "shares_prefix", False)
    apart = EvidenceFinder(tiny_vlm, config).find(image, SENTENCES)
    for a, b in zip(shared, apart, strict=True):
        assert a.boxes == b.boxes
        assert [w.p_yes for w in a.windows] == pytest.approx([w.p_yes for w in b.windows], abs=1e-5)


@pytest.mark.parametrize("single_window", [None, 0.0])
def test_batches_do_not_change_the_result(tiny_vlm, monkeypatch, single_window):
    config, image = EvidenceConfig(p_yes=0.3, single_window=single_window), picture(2, 48)
    once = EvidenceFinder(tiny_vlm, config).find(image, SENTENCES)
    monkeypatch.setattr(type(tiny_vlm), "images_at_once", lambda self, *sizes: 4)
    parts = EvidenceFinder(tiny_vlm, config).find(image, SENTENCES)
    assert any(e.boxes for e in once)
    assert [e.boxes for e in once] == [e.boxes for e in parts]


@pytest.mark.parametrize("sentences", [1, 4])
@pytest.mark.parametrize(("single_window", "windows", "reads"), [(None, 29, 3), (0.0, 9, 2)])
def test_a_window_is_seen_and_read_once(tiny_vlm, sentences, single_window, windows, reads):
    seen, read = [], []
    tower = tiny_vlm.model.get_submodule("model.vision_tower")
    first = tiny_vlm.model.get_submodule("model.language_model.layers.0")
    hooks = [
        tower.register_forward_hook(lambda m, args, kwargs, out: seen.append(1), with_kwargs=True),
        first.register_forward_pre_hook(lambda m, args: read.append(args[0].shape[:2])),
    ]
    finder = EvidenceFinder(tiny_vlm, EvidenceConfig(single_window=single_window))
    finder.find(picture(1, 48), [*SENTENCES, "Four."][:sentences])
    assert len(seen) == 2  # the first window of all tells how much memory the others take
    seen.clear()
    read.clear()
    finder.find(picture(1, 48), [*SENTENCES, "Four."][:sentences])
    for hook in hooks:
        hook.remove()
    assert len(seen) == 1
    assert read[0][0] == windows  # the image prefix of all windows, then the texts: verification, scores of the routes
    assert len(read) <= reads


def test_nothing_affirmed_gives_no_patch_and_says_why(tiny_vlm):
    found = EvidenceFinder(tiny_vlm, EvidenceConfig(p_yes=0.9999)).find(picture(1, 48), SENTENCES[:1])[0]
    assert found.boxes == []
    assert {w.why for w in found.windows} == {UNVERIFIED}
    assert all(w.p_yes is not None and w.nll is None for w in found.windows)


@pytest.mark.parametrize("grid", [3, 4])
@pytest.mark.parametrize("size", [(48, 48), (60, 40), (40, 64)])
def test_a_single_window_is_one_of_nine_thirds_whatever_the_grid(tiny_vlm, size, grid):
    image = picture(4, 64).resize(size)
    config = EvidenceConfig(grid=grid, p_yes=0.0, single_window=0.0)
    for evidence in EvidenceFinder(tiny_vlm, config).find(image, SENTENCES):
        thirds = [(c / 3, r / 3, (c + 1) / 3, (r + 1) / 3) for r in range(3) for c in range(3)]
        for window, third in zip(evidence.windows, thirds, strict=True):
            assert window.box == pytest.approx(third)
        alone = [one_by_one.p_yes(tiny_vlm, crop(image, w.box), evidence.sentence) for w in evidence.windows]
        assert [w.p_yes for w in evidence.windows] == pytest.approx(alone, abs=1e-4)
        # All are affirmed: the one of the highest probability is kept, and none is described.
        (kept,) = [w for w in evidence.windows if w.kept]
        assert kept.p_yes == max(w.p_yes for w in evidence.windows)
        assert kept.why == LIKELIEST
        assert all(w.nll is None for w in evidence.windows)


SPOKEN = (  # a sentence, the words that others may share, and the column and row of the place that it names
    ("The object on the left is a zither.", {"zither"}, (0, 1)),
    ("A zither is owned by the sailor.", {"zither", "owned", "sailor"}, None),
    ("The object at the top right is a lute.", {"lute"}, (2, 0)),
    ("The sailor plays a lute.", {"sailor", "plays", "lute"}, None),
    ("The thing in the image is an oboe.", {"oboe"}, None),
    ("An oboe, in the middle, is a zither.", {"oboe", "zither"}, (1, 1)),
    ("It hums.", {"hums"}, None),
)


def choose_by_hand(spoken, table, least, p_yes):
    """What is kept, as a pair of a window's number and a reason: each window against each other, cell by cell."""
    logit = [[math.log(p / (1 - p)) for p in row] for row in table]
    denied = [i for i, row in enumerate(table) if least < max(row) <= p_yes]
    kept = []
    for i, row in enumerate(table):
        if max(row) > p_yes:
            kept.append((row.index(max(row)), LIKELIEST))
        elif i not in denied:
            kept.append(None)
        else:
            same = [j for j in denied if spoken[i][1] & spoken[j][1]]
            first = [*[j for j in same if spoken[j][2] is not None], *same][0]
            place = spoken[first][2]
            steps = [abs(w % 3 - place[0]) + abs(w // 3 - place[1]) if place else 0 for w in range(9)]
            scores = [logit[first][w] - 3 * steps[w] for w in range(9)]
            kept.append((scores.index(max(scores)), GUESSED))
    return kept


def test_single_windows_are_those_of_an_exhaustive_choice():
    rng, reasons, moved = random.Random(0), set(), 0
    for _ in range(400):
        spoken = rng.sample(SPOKEN, rng.randint(1, len(SPOKEN)))
        levels = [rng.choice((-7.0, -3.5, 0.5)) for _ in spoken]
        table = [[1 / (1 + math.exp(-rng.gauss(level, 1.5))) for _ in range(9)] for level in levels]
        found = [
            Evidence(text, [WindowScore(box, p, why=UNVERIFIED) for box, p in zip(THIRDS, row, strict=True)])
            for (text, _, _), row in zip(spoken, table, strict=True)
        ]
        keep_single_windows(found, 0.01, 0.5)
        for evidence, row, expected in zip(found, table, choose_by_hand(spoken, table, 0.01, 0.5), strict=True):
            kept = [(i, w.why) for i, w in enumerate(evidence.windows) if w.kept]
            assert kept == ([expected] if expected is not None else [])
            assert {w.why for w in evidence.windows if not w.kept} == {UNVERIFIED}
            reasons |= {why for _, why in kept}
            moved += bool(kept) and row[kept[0][0]] < max(row)
    assert reasons == {LIKELIEST, GUESSED}
    assert moved > 100  # places, and what other sentences say, count


@pytest.mark.parametrize(("ahead", "kept"), [(2.9, 3), (3.1, 4)])
def test_a_window_beside_the_named_place_must_be_denied_less_by_three_nats(ahead, kept):
    logits = [-9.0] * 9
    logits[3], logits[4] = -5.0, -5.0 + ahead
    windows = [WindowScore(box, 1 / (1 + math.exp(-x))) for box, x in zip(THIRDS, logits, strict=True)]
    keep_single_windows([Evidence("The object on the left is a zither.", windows)], 0.002, 0.5)
    assert [w.box for w in windows if w.kept] == [THIRDS[kept]]


def test_what_is_denied_everywhere_gets_no_single_window_and_leads_no_other_sentence():
    def made():
        placed, other = ([WindowScore(box, 0.001) for box in THIRDS] for _ in range(2))
        other[8].p_yes = 0.02
        return [Evidence("The object on the left is a zither.", placed), Evidence("A zither hums.", other)]

    found = made()
    keep_single_windows(found, 0.005, 0.5)
    assert [e.boxes for e in found] == [[], [THIRDS[8]]]
    found = made()
    keep_single_windows(found, 0.0005, 0.5)
    assert [e.boxes for e in found] == [[THIRDS[3]], [THIRDS[3]]]  # the one that names a place leads


def test_no_single_window_is_one_that_was_not_asked_about(tiny_vlm):
    class Last:
        def rank(self, crops, sentences):
            return [list(range(len(crops)))[::-1] for _ in sentences]

    sentences = ["The object at the top left is a zither.", "A zither hums."]
    for p_yes in (0.0, 0.9999):
        config = EvidenceConfig(p_yes=p_yes, single_window=0.0, shortlist=2)
        for evidence in EvidenceFinder(tiny_vlm, config, Last()).find(picture(1, 48), sentences):
            assert {w.why for w in evidence.windows[:7]} == {UNLISTED}
            assert len(evidence.boxes) == 1
            assert evidence.boxes[0] in THIRDS[7:]
    # However far from the place, and however strongly denied.
    windows = [WindowScore(box) for box in THIRDS[:8]] + [WindowScore(THIRDS[8], 1e-6)]
    keep_single_windows([Evidence(sentences[0], windows)], 0.0, 0.5)
    assert [w.box for w in windows if w.kept] == [THIRDS[8]]


@pytest.mark.parametrize("last", [1, 9], ids=["padded with the end token", "a token of the class at the end"])
def test_a_sentence_is_split_whatever_a_tokenizer_fills_up_with(last):
    """Those of SigLIP pad with the token that also ends a sentence; those of CoCa put one behind the padding."""
    from reasonedit.evidence.shortlist import ClipShortlist

    def tokenize(texts):
        words = [[10 + len(word) for word in text.split()][:6] for text in texts]
        return torch.tensor([[*ids, *[1] * (7 - len(ids)), last] for ids in words])

    shortlist = ClipShortlist(torch.nn.Identity(), None, tokenize)
    long = "The old zither stands on the wooden table"
    assert shortlist._split(long) == ["The old zither stands", "on the wooden table"]
    assert shortlist._split("It is old") == ["It is old"]


def test_a_shortlist_leaves_the_others_unasked(tiny_vlm):
    class Backwards:
        def rank(self, crops, sentences):
            return [list(range(len(crops)))[::-1] for _ in sentences]

    config = EvidenceConfig(p_yes=0.0, shortlist=5)
    found = EvidenceFinder(tiny_vlm, config, Backwards()).find(picture(1, 48), SENTENCES[:2])
    for evidence in found:
        assert [w.p_yes is not None for w in evidence.windows] == [False] * 24 + [True] * 5
        assert {w.why for w in evidence.windows[:24]} == {UNLISTED}


def test_open_clip_ranks_windows(tmp_path):
    import json

    import open_clip

    from reasonedit.evidence.shortlist import ClipShortlist

    size = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8, "head_width": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    (tmp_path / "tiny-clip.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": size, "text_cfg": text}))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    model = open_clip.create_model("tiny-clip")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    shortlist = ClipShortlist.from_pretrained(f"tiny-clip:{tmp_path / 'weights.pt'}")
    crops = [picture(i) for i in range(6)]
    ranked = shortlist.rank(crops, SENTENCES)
    assert [sorted(r) for r in ranked] == [list(range(6))] * 3
    with torch.inference_mode():
        one = shortlist.model.encode_image(shortlist.transform(crops[ranked[1][0]])[None], normalize=True)
        last = shortlist.model.encode_image(shortlist.transform(crops[ranked[1][-1]])[None], normalize=True)
        words = shortlist.model.encode_text(shortlist.tokenizer([SENTENCES[1]]), normalize=True)
    assert float((one @ words.T)[0, 0]) >= float((last @ words.T)[0, 0])
    # What is longer than the model reads is not cut off: two long sentences that differ at their ends are two.
    long = "It is a very old and somewhat rusty thing that lies on a table. " * 12
    ends = [long + "It is a kettle.", long + "Nobody has ever seen a boat like that."]
    assert torch.equal(*shortlist.tokenizer(ends))
    assert all(len(shortlist._split(end)) > 1 for end in ends)
    assert " ".join(shortlist._split(ends[0])) == ends[0]
    unbroken = "這是一個水壺。" * 40  # no spaces between its words
    parts = shortlist._split(unbroken)
    assert "".join(parts) == unbroken
    assert all(shortlist._split(part) == [part] for part in parts)
    assert len(parts) > 1
    heard = []
    encode = shortlist.model.encode_text
    shortlist.model.encode_text = lambda ids, normalize: heard.append(len(ids)) or encode(ids, normalize=normalize)
    ranks = shortlist.rank(crops, [ends[0], SENTENCES[1]])
    assert heard == [len(shortlist._split(ends[0])) + 1]
    assert ranks[1] == ranked[1]
    with pytest.raises(ReasonEditError, match="names no weights"):
        ClipShortlist.from_pretrained("ViT-B-32")
    with pytest.raises(ReasonEditError, match="is not available"):
        ClipShortlist.from_pretrained("no-such-architecture:nothing")


def test_the_users_own_evidence_takes_precedence(tiny_vlm, hash_encoder, monkeypatch):
    from reasonedit.pipeline import EditingPipeline

    asked = []
    original = EvidenceFinder.find_with_windows
    monkeypatch.setattr(
        EvidenceFinder,
        "find_with_windows",
        lambda self, image, s, *rest: (asked.append(s), original(self, image, s, *rest))[1],
    )
    pipeline = EditingPipeline(tiny_vlm, design(keys="patch"))
    box, other = (0.0, 0.0, 0.5, 0.5), picture(7)
    edit = Edit.of(picture(0), "What?", "a kettle", SENTENCES, evidence=[[box, other], None, [box]])
    written = pipeline.write(edit)
    assert asked == [[SENTENCES[1]]]
    keys = [e for e in written.entries if e.fact.text == SENTENCES[0]]
    assert len(keys) == 2
    embedder = pipeline.embedder
    for entry, shown in zip(keys, (crop(picture(0), box), other), strict=True):
        expected = embedder.embed(embedder.see([shown]), [SENTENCES[0]])[0]
        torch.testing.assert_close(entry.key, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        ([[(0, 0, 1.2, 1)]], r"\(0, 0, 1\.2, 1\) reaches outside the image"),
        ([[(0.5, 0, 0.5, 1)]], "has no area"),
        ([[(0.7, 0, 0.5, 1)]], "has no area"),
        ([[(0, 1, 2)]], "is not four numbers"),
        ([[("a", 0, 1, 1)]], "is not four numbers"),
        ([[(0, 0, float("nan"), 1)]], "reaches outside"),
        ([[(0, 0, 1, 1)], None], "evidence is for 2 sentences but the reasoning has 1"),
    ],
)
def test_bad_boxes_are_refused(evidence, message):
    with pytest.raises(ReasonEditError, match=message):
        Edit.of(picture(0), "What?", "x", ["A sentence."], evidence=evidence)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EvidenceConfig(grid=5), "grid must be 3 or 4, not 5"),
        (lambda: EvidenceConfig(p_yes=1.0), "p_yes must be at least 0 and below 1"),
        (lambda: EvidenceConfig(single_window=1.0), "single_window must be at least 0 and below 1"),
        (lambda: EvidenceConfig(top=-1), "top must be 0 or more"),
        (lambda: EvidenceConfig(shortlist=0), "shortlist must be 1 or more"),
        (
            lambda: Edit.of(picture(0), "What?", "x", ["A fact.", "..."]),
            r"The sentence '\.\.\.' of the reasoning has no words",
        ),
        (
            lambda: Edit.of(Image.new("RGB", (1, 1)), "What?", "x", ["A."]),
            "1 x 1 pixels: both sides must have at least 4",
        ),
        (lambda: Edit.of(Image.new("RGB", (1, 5000)), "What?", "x", ["A."]), "1 x 5000 pixels"),
    ],
)
def test_what_cannot_be_used_is_refused(make, message):
    with pytest.raises(ReasonEditError, match=message):
        make()
