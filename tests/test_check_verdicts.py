"""What a check says of an edit: its verdict, why, what would help; and how the shares of verdicts are counted."""

import math
import random
import re
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from helpers.tiny import design, picture
from helpers.toy import ToySource
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from reasonedit import Edit, EditStream, Query, ReasonEditError, ReasonEditor, VLMModule
from reasonedit.callbacks import Codebook, EditChecks, Retriever
from reasonedit.checking import Change, Verdict, causes
from reasonedit.checking.redraw import redraw
from reasonedit.checking.sentences import doubt_sentences
from reasonedit.checking.shown import rate_same, rate_shown, unsure_sentences
from reasonedit.checking.trials import other_trials, own_trials
from reasonedit.checking.verdict import judge
from reasonedit.codebook import StoredEdit
from reasonedit.commands.results_table import describe_results
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.evidence import GUESSED, Evidence, WindowScore
from reasonedit.experiments.noise import NoisyReasoning
from reasonedit.kinds import KeyKind
from reasonedit.metrics import verdict_shares
from reasonedit.types import Answer, Hit
from reasonedit.validation import LONGEST_TEXT

EDIT = StoredEdit("e", "What is it?", "a kite", ["It is round.", "It flies."], image="x")


def hit(fact, edit_id="e"):
    return Hit(fact, 0.1, KeyKind.PATCH, edit_id)


def answer(text, *hits, **more):
    return Answer(text, list(hits), "", 0.1, 1.0, **more)


def change(origin, before, after, *hits, right=("a kite",), **more):
    return Change(origin, Query(picture(0), "What is it?"), answer(before), answer(after, *hits), right=right, **more)


# ---- pictures redrawn


@pytest.mark.parametrize("size", [(1, 1), (2, 90), (96, 96), (200, 60)])
def test_a_redrawn_picture_has_its_size(size):
    image = picture(3).resize(size)
    copies = redraw(image, ["What is it?"], random.Random(0))
    assert list(copies) == ["recoloured", "smaller", "cropped", "mirrored", "half as large"]
    assert {copy.size for copy in copies.values()} == {size}
    assert {copy.mode for copy in copies.values()} == {"RGB"}


def test_a_picture_is_mirrored_only_where_nothing_speaks_of_sides_and_moved_where_nothing_names_a_place():
    image = picture(3)
    assert (np.asarray(redraw(image, ["Who?"], random.Random(0))["mirrored"]) == np.asarray(image)[:, ::-1]).all()
    for text in ("What is on the left?", "Right of it is a cup.", "What does the text say?"):
        assert "mirrored" not in redraw(image, ["Who?", text], random.Random(0))
    assert "half as large" not in redraw(image, ["What is at the top?"], random.Random(0))
    again = [redraw(image, ["Who?"], random.Random(7))["cropped"].tobytes() for _ in range(2)]
    assert again[0] == again[1]


def test_a_crop_cuts_off_no_more_than_a_narrow_strip():
    inside = np.zeros((100, 100, 3), np.uint8)
    inside[8:92, 8:92] = 255
    for seed in range(20):
        copy = redraw(Image.fromarray(inside), ["Who?"], random.Random(seed))["cropped"]
        found = (np.asarray(copy) > 127).all(axis=2).mean()
        assert found >= 0.84**2 - 0.02  # all of it is still there


def test_a_question_as_long_as_may_be_is_tried_without_longer_words():
    long = Edit.of(picture(0), "What is it? ".ljust(LONGEST_TEXT - 10, "?"), "a kettle", "It has a spout.")
    short = Edit.of(picture(0), "What is it?", "a kettle", "It has a spout.")
    assert [t.origin for t in own_trials(short) if t.origin != "redrawn"] == ["edit"] + 4 * ["paraphrase"]
    assert [t.origin for t in own_trials(long) if t.origin != "redrawn"] == ["edit", "paraphrase"]


# ---- verdicts


def test_the_verdict_follows_from_the_trials():
    own = change("edit", "a bird", "a kite")
    held = [change("redrawn", "a bird", "a kite", note="cropped")] * 3
    failed = change("redrawn", "a bird", "a bird", note="smaller")
    assert judge([own, *held, failed], "e").verdict is Verdict.HOLDS
    found = judge([own, held[0], failed], "e")
    assert found.verdict is Verdict.HERE_ONLY
    assert "With the picture smaller the answer is 'a bird': none of its facts is fetched." in found.because
    assert found.advice
    fetched = change("paraphrase", "a bird", "a bird", hit("It flies."))
    assert "fetched but not followed" in judge([own, fetched], "e").because[0]


