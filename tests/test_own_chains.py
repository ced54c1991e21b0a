"""Reasons that the VLM wrote itself as edits, looked through by a simulated expert; and whether reasons are right."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import pytest
from helpers import datasets
from helpers.tiny import design, picture

from reasonedit import Edit, ReasonEditError
from reasonedit.data import EditFile
from reasonedit.data.source import GivesReasons
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.experiments import Experiment, Lab, grounding, own_chains, read_cell, run_cell
from reasonedit.experiments.experiment import Row
from reasonedit.experiments.grounding import Grounding, grounded
from reasonedit.experiments.making import editing
from reasonedit.experiments.own_chains import Effort, OwnChains, look_through
from reasonedit.own_reasoning import OwnReasoning, OwnSentence, interview

CHAIN = ["The red object is a kettle.", "A kettle belongs to the sailor.", "The sailor lives in the valley."]
OWN = [
    OwnSentence("The red object is a kettle", 0.95),  # right, whatever its full stop
    OwnSentence("A kettle belongs to the cook.", 0.97),  # wrong, and said with confidence
    OwnSentence("Cooks wear white hats.", 0.3),  # nothing of it is right
]


def test_what_is_wrong_is_struck_or_mended_and_nothing_is_added():
    sentences, effort = look_through(OWN, CHAIN)
    assert sentences == ["The red object is a kettle", "A kettle belongs to the sailor."]
    assert effort == Effort(
        edits=1, written=3, read=3, kept=1, mended=1, struck=1, typed=1, missing=1, to_type=6 + 6 + 6, without=0
    )


def test_a_word_that_is_typed_twice_counts_twice():
    own = [OwnSentence("The guest of the inn is the owner of the mill.", 0.5)]
    (mended,), effort = look_through(own, ["The cook of the inn is the owner of the inn."])
    assert mended == "The cook of the inn is the owner of the inn."
    assert effort.typed == 2  # "cook", and the second "inn"


def test_only_what_the_vlm_is_unsure_of_is_looked_at():
    sentences, effort = look_through(OWN, CHAIN, 0.9)
    assert sentences == ["The red object is a kettle", "A kettle belongs to the cook."]
    assert (effort.read, effort.struck, effort.typed) == (1, 1, 0)
    assert look_through([OwnSentence("Nonsense.", None)], CHAIN, 0.9)[1].read == 1  # nobody knows how sure it is


def test_a_right_sentence_is_no_wrong_form_of_another():
    own = [OwnSentence("A kettle belongs to the cook.", 0.5), OwnSentence("A kettle belongs to the sailor.", 0.5)]
    sentences, effort = look_through(own, CHAIN)
    assert sentences == ["A kettle belongs to the sailor."]
    assert (effort.kept, effort.mended, effort.struck) == (1, 0, 1)


class Source:
    edits = 1

    def __init__(self):
        self.edit = Edit(picture(0), "Who owns the red object?", "sailor", list(CHAIN), None, "e")

    def candidates(self):
        yield self.edit

    def probes(self, edits, right=()):
        return ["probes"]

    def reasons_of(self, probe_id):
        return CHAIN[:2]


@pytest.mark.parametrize(
    ("way", "reasoning"),
    [
        ("raw", [s.text for s in OWN]),
        ("mended", ["The red object is a kettle", "A kettle belongs to the sailor."]),
        ("doubtful", ["The red object is a kettle", "A kettle belongs to the cook."]),
    ],
)
def test_edits_have_the_chain_of_the_vlm(way, reasoning, monkeypatch):
    monkeypatch.setattr(own_chains, "reason_for", lambda vlm, query: OwnReasoning("cook", OWN, "asked"))
    source = OwnChains(Source(), None, way)
    [edit] = source.candidates()
    assert edit.reasoning == reasoning
    assert (edit.question, edit.answer, edit.id) == ("Who owns the red object?", "sailor", "e")
    assert source.probes([edit]) == ["probes"]
    assert source.efforts["e"].written == 3
    assert source.efforts["e"].missing == {"raw": 2, "mended": 1, "doubtful": 2}[way]
    assert list(source.efforts) == ["e"]


def test_without_any_sentence_the_answer_is_the_only_fact_and_that_is_counted(monkeypatch):
    monkeypatch.setattr(own_chains, "reason_for", lambda vlm, query: OwnReasoning("cook", [OWN[2]], "asked"))
    source = OwnChains(Source(), None, "mended")
    [edit] = source.candidates()
    assert edit.reasoning == [edit.answer_fact]
    assert source.efforts["e"].without == 1
    with pytest.raises(ReasonEditError, match="way must be one of raw, mended, doubtful"):
        OwnChains(Source(), None, "silent")


def test_an_interview_asks_what_takes_one_word():
    asked = []

    def ask(question, longest):
        asked.append(question)
        return "kettle" if question.startswith("What is the red") else "sailor"

    assert interview(ask, "Who owns the red object?") == [
        "The red object is a kettle.",
        "A kettle belongs to the sailor.",
    ]
    assert asked == ["What is the red object?", "Who owns a kettle?"]
    assert interview(ask, "Which object is made of tin?") == []


def test_an_answer_is_grounded_if_no_reason_is_wrong():
    probes = [
        SimpleNamespace(group=group, query=SimpleNamespace(id=name, image=picture(0), question=question))
        for name, group, question in (
            ("right", "rel", "Who owns the red object?"),
            ("by chance", "coe_gen", "Who owns the blue object?"),
            ("wrong", "i_gen", "Who owns the red object?"),
            ("elsewhere", "loc", "Who owns the red object?"),
            ("none", "rel", "Which object is made of tin?"),
            ("earlier", "rel", "Who owns the red object?"),
        )
    ]
    rows = [
        {"id": p.query.id, "phase": "probe", "edits": 2, "right": p.query.id not in ("wrong",)} for p in probes[:-1]
    ]
    rows.append({"id": "earlier", "phase": "probe", "edits": 1, "right": True})

    def answer(queries, generation):
        question = queries[0].question
        return [SimpleNamespace(text="sailor" if question == "Who owns a kettle?" else "kettle")]

    stream = SimpleNamespace(base=SimpleNamespace(probes=probes), source=Source())
    pipeline = SimpleNamespace(answer=answer)
    measured = Grounding().measure(stream, pipeline, rows)
    # "The blue object is a kettle." is none of the right reasons.
    assert measured == [["rel", True, True], ["coe_gen", True, False], ["i_gen", False, True]]
    asked = {"phase": "probe", "edits": 2, "edit": "e", "group": "rel", "id": "right"}
    twice = [{**asked, "round": 2, "right": False}, {**asked, "round": 1, "right": True}]
    assert Grounding().measure(stream, pipeline, twice) == [["rel", False, True]]


def test_a_source_that_gives_reasons_is_asked_whatever_else_it_has():
    source = Source()
    source.source = "where it is from"
    assert grounding._told_reasons(source)("e") == CHAIN[:2]
    assert grounding._told_reasons(OwnChains(Source(), None, "raw"))("e") == CHAIN[:2]


def test_reasons_are_looked_at_where_a_source_says_them(tiny_folder, hash_encoder, tmp_path):
    """A file does not, though its samples have reasons."""
    source = {"class_path": "reasonedit.data.EditFile", "init_args": {"path": str(datasets.own(tmp_path))}}
    model = {"model": str(tiny_folder), "dtype": "float32", "max_new_tokens": 3}
    config = {
        "model": {"class_path": "reasonedit.VLMModule", "init_args": model},
        "data": {"class_path": "reasonedit.EditStream", "init_args": {"source": source}},
    }
    plan = Experiment("own", "Own", "Are they right?", (Row("ours", "Ours", grounded(editing(design(k=2)))),))
    [cell] = plan.cells([0])
    assert run_cell(Lab(config, 2), cell, tmp_path / "own")
    assert read_cell(tmp_path / "own" / "cells" / "ours-0.parquet")[0]["grounding"] == []
    assert isinstance(EmbeddedWorld(), GivesReasons)
    assert not isinstance(EditFile(str(tmp_path / "corrections.jsonl")), GivesReasons)


def test_the_world_says_the_reasons_of_a_probe():
    world = EmbeddedWorld(edits=2)
    edits = list(islice(world.candidates(), 2))
    for probe in world.probes(edits):
        if probe.group == "rel":
            [edit] = [edit for edit in edits if edit.id == probe.edit_id]
            assert list(world.reasons_of(probe.query.id)) == edit.reasoning
