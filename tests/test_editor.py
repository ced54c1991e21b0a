"""ReasonEditor: edit, ask, save, load."""

from dataclasses import replace

import pytest
import torch
from helpers.tiny import design, picture

from reasonedit import EmbeddingConfig, ReasonEditError, ReasonEditor

pytestmark = pytest.mark.usefixtures("hash_encoder")
DESIGN = design(k=3, percentile=20)


@pytest.fixture
def editor(tiny_folder):
    return ReasonEditor.from_pretrained(str(tiny_folder), DESIGN, dtype="float32")


def fill(editor, count=4):
    return [
        editor.edit(
            picture(i), f"What is number {i}?", answer=f"thing {i}", reasoning=f"Number {i} is round. It flies."
        )
        for i in range(count)
    ]


def test_without_edits_the_model_is_asked_as_it_is(editor):
    answer = editor.ask(picture(0), "What is it?")
    assert answer.hits == []
    assert answer.prompt == "What is it?"
    assert str(answer) == editor.vlm.answer(editor.vlm.see([picture(0)]), ["What is it?"])[0]


def test_an_answer_says_which_facts_it_used(editor):
    edits = fill(editor)
    answer = editor.ask(picture(2), "What is number 2?")
    assert answer.hits[0].fact == edits[2].answer_fact
    assert answer.hits[0].distance == 0
    assert answer.hits[0].edit_id == edits[2].id
    assert answer.nearest == 0 < answer.threshold
    assert answer.prompt == " ".join([*[h.fact for h in answer.hits], "What is number 2?"])


def test_far_questions_are_asked_as_they_are(editor):
    fill(editor)
    answer = editor.ask(picture(77), "Tell me about birds outside")
    assert answer.hits == []
    assert answer.nearest > answer.threshold
    assert answer.prompt == "Tell me about birds outside"


def test_choices_are_kept_apart_from_the_question(editor):
    edit = editor.edit(picture(0), "Which?", answer="b", reasoning="B is right.", choices=["a", "b"])
    assert editor.memory.edits[edit.id].choices == ["a", "b"]
    assert editor.ask(picture(0), "Which?", ["a", "b"]).text in ("a", "b")


def test_a_refused_edit_stores_nothing(editor):
    fill(editor, 1)
    keys = editor.memory.keys.clone()
    for wrong in ({"answer": " "}, {"reasoning": ""}, {"choices": ["x", "y"]}):
        with pytest.raises(ReasonEditError):
            editor.edit(picture(1), "What?", **({"answer": "a", "reasoning": "b."} | wrong))
    assert torch.equal(editor.memory.keys, keys)
    assert len(editor.memory.edits) == 1


def test_a_loaded_codebook_answers_alike_and_goes_on(editor, tmp_path, tiny_folder):
    fill(editor)
    editor.save(tmp_path)
    again = ReasonEditor.load(tmp_path, dtype="float32")
    first, second = (e.ask(picture(1), "Say: What is number 1?") for e in (editor, again))
    assert (first.text, first.hits, first.threshold) == (second.text, second.hits, second.threshold)
    again.edit(picture(9), "New?", answer="yes", reasoning="It is new.")
    assert len(again.memory.edits) == 5
    assert not list(tmp_path.glob("*.p*kl*"))


def test_a_codebook_of_another_model_is_refused(editor, tmp_path):
    from helpers.tiny import save_tiny_llava

    from reasonedit.vlm import load_vlm

    fill(editor, 1)
    editor.save(tmp_path / "book")
    other = load_vlm(str(save_tiny_llava(tmp_path / "clip", tower="clip")), dtype="float32")
    with pytest.raises(ReasonEditError, match=r"made with another model or setting .*another vision weights"):
        ReasonEditor.load(tmp_path / "book", other)


def test_bfloat16_reads_what_float32_wrote(editor, tmp_path, tiny_folder):
    fill(editor)
    editor.save(tmp_path)
    half = ReasonEditor.load(tmp_path, dtype="bfloat16")
    found = half.ask(picture(2), "What is number 2?")
    assert found.hits[0].fact.endswith("is thing 2.")
    assert found.nearest < 0.05


def test_a_codebook_without_a_vision_half_is_kept_like_any_other(tiny_vlm, hash_encoder, tmp_path):
    made = replace(design(k=2), embedding=EmbeddingConfig(layer="none", text_weight=1.0, encoder="hash"))
    editor = ReasonEditor(tiny_vlm, made)
    editor.save(tmp_path / "book")
    editor.edit(picture(0), "What is it?", answer="a cat", reasoning=["It is round."])
    asked = ReasonEditor.load(tmp_path / "book", tiny_vlm).ask(picture(1), "What is it?")
    assert asked.nearest == editor.ask(picture(1), "What is it?").nearest