def test_what_is_harmed_is_named():
    own = change("edit", "a bird", "a kite")
    harmed = change("other", "a boat", "a kite", right=["a boat"], edit_id="b7")
    found = judge([own, harmed], "e")
    assert found.verdict is Verdict.HARMS
    assert "(edit b7) is answered 'a kite' in place of 'a boat'." in found.because[0]
    assert "undo the other edit (b7)" in found.advice[0]
    for harmless in (
        change("other", "a boat", "a kite", right=["a kite"], edit_id="b7"),  # put right
        change("other", "a bird", "a kite", right=["a boat"], edit_id="b7"),  # wrong before
        change("other", "a boat", "A boat.", right=()),  # means the same
        change("elsewhere", "a boat", "a kite", right=(), shown=0.9),  # its picture shows what the edit speaks of
        change("given", "a boat", "a kite", right=()),  # only who asks it knows
    ):
        assert not harmless.is_harmed
        assert judge([own, harmless], "e").verdict is Verdict.HOLDS
    elsewhere = change("elsewhere", "a boat", "a kite", right=(), shown=0.1)
    assert elsewhere.is_harmed
    found = judge([own, elsewhere], "e")  # the question may not fit the other picture
    assert found.verdict is Verdict.HOLDS
    assert "which of the two is right is not known" in found.because[0]
    assert judge([own, elsewhere, elsewhere], "e").verdict is Verdict.HARMS
    assert judge([own, elsewhere, change("other", "a boat", "a kite", right=())], "e").verdict is Verdict.HARMS
    assert change("other", "a boat", "a kite", right=()).is_harmed


MEMORY = SimpleNamespace(find=lambda name: SimpleNamespace(answer=f"answer of {name}"))
ALL = [hit("The answer to 'What is it?' is a kite."), hit("It is round."), hit("It flies.")]


def cause(monkeypatch, hits, replies=(), evidence=(), edit=EDIT, **more):
    """The cause where the VLM gives these replies, one list for each time that it is asked."""
    waiting = iter(replies)
    monkeypatch.setattr(causes, "ask_with", lambda *_: next(waiting))
    own = Change(
        "edit", Query(picture(0), "What is it?"), answer("x"), answer("a bird", *hits, **more), right=["a kite"]
    )
    evidence = list(evidence) or [Evidence(s) for s in edit.reasoning]
    return causes.find_cause(None, MEMORY, edit, evidence, own, None, None)


def test_why_an_edit_does_not_take(monkeypatch):
    other = hit("It swims.", "o1")
    found = cause(monkeypatch, [other])
    assert found.verdict is Verdict.NO_EVIDENCE
    assert "Fetched in place: 'It swims.'." in found.because
    assert any("box" in advice for advice in found.advice)
    given = replace(EDIT, given=[[(0.0, 0.0, 1.0, 1.0)]] * 2)
    assert cause(monkeypatch, [other], edit=given).verdict is Verdict.NOT_FETCHED
    unlike = cause(monkeypatch, [], in_range=False)
    assert unlike.verdict is Verdict.NOT_FETCHED
    assert "unlike" in unlike.because[1]
    found = cause(monkeypatch, [*ALL, other], [["a kite", "a kite"]])
    assert found.verdict is Verdict.CONTRADICTED
    assert found.because[1] == "Edit o1 ('answer of o1'): 'It swims.'."
    third = hit("It sinks.", "o2")
    found = cause(monkeypatch, [*ALL, other, third], [["a kite", "a kite"], ["a bird", "a kite"]])
    assert [b for b in found.because if b.startswith("Edit")] == ["Edit o2 ('answer of o2'): 'It sinks.'."]
    said_alike = [replace(one, edit_id="o1") for one in ALL]  # another edit says the same, and its keys are nearer
    found = cause(monkeypatch, [*said_alike, third], [["a kite", "a kite"]])
    assert [b for b in found.because if b.startswith("Edit")] == ["Edit o2 ('answer of o2'): 'It sinks.'."]
    found = cause(monkeypatch, ALL[1:2], [["a bird", "a kite"]])
    assert found.verdict is Verdict.NOT_FETCHED
    assert "missing: 'The answer to 'What is it?' is a kite.'; 'It flies.'." in found.because[0]
    found = cause(monkeypatch, ALL, [["a bird", "a bird"]])
    assert found.verdict is Verdict.NOT_FOLLOWED
    assert any("fact" in advice for advice in found.advice)


