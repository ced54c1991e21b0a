"""Checking an edit: what it would do is what it does once it is written, and nothing happens meanwhile."""

import threading
from dataclasses import replace
from itertools import islice

import pytest
import torch
from helpers.tiny import design, picture
from hypothesis import given
from hypothesis import strategies as st
from test_undo import NAMES, edits, made, same, turns

from reasonedit import Edit, Query, ReasonEditError, ReasonEditor
from reasonedit.codebook import Draft, EditMemory, Store
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.retrieval import FactRetriever, RetrievalConfig
from reasonedit.retrieval import indexed_keys as indexed

QUERIES = torch.tensor([[0.0, 0.0], [0.3, 1.0], [0.04, 0.12], [5.0, 5.0]])


def distances(found):
    """Facts at the same distance may come in either order."""
    return [
        (r.nearest, r.threshold, sorted((hit.distance, hit.fact, hit.kind, hit.edit_id) for hit in r.hits))
        for r in found
    ]


def turn(memory, numbers, count):
    for number in (n for n in numbers if n < count):
        (memory.undo if f"e{number}" in memory.edits else memory.restore)(f"e{number}")


@given(edits, turns, turns, st.booleans(), st.booleans(), st.sampled_from([None, 1]), st.booleans())
def test_a_fork_goes_on_as_the_codebook_itself_would(written, before, after, merge, across, k_answers, hubness):
    *first, last = written
    memory = EditMemory(merge, across)
    config = RetrievalConfig(k=10, percentile=50, k_answers=k_answers, hubness=hubness, gate_per_fact=True)
    retriever = FactRetriever(memory, config)
    for number, rows in enumerate(first):
        memory.write(*made(number, rows))
    turn(memory, before, len(first))
    found, looked = distances(retriever.retrieve(QUERIES)), [f.text for facts in memory.entries for f in facts]
    fork = memory.fork()
    tried = retriever.fork(fork)
    turn(fork, after, len(first))
    fork.write(*made(len(first), last))
    expected = distances(tried.retrieve(QUERIES))
    # The codebook has noticed nothing, and becomes what the fork is by the same steps.
    assert distances(retriever.retrieve(QUERIES)) == found
    assert [f.text for facts in memory.entries for f in facts] == looked
    turn(memory, after, len(first))
    memory.write(*made(len(first), last))
    same(memory, fork)
    assert distances(retriever.retrieve(QUERIES)) == expected


@pytest.mark.parametrize("exact_up_to", [10, 10_000])
def test_a_fork_of_many_keys_finds_what_the_codebook_finds(monkeypatch, exact_up_to):
    monkeypatch.setattr(indexed, "EXACT_UP_TO", exact_up_to)
    rng = torch.Generator().manual_seed(0)
    memory = EditMemory(merge=False)
    retriever = FactRetriever(memory, RetrievalConfig(k=5, percentile=50))
    for number in range(40):
        memory.write(*made(number, [(*torch.randn(2, generator=rng).tolist(), 0.0, "image")] * 2))
    queries = torch.randn(20, 2, generator=rng)
    retriever.retrieve(queries)
    fork = memory.fork()
    tried = retriever.fork(fork)
    for one in (fork, memory):
        one.undo("e3")
        one.write(*made(99, [(0.1, 0.1, 0.0, "image"), (-1.0, 0.5, 0.0, "answer")]))
        found = distances((tried if one is fork else retriever).retrieve(queries))
        if one is fork:
            expected = found
    assert found == expected
    assert tried.memory.table._mapped[0].data_ptr() == memory.table[0:1].data_ptr()  # the keys are not copied


@given(edits, turns, st.integers(0, NAMES - 1))
def test_an_edit_in_the_place_of_another_is_as_if_that_had_been_undone_first(written, turned, old):
    *first, last = written
    one, other = EditMemory(), EditMemory()
    for memory in (one, other):
        for number, rows in enumerate(first):
            memory.write(*made(number, rows))
        turn(memory, turned, len(first))
    old = min(old, len(first) - 1)
    draft = Draft.of(*made(len(first), last))
    if f"e{old}" in one.undone:
        with pytest.raises(Exception, match="undone already"):
            one.replace(f"e{old}", draft)
        return
    stored = one.replace(f"e{old}", draft)
    other.undo(f"e{old}")
    assert stored == other.add([draft])[0]
    same(one, other)
    assert [(e.op, e.edit_id) for e in one.events[-2:]] == [("edit", stored.id), ("undo", f"e{old}")]


