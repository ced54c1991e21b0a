"""The VLM's own reasons: where they come from, and how sure it is of them."""

from collections import Counter
from itertools import islice

import pytest
from helpers.tiny import picture

from reasonedit import Query, ReasonEditor
from reasonedit.codebook import EditMemory, summarise_use
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.data.world.kinds import KNOWN_KINDS
from reasonedit.own_reasoning import OwnSentence, reason_for
from reasonedit.vlm import Generation
from reasonedit.vlm.reply import Reply


@pytest.fixture
def says(tiny_vlm, monkeypatch):
    """Have the VLM say what a test wants: by what the question begins with."""

    def say(replies):
        asked = []

        def reply(vision, questions, choices=None, generation=None, **_):
            asked.append((questions[0], (generation or Generation()).max_new_tokens))
            found = next((r for start, r in replies if questions[0].startswith(start)), "")
            found = found(generation) if callable(found) else found
            return [found if isinstance(found, Reply) else Reply(found)]

        monkeypatch.setattr(tiny_vlm, "reply", reply)
        return asked

    return say


def reasons(vlm, question="What is the red object used for?", answer="", choices=None):
    return reason_for(vlm, Query(picture(0), question, choices), answer)


def texts(found):
    return [sentence.text for sentence in found.sentences]


def test_the_thought_of_a_reasoning_vlm_is_its_reasoning(says, tiny_vlm):
    asked = says([("What", Reply("boiling", "It is red. It has a spout.\nOk. It is red."))])
    found = reasons(tiny_vlm)
    assert (found.answer, found.source, texts(found)) == ("boiling", "thought", ["It is red.", "It has a spout."])
    assert len(asked) == 1
    for sentence in found.sentences:
        assert isinstance(sentence, OwnSentence)
        assert 0 <= sentence.confidence <= 1
    # Of an answer that somebody gives it has not thought.
    assert "It has a spout." not in texts(reasons(tiny_vlm, answer="tea"))


def test_a_thought_that_was_cut_off_is_given_room(says, tiny_vlm):
    says([("What", lambda how: Reply("boiling", "It is red.") if how.max_new_tokens > 16 else Reply("", "It is"))])
    found = reasons(tiny_vlm)
    assert (found.answer, texts(found)) == ("boiling", ["It is red."])


def test_what_a_vlm_says_to_why_is_its_reasoning(says, tiny_vlm):
    said = "1. It has a spout.\n2. Kettles have spouts.\n- Water boils in it."
    asked = says([("What is the red object used for? The answer is tea.", said), ("What", "boiling")])
    found = reasons(tiny_vlm, answer="tea")
    assert (found.answer, found.source) == ("tea", "said")
    assert texts(found) == ["It has a spout.", "Kettles have spouts.", "Water boils in it."]
    assert len(asked) == 1
    assert reasons(tiny_vlm).answer == "boiling"


def test_reasons_in_a_script_without_spaces_are_sentences(says, tiny_vlm):
    says([("What is the red object used for? The answer is tea.", "这是一个水壶。水壶用来烧水。"), ("What", "boiling")])
    found = reasons(tiny_vlm, answer="tea")
    assert (found.source, texts(found)) == ("said", ["这是一个水壶。", "水壶用来烧水。"])


def test_more_reasons_than_anybody_reads_are_counted(says, tiny_vlm):
    says([("What is it? The", " ".join(f"It has {n} legs." for n in range(30)))])
    found = reasons(tiny_vlm, "What is it?", "a bug")
    assert (len(found.sentences), found.left_out) == (24, 6)


@pytest.mark.parametrize(
    ("question", "thing", "second", "value", "said"),
    [
        ("What is the red object used for?", "the red object", "What is an axe used for?", "cutting",
         "An axe is used for cutting."),
        ("Out of what is the object at the top left made?", "the object at the top left",
         "Out of what is an axe made?", "steel", "An axe is made of steel."),
        ("Who owns the object next to the tree?", "the object next to the tree", "Who owns an axe?", "The farmer",
         "An axe belongs to the farmer."),
        ("Where is the object in the center found?", "the object in the center", "Where is an axe found?", "forest",
         "An axe is found in the forest."),
        ("Where is the home of the owner of the red thing?", "the red thing", "", "", ""),
        ("How old is the red object?", "the red object", "", "", ""),
    ],
)  # fmt: skip
def test_a_vlm_of_short_answers_is_asked_what_it_can_answer(says, tiny_vlm, question, thing, second, value, said):
    asked = says([(f"{question} The answer", "because"), (f"What is {thing}?", "axe"), (second or "-", value)])
    found = reasons(tiny_vlm, question, "right")
    first = f"T{thing[1:]} is an axe."
    assert (found.source, texts(found)) == ("asked", [first, said] if said else [first])
    assert [a for a, _ in asked][1:] == [f"What is {thing}?", *([second] if second else [])]


def test_one_sentence_is_a_reason_only_where_there_is_nothing_to_ask_about(says, tiny_vlm):
    says(
        [("What is the red object used for? The", "It is red hot."), ("What boils? The", "It is hot."), ("What", "axe")]
    )
    assert reasons(tiny_vlm, answer="tea").source == "asked"
    found = reasons(tiny_vlm, "What boils?", "tea")
    assert (found.source, texts(found)) == ("said", ["It is hot."])


def test_where_nothing_else_helps_the_picture_is_described(says, tiny_vlm):
    says([("Describe", "A red kettle. A blue cup.")])
    found = reasons(tiny_vlm, "What boils?", "water")
    assert (found.source, texts(found)) == ("described", ["A red kettle.", "A blue cup."])
    says([])
    found = reasons(tiny_vlm, "What boils?", "water")
    assert found.sentences == []


def test_a_sentence_that_is_too_long_to_be_asked_about_has_no_confidence(says, tiny_vlm):
    says([("What is it? The", f"It is {'very ' * 600}round. It is red.")])
    first, second = reasons(tiny_vlm, "What is it?", "a ball").sentences
    assert first.confidence is None
    assert second.confidence is not None


def test_the_embedded_vlm_names_the_thing_and_what_it_knows_of_it(embedded_vlm):
    world, right, certain = EmbeddedWorld(seed=141, edits=14), 0, 0
    editor = ReasonEditor(embedded_vlm)
    edits = [
        e
        for e in islice(world.candidates(), 14)
        if world.sample(e.id).form == "direct" and world.sample(e.id).kind in KNOWN_KINDS
    ]
    assert len(edits) >= 3
    for edit in edits[:3]:
        found = editor.own_reasoning(edit.image, edit.question)
        assert found.answer == editor.ask(edit.image, edit.question).text
        assert found.source == "asked"
        right += texts(found)[0] == edit.reasoning[0]
        assert all(0 <= sentence.confidence <= 1 for sentence in found.sentences)
        certain += found.sentences[0].confidence > 0.5
    assert min(right, certain) >= 2


def test_use_is_counted_by_edit():
    from test_undo import asked

    memory = EditMemory()
    for number, answer in enumerate(("a boat", "a kettle", "a drum", "a cup")):
        memory.write(*asked(number, answer, 5.0 * (number == 3)))
    memory.undo("e0")
    use = summarise_use(Counter({"e2": 1, "e1": 3, "e0": 2, "gone": 1}), memory.edits)
    assert (use.never, use.most, use.gone) == (["e3"], [("e1", 3), ("e2", 1)], 3)
    assert use.contradictions == [("e2", "e1")]
