"""The card of a codebook on the Hub: what it says, and that texts of the codebook cannot change what it is."""

import re

import pytest
import yaml
from helpers.scenarios import begin, numbered_edit
from huggingface_hub import ModelCard

from reasonedit.codebook import EditMemory
from reasonedit.codebook.card import plain, write_card


@pytest.fixture
def memory(tmp_path):
    made = EditMemory()
    for number in range(4):
        made.write(*numbered_edit(number))
    made.copy_to(begin(tmp_path / "book"))
    made.undo("e00002")
    return made


def card_of(memory, model="", licence=""):
    undone = [e.edit for e in memory.events if e.edit and e.edit.id not in memory.edits]
    manifest = memory.store.manifest
    manifest.config["model"] = model
    return write_card(manifest, memory.edits, undone, "ada/book", licence)


def test_the_hub_reads_its_head(memory):
    card = ModelCard(card_of(memory, "llava-hf/llava-1.5-7b-hf", "cc-by-4.0"))
    card.validate = None
    assert card.data.license == "cc-by-4.0"
    assert card.data.base_model == "llava-hf/llava-1.5-7b-hf"
    assert card.data.library_name == "reasonedit"
    assert "reasonedit" in card.data.tags


@pytest.mark.parametrize("model", ["embedded", "/home/ada/models/x", "openai:llava-hf/llava-1.5-7b-hf", "../x/y", ""])
def test_what_is_no_id_on_the_hub_is_no_base_model(memory, model):
    head = yaml.safe_load(card_of(memory, model).split("---")[1])
    assert "base_model" not in head
    assert "license" not in head


def test_it_says_what_whose_for_which_model_and_how(memory):
    text = card_of(memory, "embedded")
    sentences = sum(len(edit.reasoning) for edit in memory.edits.values())
    assert f"| corrections | 3, with {sentences} sentences |" in text
    for name in {edit.author for edit in memory.edits.values()} - {""}:
        assert plain(name) in text
    assert "corrections that were undone (1)" in text
    assert "`embedded`" in text
    assert 'from_hub("ada/book")' in text
    assert "Nobody has stated a licence" in text
    newest = list(memory.edits.values())[-1]
    assert plain(newest.question) in text


def test_texts_of_the_codebook_are_no_markdown(memory):
    text = "# [a](javascript:x) <img src=x onerror=alert(1)> | `b` ![c](d) ---\n\n| e | *f* \x1b[31m"
    shown = plain(text)
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert not re.search(r"(?<!\\)[\[\]<>|`*#!]", shown)


def test_an_empty_codebook_has_a_card(tmp_path):
    memory = EditMemory()
    memory.copy_to(begin(tmp_path / "book"))
    assert "0 corrections" in card_of(memory, "embedded")