def test_whether_another_picture_shows_the_same_is_asked_of_what_speaks_of_the_picture():
    asked = []

    def p_yes(_, questions):
        asked.extend(questions[0])
        return [torch.tensor([0.1 * (1 + len(asked) - len(questions[0]) + i) for i in range(len(questions[0]))])]

    vlm = SimpleNamespace(prompt=str, has_room=lambda _, prompt: "long" not in prompt, p_yes=p_yes)
    pipeline, vision = SimpleNamespace(vlm=vlm), SimpleNamespace(images=[None])
    told = ["The red object is a kettle.", "A kettle is for boiling.", "The image shows a long list."]
    assert rate_shown(pipeline, vision, told) == pytest.approx([0.1, 1, 1])
    assert asked == ["Does the image show the red object is a kettle?"]
    asked.clear()
    assert rate_same(pipeline, vision, told) == pytest.approx(0.1)
    asked.clear()
    assert rate_same(pipeline, vision, ["A kettle is for boiling.", "Kettles are old."]) == pytest.approx(0.2)
    assert len(asked) == 2


def test_sentences_count_as_unsure_together_only():
    edit = replace(EDIT, given=[[], []])
    sure = WindowScore((0.0, 0.0, 0.5, 0.5), kept=True)
    guess = WindowScore((0.0, 0.0, 0.5, 0.5), kept=True, why=GUESSED)

    def evidence(*windows):
        return [
            Evidence(text, [window] if window else []) for text, window in zip(EDIT.reasoning, windows, strict=True)
        ]

    assert unsure_sentences(edit, evidence(guess, None)) == EDIT.reasoning
    assert unsure_sentences(edit, evidence(guess, sure)) == []
    assert unsure_sentences(replace(EDIT, given=[[sure.box], []]), evidence(None, None)) == []
    trials = [change("edit", "a bird", "a kite"), change("redrawn", "a bird", "a kite", note="cropped")]
    found = judge(trials, "e", unsure=True)
    assert found.verdict is Verdict.HERE_ONLY
    assert any("box" in advice for advice in found.advice)
    found = judge(trials, "e", misled=True)
    assert found.verdict is Verdict.HERE_ONLY
    assert any("sentence" in advice for advice in found.advice)
    assert judge(trials, "e").verdict is Verdict.HOLDS


def test_every_verdict_says_whether_the_edit_takes():
    assert [v.key for v in Verdict if v.takes] == ["holds", "here_only", "harms"]
    assert f"{Verdict.HERE_ONLY}" == "holds here only" == str(Verdict.HERE_ONLY)


def test_shares_of_verdicts_are_counted():
    shares = verdict_shares()
    shares.update([Verdict.HOLDS, Verdict.HOLDS, Verdict.HARMS])
    shares.update([Verdict.NOT_FETCHED])
    found = {name: float(value) for name, value in shares.compute().items()}
    assert found["holds"] == 0.5
    assert (found["harms"], found["not_fetched"], found["contradicted"]) == (0.25, 0.25, 0)
    assert math.isnan(float(verdict_shares().compute()["holds"]))


# ---- with a VLM


@pytest.fixture
def editor(tiny_vlm, hash_encoder):
    return ReasonEditor(tiny_vlm, design(k=20, percentile=50, keys="both", merge=True))


def an_edit(number, answer="a kite", question="What is it?", **more):
    return Edit(picture(number), question, answer, ["It is round.", f"It flies {number}."], **more)


def facts_of(answer):
    return sorted((hit.fact, hit.kind, hit.edit_id) for hit in answer.hits)


def test_a_written_edit_is_checked_as_one_that_is_not_yet(editor):
    for number in range(4):
        editor.write(an_edit(number, id=f"e{number}"))
    before = editor.memory.events, editor.memory.keys.tolist()
    edit = an_edit(9, "a bird", id="new")
    dry = editor.check_edit(edit)
    editor.write(edit)
    wet = editor.check_edit("new")
    assert wet.entries == []
    assert wet.keys == dry.keys
    assert len(wet.changes) == len(dry.changes)
    for one, other in zip([*dry.changes, *dry.trials], [*wet.changes, *wet.trials], strict=True):
        assert (one.origin, one.query.question, one.note) == (other.origin, other.query.question, other.note)
        assert facts_of(one.before) == facts_of(other.before)
        assert facts_of(one.after) == facts_of(other.after)
    assert (len(editor.memory.events), editor.memory.edits.keys()) == (5, {"e0", "e1", "e2", "e3", "new"})
    assert before[1] == editor.memory.keys.tolist()[: len(before[1])]
    editor.undo("new")
    with pytest.raises(ReasonEditError, match="'new' is undone"):
        editor.check_edit("new")


