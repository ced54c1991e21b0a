"""Codebooks that earlier versions wrote, kept as they wrote them: every edit comes back, in its order, as it was."""

import shutil
from pathlib import Path

import pytest
import torch
from helpers.tiny import picture

from reasonedit.codebook import EditMemory, Store, as_edit
from reasonedit.codebook.repair import verify

DATA = Path(__file__).parent / "data"
FOUR = ("codebook-format-4-early", "codebook-format-4")


@pytest.fixture
def folder(request, tmp_path):
    """A copy of a codebook of then."""
    return Path(shutil.copytree(DATA / request.param, tmp_path / "book"))


@pytest.mark.parametrize("folder", FOUR, indirect=True)
def test_format_4_is_read_as_it_is(folder):
    assert verify(folder).damages == []
    memory = EditMemory.open(Store.open(folder))
    assert list(memory.edits) == ["kettle", "anchor"]
    assert list(memory.undone) == ["harp"]
    turns = [("edit", "kettle"), ("edit", "anchor"), ("edit", "harp"), ("undo", "harp")]
    assert [(e.op, e.edit_id) for e in memory.events] == [*turns, ("undo", "kettle"), ("restore", "kettle")]
    assert [e.author for e in memory.events] == ["Ada", "Björn", "Ada", "Björn", "Ada", "Ada"]
    anchor = memory.find("anchor")
    assert (anchor.question, anchor.answer) == ("Wem gehört er?", "dem Fährmann")
    assert anchor.reasoning == ["Es ist ein Anker.", "Der Fährmann wirft ihn aus."]
    assert anchor.choices == ["dem Fährmann", "niemandem"]
    assert all(e.edit.time == e.time and e.time.startswith("2026-11-") for e in memory.events if e.edit)
    for number, name in enumerate(("kettle", "anchor", "harp")):
        edit = as_edit(memory.find(name), {n: memory.picture(n) for n in memory.find(name).pictures})
        assert edit.image.tobytes() == picture(number).tobytes()
    assert [facts[0].text for facts in memory.entries] == [
        "The answer to 'Who owns it?' is the sailor.",
        "It is a kettle.",
        "The sailor boils water in it.",
        "The answer to 'Wem gehört er?' is dem Fährmann.",
        "Es ist ein Anker.",
        "Der Fährmann wirft ihn aus.",
    ]
    # The sentence half of a key follows from its text alone; the other one is the tiny model's.
    assert memory.keys.shape == (6, 32 + 64)
    assert torch.equal(memory.keys.isfinite(), torch.ones(6, 96, dtype=torch.bool))
    assert set(memory.store.statistics()) == {"mean", "projection", "scale", "cohort"}


@pytest.mark.parametrize("folder", FOUR, indirect=True)
def test_format_4_is_written_on(folder):
    memory = EditMemory.open(Store.open(folder))
    before = memory.entries
    memory.restore("harp", "Ada")
    memory.settle(join=True)
    memory.undo("harp")
    again = EditMemory.open(Store.open(folder))
    assert again.entries == before
    assert torch.equal(again.keys, memory.keys)
    assert [e.op for e in again.events] == ["edit", "edit", "edit", "undo", "undo", "restore", "restore", "undo"]
    assert verify(folder).damages == []
