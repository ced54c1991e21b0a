"""The pipeline end to end on a tiny VLM: what is written, fetched and put before a question."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny import design, picture
from PIL import Image

from reasonedit import Edit, ReasonEditError, ReasonEditor
from reasonedit.boxes import WHOLE
from reasonedit.codebook import Fact, StoredEdit, augment
from reasonedit.codebook.paraphrase import paraphrase
from reasonedit.design import Design, WritingConfig
from reasonedit.embedding import QUERY_REGIONS, EmbeddingConfig
from reasonedit.embedding.views import views_of_region
from reasonedit.errors import InputError
from reasonedit.evidence import EvidenceConfig, crop, shrink
from reasonedit.explain import UNLIKE, USED, explain_answer
from reasonedit.kinds import KeyKind
from reasonedit.pipeline import EditingPipeline
from reasonedit.prompts import verification_question
from reasonedit.retrieval import NearKey, Retrieval, RetrievalConfig, verify_facts
from reasonedit.types import Answer, Hit
from reasonedit.vlm import Generation

pytestmark = pytest.mark.usefixtures("hash_encoder")
BOX = (0.0, 0.0, 0.5, 0.5)


def edit(number=0, **changes):
    values = {"reasoning": ["It is red.", "Red things stop."], "evidence": [[BOX], None]} | changes
    return Edit.of(picture(number), f"What is number {number}?", f"thing {number}", **values)


@pytest.mark.parametrize(
    ("entries", "keys", "expected"),
    [
        ("all", "both", ["answer", "image", "given", "image"]),
        ("all", "image", ["answer", "image", "image"]),
        ("all", "patch", ["answer", "given"]),
        ("reasoning", "both", ["image", "given", "image"]),
        ("answer", "both", ["answer"]),
        ("reasoning", "grounded", ["given", "text"]),
    ],
)
def test_an_edit_writes_what_the_design_says(tiny_vlm, entries, keys, expected):
    chosen = replace(design(keys=keys, entries=entries), evidence=EvidenceConfig(p_yes=0.9999))  # affirms nothing
    assert [e.fact.kind for e in EditingPipeline(tiny_vlm, chosen).write(edit()).entries] == expected


def test_keys_are_the_embeddings_of_their_parts(tiny_vlm):
    pipeline = EditingPipeline(tiny_vlm, design(keys="grounded", question_keys=True, entries="all"))
    written = pipeline.write(edit(evidence=[[BOX], [BOX]]))
    embedder = pipeline.embedder
    vision = embedder.see([picture(0)])
    texts = {t: embedder.embed_texts([t])[0] for t in ("What is number 0?", "It is red.", "Red things stop.")}
    region = embedder.embed_regions(embedder.see([crop(picture(0), BOX)]), [[WHOLE]])[0][0]
    whole = embedder.embed_regions(vision, [[WHOLE]])[0][0]
    halves = [(whole, "What is number 0?"), (region, "It is red."), (region, "What is number 0?")]
    halves += [(region, "Red things stop."), (region, "What is number 0?")]
    for entry, (seen, text) in zip(written.entries, halves, strict=True):
        torch.testing.assert_close(entry.key, torch.cat([seen, texts[text]]))


@pytest.mark.parametrize("picture_given", [False, True])
def test_keys_of_regions_are_means_of_several_views_of_these_alone(tiny_vlm, picture_given):
    chosen = design(keys="grounded", entries="all")
    chosen = replace(chosen, writing=replace(chosen.writing, region_views=2))
    pipeline = EditingPipeline(tiny_vlm, chosen)
    region = crop(picture(0), BOX) if picture_given else BOX
    written = pipeline.write(edit(evidence=[[region], None], reasoning=["It is red.", "Red things stop."]))
    answer, sentence = written.entries[0].key, written.entries[1].key
    width = pipeline.embedder.width

    def embedded(images):
        return torch.cat([pipeline.embedder.embed_regions(pipeline.embedder.see([i]), [[WHOLE]])[0] for i in images])

    torch.testing.assert_close(answer[:width], embedded([picture(0)])[0])
    views = views_of_region(region, WHOLE, 2) if picture_given else views_of_region(picture(0), BOX, 2)
    torch.testing.assert_close(sentence[:width], embedded([crop(picture(0), BOX), *views]).mean(0))
    again = pipeline.embed_anew(edit(evidence=[[region], None]), written.edit)
    torch.testing.assert_close(again.entries[1].key, sentence)
    with pytest.raises(InputError, match="region_views must be 0 or more, not -1"):
        WritingConfig(region_views=-1)


def test_a_radius_is_the_distance_of_an_augmented_copy(tiny_vlm):
    import random

    pipeline = EditingPipeline(tiny_vlm, design(keys="image", merge=True, seed=5))
    new = edit()
    written = pipeline.write(new)
    rng = random.Random(f"5-{new.id}-0")
    copy = augment(new.image, rng)
    paraphrases = [paraphrase(t, rng) for t in (new.question, *new.reasoning)]
    copied = pipeline.embedder.embed(pipeline.embedder.see([copy]).select([0] * 3), paraphrases)
    expected = [float((e.key - c).norm()) for e, c in zip(written.entries, copied, strict=True)]
    assert [e.radius for e in written.entries] == pytest.approx(expected, rel=1e-4)
    assert min(expected) > 0
    again = EditingPipeline(tiny_vlm, design(keys="image", merge=True, seed=5)).write(new)
    assert [e.radius for e in again.entries] == [e.radius for e in written.entries]
    other_seed = EditingPipeline(tiny_vlm, design(keys="image", merge=True, seed=6)).write(new)
    assert [e.radius for e in other_seed.entries] != [e.radius for e in written.entries]


def photograph(side):
    """A picture with details of a few pixels, which shrinking smooths."""
    noise = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("side", [256, 1536])
def test_a_large_picture_gets_the_same_keys_whether_its_evidence_is_sought_or_known(tiny_vlm, side):
    """Windows are cut out as the finder cuts them: from the shrunk picture."""
    pipeline = EditingPipeline(tiny_vlm, design(keys="grounded", merge=True))
    large = replace(edit(), image=photograph(side))
    sought, found = pipeline.draft(large)
    assert found[1].boxes
    known = pipeline.embed_anew(large, sought.edit)
    small = pipeline.embed_anew(replace(large, image=shrink(large.image)), sought.edit)
    assert [e.fact.kind for e in sought.entries][1] == "given"
    for one, again, shrunk in list(zip(sought.entries, known.entries, small.entries, strict=True))[1:]:
        torch.testing.assert_close(again.key, one.key)
        torch.testing.assert_close(shrunk.key, one.key)
        assert again.radius == pytest.approx(one.radius, rel=1e-4)


def test_queries_by_region_hold_the_whole_and_nine_parts(tiny_vlm):
    base = design()
    pipeline = EditingPipeline(tiny_vlm, replace(base, retrieval=replace(base.retrieval, query_regions=True)))
    vision = pipeline.embedder.see([picture(0), picture(1)])
    queries = pipeline.queries(vision, ["a", "b"])
    assert queries.shape[:2] == (2, len(QUERY_REGIONS) + 1)
    whole = EditingPipeline(tiny_vlm, base).queries(vision, ["a", "b"])
    torch.testing.assert_close(queries[:, -1:], whole)


def test_a_prompt_that_is_too_long_loses_the_farthest_facts_first(tiny_vlm, monkeypatch):
    editor = ReasonEditor(tiny_vlm, design(k=50, percentile=100))
    for i in range(6):
        editor.write(edit(i))
    question = "What is number 3?"
    full = editor.ask(picture(3), question)
    assert len(full.hits) > 6
    assert full.left_out == []
    length = tiny_vlm.count_tokens(tiny_vlm.prompt(full.prompt)) + 16 + 16  # image tokens, and room for the answer
    monkeypatch.setattr(type(tiny_vlm), "context_length", property(lambda self: length - 1))
    short = editor.ask(picture(3), question)
    assert 0 < len(short.hits) < len(full.hits)
    assert short.hits == full.hits[: len(short.hits)]
    assert short.left_out == full.hits[len(short.hits) :][::-1]
    assert short.prompt == " ".join([*[h.fact for h in short.hits], question])
    assert max(h.distance for h in short.hits) <= min(h.distance for h in short.left_out)
    bare = tiny_vlm.count_tokens(tiny_vlm.prompt(question)) + 16
    monkeypatch.setattr(type(tiny_vlm), "context_length", property(lambda self: bare + 1))
    assert editor.ask(picture(3), question).hits == []
    monkeypatch.setattr(type(tiny_vlm), "context_length", property(lambda self: bare))
    with pytest.raises(ReasonEditError, match=f"image is {bare} tokens long, of which .* reads {bare}: shorten"):
        editor.ask(picture(3), question)


def test_an_explanation_has_every_fact_that_was_fetched_however_many_keys_are_nearer(tiny_vlm, monkeypatch):
    editor = ReasonEditor(tiny_vlm, design(k=30, percentile=100))
    for i in range(14):
        editor.write(edit(i, reasoning=[f"It is {i}.", f"It has {i} sides."]))
    question = "What is number 3?"
    found, answer = editor.explain(picture(3), question), editor.ask(picture(3), question)
    assert found.answer == answer
    assert [key.facts for key in found.keys if key.fate == USED] == [[hit.fact] for hit in answer.hits]
    assert len(answer.hits) == len(found.keys) == 30
    bare = tiny_vlm.count_tokens(tiny_vlm.prompt(question)) + 16 + 16
    monkeypatch.setattr(type(tiny_vlm), "context_length", property(lambda self: bare))
    assert [key.fate for key in editor.explain(picture(3), question).keys] == ["no room in the prompt"] * 30


def test_an_explanation_names_the_edit_that_says_a_fact_though_another_made_the_key(tiny_vlm):
    editor = ReasonEditor(tiny_vlm, design(k=9, percentile=100, merge=True))
    editor.write(edit(0))
    editor.write(Edit.of(picture(0), "What is number 0?", "a stop", ["It is round.", "Red things stop."]))
    found = editor.explain(picture(0), "What is number 0?")
    assert len(editor.memory) < 6
    assert {key.edit.id for key in found.keys} == set(editor.edits)
    assert all(text in key.edit.facts for key in found.keys for text in key.facts)
    assert {text for key in found.keys for text in key.facts} == {hit.fact for hit in found.answer.hits}


@pytest.mark.parametrize("in_range", [True, False])
def test_a_fact_that_counted_in_spite_of_its_picture_was_not_left_out_for_that(in_range):
    """It was joined to another by its name, or the picture is its own; then the prompt had no room."""
    fact, stored = Fact("It is red.", KeyKind.PATCH, "e"), StoredEdit("e", "What?", "a", ["It is red."])
    empty = Retrieval([], 0.1, 1.0)
    joined = Retrieval([Hit(fact.text, 0.1, fact.kind, "e")], 0.1, 1.0)
    answer = Answer("a", [], "What?", 0.1, 1.0, in_range=in_range)
    near = [(NearKey(0, 0.1, [fact], -3.0, True, False, 0), {"e": stored}, 0.0)]
    steps = [("not near", empty), ("not joined", joined), ("no room", empty)]
    (key,) = explain_answer(answer, near, steps, gate_per_fact=True).keys
    assert key.fate == "no room"
    other = Fact("It is round.", KeyKind.PATCH, "e")  # of the same key, which counts by no name
    both = [(NearKey(0, 0.1, [other, fact], -3.0, True, False, 0), {"e": stored}, 0.0)]
    told = explain_answer(answer, both, steps, gate_per_fact=True).keys
    assert [(key.facts, key.fate) for key in told[1:]] == [([fact.text], "no room")]
    assert (told[0].facts, told[0].fate) == ([other.text], "its picture does not match" if in_range else UNLIKE)
    (key,) = explain_answer(answer, near, steps[:1], gate_per_fact=True).keys
    assert key.fate == ("its picture does not match" if in_range else UNLIKE)


def test_a_sentence_under_one_key_in_two_kinds_has_one_fate():
    """It counts by its text where no picture does, and by the kind of key that matches well enough."""
    facts = [Fact("It is red.", kind, "e") for kind in (KeyKind.PATCH, KeyKind.TEXT)]
    stored, empty = StoredEdit("e", "What?", "a", ["It is red."]), Retrieval([], 0.1, 1.0)
    for seen, fate in ((facts, "not near"), (facts[:1], UNLIKE)):
        answer = Answer("a", [], "What?", 0.1, 1.0, in_range=False)
        near = [(NearKey(0, 0.1, seen, -3.0, True, True, 0), {"e": stored}, 0.0)]
        (key,) = explain_answer(answer, near, [("not near", empty)], gate_per_fact=True).keys
        assert (key.facts, key.fate) == (["It is red."], fate)


def test_choices_take_the_room_that_they_need(tiny_vlm, monkeypatch):
    """Beyond its context length a model's numbers mean nothing: no choice is scored there, with facts or without."""
    editor = ReasonEditor(tiny_vlm, design(k=50, percentile=100))
    for i in range(6):
        editor.write(edit(i))
    question, choices = "What is number 3?", ["a cat", " ".join(["a boat"] * 20)]
    prompt = tiny_vlm.prompt(question, choices)
    full = editor.ask(picture(3), question, choices)
    least = tiny_vlm.count_tokens(prompt) + 16 + len(tiny_vlm.continuation(prompt, choices[1]))
    fact = len(full.hits[0].fact) + 1
    for context, facts in ((least + fact, 1), (least + fact - 1, 0), (least, 0)):
        monkeypatch.setattr(type(tiny_vlm), "context_length", property(lambda self, context=context: context))
        answer = editor.ask(picture(3), question, choices)
        assert len(answer.hits) == facts
        assert len(answer.left_out) == len(full.hits) - facts
    monkeypatch.setattr(type(tiny_vlm), "context_length", property(lambda self: least - 1))
    with pytest.raises(ReasonEditError, match=r"tokens long and what is to follow it \d+, of which .*: shorten it"):
        editor.ask(picture(3), question, choices)


