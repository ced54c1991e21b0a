"""Evidence: windows, verification, scores and the choice, against one forward pass at a time."""

import one_by_one
import pytest
import torch
from helpers.tiny import design, picture
from PIL import Image

from reasonedit import Edit, ReasonEditError
from reasonedit.evidence import EvidenceConfig, EvidenceFinder, WindowScore, area, choose_windows, crop, windows_of
from reasonedit.evidence.choice import (
    BEST,
    GUESSED,
    LIKELIEST,
    OUTSCORED,
    SMALLEST,
    UNLISTED,
    UNVERIFIED,
    keep_single_window,
)
from reasonedit.prompts import NAME

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


def test_batches_do_not_change_the_result(tiny_vlm, monkeypatch):
    config, image = EvidenceConfig(p_yes=0.3), picture(2, 48)
    once = EvidenceFinder(tiny_vlm, config).find(image, SENTENCES)
    monkeypatch.setattr(type(tiny_vlm), "images_at_once", lambda self, *sizes: 4)
    parts = EvidenceFinder(tiny_vlm, config).find(image, SENTENCES)
    assert [e.boxes for e in once] == [e.boxes for e in parts]


@pytest.mark.parametrize("sentences", [1, 4])
def test_a_window_is_seen_and_read_once(tiny_vlm, sentences):
    seen, read = [], []
    tower = tiny_vlm.model.get_submodule("model.vision_tower")
    first = tiny_vlm.model.get_submodule("model.language_model.layers.0")
    hooks = [
        tower.register_forward_hook(lambda m, args, kwargs, out: seen.append(1), with_kwargs=True),
        first.register_forward_pre_hook(lambda m, args: read.append(args[0].shape[:2])),
    ]
    finder = EvidenceFinder(tiny_vlm)
    finder.find(picture(1, 48), [*SENTENCES, "Four."][:sentences])
    assert len(seen) == 2  # the first window of all tells how much memory the others take
    seen.clear()
    read.clear()
    finder.find(picture(1, 48), [*SENTENCES, "Four."][:sentences])
    for hook in hooks:
        hook.remove()
    assert len(seen) == 1
    assert read[0][0] == 29  # the image prefix of all windows, then the texts: verification, scores
    assert len(read) <= 3


def test_nothing_affirmed_gives_no_patch_and_says_why(tiny_vlm):
    found = EvidenceFinder(tiny_vlm, EvidenceConfig(p_yes=0.9999)).find(picture(1, 48), SENTENCES[:1])[0]
    assert found.boxes == []
    assert {w.why for w in found.windows} == {UNVERIFIED}
    assert all(w.p_yes is not None and w.nll is None for w in found.windows)


def test_the_single_window_is_the_likeliest_of_the_smallest(tiny_vlm):
    found = EvidenceFinder(tiny_vlm, EvidenceConfig(p_yes=0.0, single_window=0.0)).find(picture(1, 48), SENTENCES)
    for evidence in found:
        best = max(evidence.windows[:9], key=lambda w: w.p_yes)
        assert [w for w in evidence.windows if w.kept] == [best]
        assert best.why == LIKELIEST
        assert all(w.nll is None for w in evidence.windows)  # no window is described
    none = EvidenceFinder(tiny_vlm, EvidenceConfig(p_yes=0.0, single_window=0.999)).find(picture(1, 48), SENTENCES[:1])[
        0
    ]
    assert none.boxes == []


def test_names_are_asked_behind_windows_that_were_read(tiny_vlm):
    read = []
    finder = EvidenceFinder(tiny_vlm, EvidenceConfig(p_yes=0.9999, single_window=0.0))
    finder.find(picture(1, 48), SENTENCES[:1])
    first = tiny_vlm.model.get_submodule("model.language_model.layers.0")
    hook = first.register_forward_pre_hook(lambda m, args: read.append(args[0].shape[:2]))
    finder.find(picture(1, 48), SENTENCES[:1])
    finder.config = EvidenceConfig(p_yes=0.9999, single_window=0.9998)  # none is kept, whatever their names are
    finder.find(picture(1, 48), SENTENCES[:1])
    hook.remove()
    verified, named, alone = read
    assert (verified[0], named[0]) == (29, 9)
    assert verified == alone
    question = tiny_vlm.token_ids_after_image(tiny_vlm.prompt(NAME), tiny_vlm.see([picture(1)]).images[0].placeholder)
    assert named[1] == len(question)


def test_a_thing_without_a_name_is_where_the_vlm_can_name_least(tiny_vlm):
    image = picture(1, 48)
    found = EvidenceFinder(tiny_vlm, EvidenceConfig(p_yes=0.9999, single_window=0.0)).find(image, SENTENCES[:2])
    boxes = windows_of(image.size)[:9]
    asked = tiny_vlm.next_token_probabilities(
        tiny_vlm.see([crop(image, b) for b in boxes]), [tiny_vlm.prompt(NAME)] * 9
    )
    uncertainty = 1 - asked.amax(1)
    for evidence in found:
        weighted = [w.p_yes * float(u) for w, u in zip(evidence.windows, uncertainty, strict=False)]
        best = evidence.windows[weighted.index(max(weighted))]
        assert [w for w in evidence.windows if w.kept] == [best]
        assert best.why == GUESSED


def test_where_the_vlm_can_name_what_it_sees_moves_the_single_window():
    windows = [WindowScore(box, p) for box, p in zip(windows_of((48, 48))[:3], (0.02, 0.01, 0.001), strict=True)]
    boxes = [w.box for w in windows]
    keep_single_window(windows, 0.005, {boxes[0]: 0.99, boxes[1]: 0.2, boxes[2]: 0.0})
    assert [w.kept for w in windows] == [False, True, False]
    denied = [WindowScore(box, p) for box, p in zip(boxes, (0.02, 0.01, 0.001), strict=True)]
    keep_single_window(denied, 0.005, {boxes[0]: 0.99, boxes[1]: 0.999, boxes[2]: 0.0})
    assert not any(w.kept for w in denied)  # what is left is too unlikely


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
    with pytest.raises(ReasonEditError, match="cannot be had"):
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