def test_both_halves_of_a_replacement_are_acknowledged_together(tmp_path, monkeypatch):
    memory = EditMemory()
    memory.copy_to(Store.create(tmp_path, {}, {}, {}))
    memory.write(*made(0, [(0.0, 0.0, 1.0, "answer")]))
    reader = EditMemory.open(Store.open(tmp_path))
    before = (tmp_path / "codebook.json").read_bytes()
    manifests = []
    commit = Store._commit
    monkeypatch.setattr(Store, "_commit", lambda store, manifest: (manifests.append(manifest), commit(store, manifest)))
    memory.replace("e0", Draft.of(*made(1, [(0.1, 0.0, 1.0, "answer")])))
    assert len(manifests) == 1
    assert manifests[0].journal.records == 4  # the codebook, two edits, and the undoing of one
    assert reader.refresh()
    assert (list(reader.edits), list(reader.undone), reader.edits["e1"].contradicts) == (["e1"], ["e0"], [])
    # Cut short before that one step it is as it was.
    (tmp_path / "codebook.json").write_bytes(before)
    memory = EditMemory.open(Store.open(tmp_path))
    assert (list(memory.edits), list(memory.undone)) == (["e0"], [])


# ---- with a VLM


@pytest.fixture
def editor(tiny_vlm, hash_encoder):
    return ReasonEditor(tiny_vlm, design(k=20, percentile=50, keys="both", merge=True))


def an_edit(number, answer="a kite", question="What is it?", **more):
    return Edit(picture(number), question, answer, ["It is round.", f"It flies {number}."], **more)


ASKED = [Query(picture(i), question) for i in range(4) for question in ("What is it?", "What flies?")]


def state(editor):
    """All that a question can depend on."""
    memory = editor.memory
    texts = [[fact.text for fact in facts] for facts in memory.entries]
    return list(memory.edits), list(memory.undone), texts, memory.keys.tolist(), memory.radii.tolist(), memory.events


def of(answer):
    """What an answer follows from. Texts of a random VLM, and the order of facts at one distance, hang on the batch."""
    facts = sorted((round(hit.distance, 4), hit.fact, hit.kind, hit.edit_id) for hit in answer.hits)
    return facts, round(answer.nearest, 4), round(answer.threshold, 4), answer.left_out


def seen(evidence):
    """Where sentences are seen: how sure the VLM is hangs, in the last places, on how many windows pass at once."""
    return [
        (e.sentence, [(w.box, round(w.p_yes, 4), None if w.nll is None else round(w.nll, 3), w.why) for w in e.windows])
        for e in evidence
    ]


def agree(checked, written, editor):
    """What was said of an edit is what it wrote, and how questions are answered now."""
    assert replace(checked.edit, time="") == replace(written.edit, time="")
    assert checked.keys == written.keys
    assert [e.id for e in checked.contradicts] == written.edit.contradicts
    assert seen(checked.evidence) == seen(written.evidence)
    for one, other in zip(checked.entries, written.entries, strict=True):
        torch.testing.assert_close(one.key, other.key, atol=1e-5, rtol=1e-5)
        assert (one.radius, one.fact) == (pytest.approx(other.radius, abs=1e-5), other.fact)
    answers = editor.ask_batch([change.query for change in checked.changes])
    assert [of(change.after) for change in checked.changes] == [of(answer) for answer in answers]


@pytest.mark.parametrize("in_folder", [False, True])
def test_what_a_check_says_is_what_writing_does(editor, tmp_path, in_folder):
    if in_folder:
        editor.save(tmp_path / "book")
    for number in range(4):  # of an empty codebook, and of more and more
        before = state(editor)
        edit = an_edit(number % 3, f"thing {number}", id=f"e{number}")
        asked = [of(answer) for answer in editor.ask_batch(ASKED)]
        checked = editor.check_edit(edit, ASKED)
        assert state(editor) == before
        assert {c.origin for c in checked.changes} == {"edit", "paraphrase", "given"}
        assert [of(c.before) for c in checked.changes if c.origin == "given"] == asked
        agree(checked, editor.write(edit), editor)
    assert "e0" in checked.edit.contradicts  # the same picture and question
    editor.undo("e1")
    for old in ("e2", "e0"):
        edit = an_edit(2, "a bird")
        checked = editor.check_edit(edit, ASKED, replaces=old)
        agree(checked, editor.replace(old, edit), editor)
        assert old in editor.memory.undone
    if in_folder:
        again = ReasonEditor.load(tmp_path / "book", editor.vlm)
        assert [of(a) for a in again.ask_batch(ASKED)] == [of(a) for a in editor.ask_batch(ASKED)]


def test_a_check_sees_what_others_wrote_into_the_folder(editor, tmp_path):
    editor.save(tmp_path)
    other = ReasonEditor.load(tmp_path, editor.vlm)
    other.write(an_edit(0, "a boat", id="other"))
    assert editor.check_edit(an_edit(0)).edit.contradicts == ["other"]


def test_what_cannot_be_written_is_refused_when_it_is_checked(editor):
    editor.write(an_edit(0, id="e0"))
    editor.undo("e0")
    before = state(editor)
    for edit, replaces, message in (
        (an_edit(1, id="e0"), "", "an undone edit 'e0' in the codebook already"),
        (an_edit(1), "e0", "'e0' is undone already"),
        (an_edit(1), "x", "no edit 'x'"),
        (an_edit(1), "e", "no edit 'e'"),  # nor does the beginning of an id name one
    ):
        with pytest.raises(ReasonEditError, match=message):
            editor.check_edit(edit, replaces=replaces)
        if replaces:
            with pytest.raises(ReasonEditError, match=message):
                editor.replace(replaces, edit)
    assert state(editor) == before