def test_facts_have_room_however_long_an_answer_may_be(tiny_vlm, monkeypatch):
    """At most half of the context is kept free for it: an answer ends where the context does anyway."""
    editor = ReasonEditor(tiny_vlm, design(k=50, percentile=100))
    for i in range(6):
        editor.write(edit(i))
    full = editor.ask(picture(3), "What is number 3?")
    assert full.hits
    for longest in (tiny_vlm.context_length - 200, tiny_vlm.context_length, 10 * tiny_vlm.context_length):
        _, (found,) = editor.pipeline.prompts(
            (vision := editor.pipeline.see([picture(3)])),
            ["What is number 3?"],
            editor.pipeline.retrieve(vision, ["What is number 3?"]),
            generation=Generation(longest),
        )
        assert found.facts == [hit.fact for hit in full.hits]


def test_an_answer_ends_where_the_context_does(tiny_vlm, monkeypatch):
    vision, questions = tiny_vlm.see([picture(0), picture(1)]), ["What is it, please?", "What?"]
    full = tiny_vlm.reply(vision, questions)
    room = tiny_vlm.count_tokens(tiny_vlm.prompt(questions[0])) + 16 + 3
    monkeypatch.setattr(type(tiny_vlm), "context_length", property(lambda self: room))
    long, short = tiny_vlm.reply(vision, questions)
    assert (long, short) == (tiny_vlm.reply(vision.select([0]), questions[:1], None, Generation(3))[0], full[1])
    assert long.finish_reason == "length"


