"""Cells of experiments ask the VLM nothing twice, and nothing of what comes of them changes by that."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
from helpers.tiny import design, picture
from helpers.toy import SeededToys

from reasonedit import Query, VLMModule
from reasonedit.callbacks import Codebook
from reasonedit.callbacks.baselines import RAG, FineTuning, Unedited
from reasonedit.data.answers import Answers
from reasonedit.experiments import EXPERIMENTS, Lab, read_cell, run_cell
from reasonedit.experiments.editors import OURS
from reasonedit.experiments.experiment import Row
from reasonedit.experiments.known_answers import KnownAnswers, asking_once
from reasonedit.experiments.making import editing
from reasonedit.vlm.base import LocalVLM

ROWS = (
    *(r for r in EXPERIMENTS["main"].rows if r.name in ("none", "ft", "ike")),
    Row(OURS, "ReasonEdit", editing(design(k=2, keys="both")), stream={"interleave": [1, 2], "sample": 1}),
)


@pytest.fixture
def lab(tiny_folder, hash_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.data.answers.cache_folder", lambda: tmp_path / "cache")
    source = {"class_path": f"{SeededToys.__module__}.SeededToys"}
    model = {"model": str(tiny_folder), "dtype": "float32", "max_new_tokens": 3}
    return Lab(
        {
            "model": {"class_path": "reasonedit.VLMModule", "init_args": model},
            "data": {"class_path": "reasonedit.EditStream", "init_args": {"source": source, "batch_size": 4}},
        },
        edits=3,
    )


@pytest.fixture
def asked(monkeypatch):
    """The prompts that the VLM was asked."""
    prompts = []
    reply = LocalVLM.reply

    def count(self, vision, questions, *rest, **options):
        prompts.extend(questions)
        return reply(self, vision, questions, *rest, **options)

    monkeypatch.setattr(LocalVLM, "reply", count)
    return prompts


def run(lab, row, folder):
    (cell,) = replace(EXPERIMENTS["main"], rows=ROWS).cells([0], [row])
    assert run_cell(lab, cell, folder)
    return read_cell(folder / "cells" / f"{row}-0.parquet")


@pytest.mark.parametrize("row", ["none", "ike", OURS])
def test_a_cell_that_is_run_again_asks_nothing_and_says_the_same(lab, asked, tmp_path, monkeypatch, row):
    with monkeypatch.context() as patch:
        patch.setattr("reasonedit.experiments.running.asking_once", lambda module, editor: nullcontext(module))
        _, expected = run(lab, row, tmp_path / "plain")
    first, rows = run(lab, row, tmp_path / "first")
    prompts = []
    monkeypatch.setattr(Answers, "time", lambda self, queries: 5.0)
    monkeypatch.setattr(LocalVLM, "reply", lambda *given, **options: prompts.append(given))
    second, again = run(lab, row, tmp_path / "second")
    assert not prompts
    for a, b, c in zip(expected, rows, again, strict=True):
        assert a.keys() == b.keys() == c.keys()
        assert (a["answer"], a["prompt"], a["right"]) == (b["answer"], b["prompt"], b["right"])
        assert b == c
    assert second["ms_per_query"] > 0.2 * first["ms_per_query"]  # as if all had been asked


def test_what_an_editor_changes_in_the_vlm_is_asked_each_time(lab, asked, tmp_path):
    run(lab, "ft", tmp_path / "first")
    first = len(asked)
    run(lab, "ft", tmp_path / "second")
    assert len(asked) - first >= 9  # all but the base pass: each edit, and what it is asked of afterwards


class Draws(VLMModule):
    """Answers in a way of its own."""


class Mine(Codebook):
    """May do more than a codebook does."""


@pytest.mark.parametrize(
    ("kind", "options", "editor", "is_once"),
    [
        (VLMModule, {}, Codebook, True),
        (VLMModule, {}, Unedited, True),
        (VLMModule, {}, RAG, True),
        (VLMModule, {}, FineTuning, False),
        (VLMModule, {}, Mine, False),
        (Draws, {}, Codebook, False),
        (VLMModule, {"generate_kwargs": {"do_sample": True}}, Codebook, False),
    ],
)
def test_it_is_done_only_where_it_is_the_same(tiny_vlm, kind, options, editor, is_once):
    module = kind(tiny_vlm, **options)
    with asking_once(module, editor()) as used:
        assert isinstance(used, KnownAnswers) == is_once
        assert used.vlm is tiny_vlm
        assert used.generation is module.generation


def test_a_pass_that_was_made_already_is_used_for_those_that_are_new(tiny_vlm, asked, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.data.answers.cache_folder", lambda: tmp_path)
    queries = [Query(picture(i), f"What is {i}?") for i in range(4)]
    expected = [Answers(tiny_vlm, 3).ask([q])[0][0] for q in queries]
    monkeypatch.setattr("reasonedit.data.answers.cache_folder", lambda: tmp_path / "other")
    Answers(tiny_vlm, 3).ask(queries[1:2])
    vision = tiny_vlm.see([q.image for q in queries])
    vision.prefix = prefix = tiny_vlm.read(vision)
    tiny_vlm.p_yes(prefix, [["Is it?"]] * 4)  # now the pictures are read
    monkeypatch.setattr(tiny_vlm, "see", None)
    del asked[:]
    answers = Answers(tiny_vlm, 3)
    replies, ms = answers.replies(queries, vision)
    assert [reply.text for reply in replies] == expected
    assert asked == [q.question for q in queries if q is not queries[1]]
    assert [m is None for m in ms] == [False, True, False, False]
    assert answers.ms_saved > 0


def test_what_an_editor_tells_may_be_longer_than_a_question(tiny_vlm, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.data.answers.cache_folder", lambda: tmp_path)
    with asking_once(VLMModule(tiny_vlm, max_new_tokens=2), Unedited()) as module:
        told = "It is. " * 600 + "What is it? "
        monkeypatch.setattr(type(tiny_vlm), "check_room", lambda *given: None)
        monkeypatch.setattr(type(tiny_vlm), "prompt", lambda self, question, *rest: f"<image>{question[-14:]}")
        batch = {"images": [picture(0)], "prompts": [told]}
        assert module.predict_step(dict(batch)) == VLMModule(tiny_vlm, max_new_tokens=2).predict_step(dict(batch))