def test_the_nearest_other_questions_are_asked(editor):
    for number in range(8):
        question = "What is it?" if number < 4 else f"Where does number {number} live?"
        editor.write(an_edit(number, f"thing {number}", question, id=f"e{number}"))
    edit = an_edit(0, "another", "What is it?", id="new")
    asked = [Query(picture(20), "What is that?"), Query(picture(0), "What is it?")]
    trials = other_trials(editor.pipeline, edit, asked, {"new", "e1"})
    others = [t for t in trials if t.origin == "other"]
    assert len(others) == 5
    assert "e1" not in [t.edit_id for t in others]
    assert others[0].edit_id == "e0"  # its very question, which the new edit contradicts
    assert all(t.right == [f"thing {t.edit_id[1:]}"] for t in others if t.edit_id)
    elsewhere = [t for t in trials if t.origin == "elsewhere"]
    assert len(elsewhere) == 3
    pictures = [picture(n).tobytes() for n in (4, 5, 6, 7, 20)]  # of others the question is asked already
    assert all(t.query.question == "What is it?" and t.query.image.tobytes() in pictures for t in elsewhere)
    first = ReasonEditor(editor.vlm, design(k=2))
    assert other_trials(first.pipeline, edit, [], set()) == []
    assert [t.origin for t in own_trials(edit)].count("paraphrase") >= 2


def test_a_stream_checks_its_edits(tiny_vlm, hash_encoder, tmp_path):
    def run(when):
        checks = EditChecks(when)
        book = Codebook(design=design(k=3, keys="both"))
        logger = CSVLogger(tmp_path / when)
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        trainer = L.Trainer(accelerator="cpu", logger=logger, callbacks=[book, checks, Retriever()], **quiet)
        trainer.predict(VLMModule(tiny_vlm), datamodule=EditStream(ToySource(3), batch_size=2))
        return checks, book, trainer, (tmp_path / when).rglob("metrics.csv")

    for when in ("written", "end"):
        checks, book, trainer, files = run(when)
        assert list(checks.checks) == list(book.memory.edits) != []
        assert sum(share for share, _ in checks.results.values()) == pytest.approx(1)
        assert {count for _, count in checks.results.values()} == {len(book.memory.edits)}
        for verdict in Verdict:
            expected = [check.verdict for check in checks.checks.values()].count(verdict) / len(checks.checks)
            assert checks.results[verdict.key][0] == pytest.approx(expected)
        assert "check/holds" in next(iter(files)).read_text()
        assert len(book.memory.events) == 3  # nothing else was written
        note = describe_results(trainer, None)[-1]
        assert note.startswith("Of 3 edits that were checked: ")
        assert sum(map(int, re.findall(r"(\d+) “", note))) == 3


def test_checks_need_a_codebook_before_them(tiny_vlm):
    with pytest.raises(ReasonEditError, match="when must be written or end"):
        EditChecks("never")
    for callbacks in ([EditChecks()], [EditChecks(), Codebook(design=design(k=3)), Retriever()]):
        trainer = L.Trainer(accelerator="cpu", logger=False, callbacks=callbacks, enable_checkpointing=False)
        with pytest.raises(ReasonEditError, match="put one before it"):
            trainer.predict(VLMModule(tiny_vlm), datamodule=EditStream(ToySource(2)))


def test_false_sentences_are_doubted(embedded_vlm):
    """By the world's table: most false sentences of edits are named, few of the true ones."""
    counts = {True: [0, 0], False: [0, 0]}
    pipeline = ReasonEditor(embedded_vlm).pipeline
    source = NoisyReasoning(EmbeddedWorld(seed=140, edits=12), "false", 0.5)
    for edit in islice(source.candidates(), 12):
        stored = StoredEdit(edit.id, edit.question, edit.answer, edit.reasoning)
        query, vision = Query(edit.image, edit.question, edit.choices), embedded_vlm.see([edit.image])
        named = {doubt.text for doubt in doubt_sentences(pipeline, stored, query, vision, None)}
        assert named <= set(edit.reasoning)
        for text, is_false in zip(edit.reasoning, source.spoilt[edit.id], strict=True):
            counts[is_false][0] += text in named
            counts[is_false][1] += 1
    assert counts[True][0] / counts[True][1] > 0.6
    assert counts[False][0] / counts[False][1] < 0.4


def test_a_good_edit_holds(embedded_vlm):
    edit = next(EmbeddedWorld(seed=140, edits=6).candidates())
    checked = ReasonEditor(embedded_vlm).check_edit(edit)
    assert (checked.verdict, checked.doubts) == (Verdict.HOLDS, [])
    assert {trial.origin for trial in checked.trials} == {"redrawn"}
    assert all(trial.is_right for trial in checked.trials)