def test_sentences_that_the_vlm_does_not_read_to_their_ends_are_refused(tiny_vlm):
    editor = ReasonEditor(tiny_vlm, design(keys="both"))
    with pytest.raises(ReasonEditError, match=r"question or sentence with its image is .* tokens long"):
        editor.write(edit(0, evidence=(), reasoning=["It is red. " * 300]))
    assert not editor.edits
    long = " red" * 600
    with pytest.raises(ReasonEditError, match="tokens long"):
        tiny_vlm.next_token_probabilities(tiny_vlm.see([picture(0)]), [tiny_vlm.prompt(long)])
    with pytest.raises(ReasonEditError, match="tokens long"):
        tiny_vlm.language_states(tiny_vlm.see([picture(0)]), [long], tiny_vlm.language_layers[0])


def test_a_fact_that_is_too_long_to_be_verified_is_left_out(tiny_vlm, monkeypatch):
    facts = ["It is red.", f"It is {'so ' * 40}red."]
    found = [Retrieval([Hit(fact, 0.1, "patch", "e") for fact in facts], 0.1, 1.0)]
    vision, config = tiny_vlm.see([picture(0)]), RetrievalConfig(k=50, verify=0.0)
    assert verify_facts(tiny_vlm, vision, found, config)[0].facts == facts
    room = tiny_vlm.count_tokens(tiny_vlm.prompt(verification_question(facts[0]))) + 16 + 1
    monkeypatch.setattr(type(tiny_vlm), "context_length", property(lambda self: room))
    (kept,) = verify_facts(tiny_vlm, vision, found, config)
    assert (kept.facts, [hit.fact for hit in kept.left_out]) == (facts[:1], facts[1:])