def test_questions_go_on_while_an_edit_is_checked(editor):
    """They are answered as if there were no check; a check while others edit is of some moment."""
    editor.write(an_edit(0, id="e0"))
    expected = [of(answer) for answer in editor.ask_batch(ASKED)]
    stop, wrong = threading.Event(), []

    def ask():
        while not stop.is_set():
            wrong.extend(a for a, e in zip(editor.ask_batch(ASKED), expected, strict=True) if of(a) != e)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for number in range(3):
            editor.check_edit(an_edit(number), ASKED)
    finally:
        stop.set()
        asking.join()
    assert not wrong


def test_a_codebook_that_is_calibrated_while_an_edit_is_checked(tiny_vlm, hash_encoder, monkeypatch):
    """The check is by the new statistics then, as the edit would be."""
    made = design(k=20, percentile=50, keys="both", merge=True)
    made = replace(made, embedding=replace(made.embedding, transform="whitened", reference="own"))
    editor = ReasonEditor(tiny_vlm, made)
    editor.write(an_edit(0, id="e0"))
    draft, calibrated = editor.pipeline.draft, []

    def calibrate_meanwhile(edit):
        drafted = draft(edit)
        if not calibrated:
            calibrated.append(editor.calibrate([picture(number) for number in range(100, 120)]))
        return drafted

    edit = an_edit(1, id="e1")
    with monkeypatch.context() as patch:
        patch.setattr(editor.pipeline, "draft", calibrate_meanwhile)
        checked = editor.check_edit(edit, ASKED)
    written = editor.write(edit)
    for one, other in zip(checked.entries, written.entries, strict=True):
        torch.testing.assert_close(one.key, other.key)
    answers = editor.ask_batch([change.query for change in checked.changes])
    assert [of(change.after) for change in checked.changes] == [of(answer) for answer in answers]


def test_the_picture_of_a_check_is_not_gathered_for_a_calibration(tiny_vlm, hash_encoder):
    made = design(k=3, percentile=50)
    editor = ReasonEditor(
        tiny_vlm, replace(made, embedding=replace(made.embedding, transform="whitened", reference="own"))
    )
    cold_start = editor._cold_start
    editor.check_edit(an_edit(0), ASKED)
    assert len(cold_start._pictures) == 0
    editor.write(an_edit(0))
    assert len(cold_start._pictures) == 1


@pytest.mark.slow
def test_answers_of_the_embedded_vlm_before_and_after_an_edit(embedded_vlm):
    """Under its own design, with verified facts: each answer is the one that is given once the edit is written."""
    world = EmbeddedWorld(seed=140, edits=6)
    written = list(islice(world.candidates(), 6))
    probes = [Query(p.query.image, p.query.question, p.query.choices) for p in world.probes(written[-1:])][:12]
    editor = ReasonEditor(embedded_vlm)
    for edit in written[:-1]:
        editor.write(edit)
    checked = editor.check_edit(written[-1], probes)
    own = checked.changes[0]
    assert own.changed
    assert (own.after.text, checked.warnings) == (written[-1].answer, [])
    assert all(0 <= window.p_yes <= 1 for evidence in checked.evidence for window in evidence.windows)
    assert [len(evidence.windows) for evidence in checked.evidence] == [9, 9]
    editor.write(written[-1])
    for change in checked.changes:
        answer = editor.ask(change.query.image, change.query.question, change.query.choices)
        assert (answer.text, answer.prompt) == (change.after.text, change.after.prompt)
    assert {c.before.text != c.after.text for c in checked.changes} == {True, False}


def test_a_check_walks_along_what_would_be_written(tiny_vlm, hash_encoder):
    """With the edit its facts lead on, and without it they do not: also where it is written already."""
    retrieval = RetrievalConfig(k=1, k_counts="facts", percentile=100, walk=2)
    editor = ReasonEditor(tiny_vlm, replace(design(entries="reasoning", keys="image"), retrieval=retrieval))
    editor.write(Edit(picture(1), "What is it?", "kettle", ["The red object is a kettle."], id="a"))
    new = Edit(
        picture(2), "Who is it?", "sailor", ["The thing is a kettle.", "A kettle belongs to the sailor."], id="b"
    )
    query = Query(picture(1), "What is the red object?")
    expected = [["The red object is a kettle."], ["The red object is a kettle.", "A kettle belongs to the sailor."]]
    for written in (False, True):
        if written:
            editor.write(new)
        check = editor.check_edit("b" if written else new, [query])
        (change,) = [change for change in check.changes if change.origin == "given"]
        assert [[hit.fact for hit in answer.hits] for answer in (change.before, change.after)] == expected
    assert [hit.fact for hit in editor.ask(query.image, query.question).hits] == expected[1]