def test_special_tokens_in_facts_never_reach_a_prompt(tiny_vlm):
    editor = ReasonEditor(tiny_vlm, design(k=50, percentile=100))
    editor.write(edit(0, reasoning=["It is <image>red</s>.", "<pad>Red things st<ima<image>ge>op."]))
    asked = editor.ask(picture(0), "What is number 0?")
    assert "It is red." in asked.prompt
    assert "Red things stop." in asked.prompt


def test_verified_facts_are_those_that_the_image_shows(tiny_vlm, monkeypatch):
    base = design(k=50, percentile=100, keys="patch")
    base = replace(base, evidence=EvidenceConfig(p_yes=0.0))  # it finds something for every sentence
    pipeline = EditingPipeline(tiny_vlm, replace(base, retrieval=replace(base.retrieval, verify=0.5)))
    pipeline.write(edit(evidence=()))
    pipeline.write(edit(1, reasoning=["A person showed it."], evidence=[[BOX]]))
    shown = {"Does the image show it is red?": 0.9, "Does the image show red things stop?": 0.1}
    monkeypatch.setattr(
        type(tiny_vlm), "p_yes", lambda self, vision, asked: [torch.tensor([shown[q] for q in mine]) for mine in asked]
    )
    found = pipeline.retrieve(pipeline.embedder.see([picture(0)]), ["What is number 0?"])[0]
    assert "It is red." in found.facts
    assert "Red things stop." not in found.facts
    assert any(h.kind == "answer" for h in found.hits)  # never asked about
    assert "A person showed it." in found.facts  # nor this: the VLM may not be able to tell
    pipeline.use(replace(pipeline.design.retrieval, k=1, candidates=9))
    few = pipeline.retrieve(pipeline.embedder.see([picture(0)]), ["What is number 0?"])[0]
    assert sum(h.kind != "answer" for h in few.hits) == 1
    assert len(few.hits) + len(few.left_out) == len(found.hits) + len(found.left_out)
    assert [h.fact for h in found.left_out] == ["Red things stop."]


def test_a_saved_design_comes_back_whole(tiny_vlm, tiny_folder, tmp_path):
    saved = Design(
        EmbeddingConfig("image_features", 0.7, "hash", transform="whitened"),
        writing=WritingConfig(keys="grounded", question_keys=True, merge=True),
        retrieval=RetrievalConfig(
            k=7,
            k_counts="facts",
            query_regions=True,
            gate_per_fact=True,
            percentile=90.0,
            visual_match=2.0,
            k_answers=1,
        ),
    )
    editor = ReasonEditor(tiny_vlm, saved)
    for i in range(4):
        editor.write(edit(i))
    editor.save(tmp_path)
    again = ReasonEditor.load(tmp_path, tiny_vlm)
    assert again.pipeline.design.retrieval == saved.retrieval
    first, second = (e.ask(picture(2), "What is number 2?") for e in (editor, again))
    assert [h.fact for h in first.hits] == [h.fact for h in second.hits] != []
    assert [h.distance for h in first.hits] == pytest.approx([h.distance for h in second.hits], abs=1e-5)
    assert torch.equal(editor.pipeline.embedder.statistics.projection, again.pipeline.embedder.statistics.projection)


@pytest.mark.parametrize("wrong", [{"entries": "some"}, {"keys": "none"}, {"keys": "patches"}])
def test_writing_is_checked(wrong):
    with pytest.raises(ReasonEditError, match=next(iter(wrong))):
        WritingConfig(**wrong)
