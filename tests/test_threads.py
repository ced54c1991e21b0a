"""Several threads, one model and one codebook: each gets what it would have got, had they come one after the other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import design, picture
from helpers.waiting import CEILING

from reasonedit import Edit, Query, ReasonEditError, ReasonEditor
from reasonedit.call_batcher import CallBatcher
from reasonedit.codebook.disk.lock import WriterLock
from reasonedit.codebook.disk.lockfile import LockFile
from reasonedit.retrieval import RetrievalConfig
from reasonedit.util.threads import guard_of, guarded
from reasonedit.vlm import as_vlm, load_vlm

THREADS = 8


@pytest.fixture(scope="module", params=["llava", "qwen3_vl"])
def vlm(request, tmp_path_factory):
    return load_vlm(str(FAMILIES[request.param](tmp_path_factory.mktemp(request.param))), dtype="float32")


def question(i):
    return picture(i, 64), f"What is number {i}?" + " please" * (i % 3)


def write(editor, i):
    return editor.edit(*question(i), answer=f"thing {i}", reasoning=[f"Number {i} is round."])


def told(answer):
    """An answer as it can be compared: distances to float32's rounding of a batch."""
    hits = [(hit.fact, pytest.approx(hit.distance, abs=1e-4)) for hit in answer.hits]
    return answer.text, hits, pytest.approx(answer.nearest, abs=1e-4), pytest.approx(answer.threshold, abs=1e-4)


def same(answer, expected):
    text, hits, nearest, threshold = expected
    mine = [(hit.fact, hit.distance) for hit in answer.hits]
    return (answer.text, mine, answer.nearest, answer.threshold) == (text, hits, nearest, threshold)


def at_once(*calls):
    """Run calls, each in a thread of its own, all begun together; what they return, in order."""
    ready = threading.Barrier(len(calls))

    def run(call):
        ready.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [f.result() for f in [pool.submit(run, call) for call in calls]]


def test_questions_of_eight_threads_get_the_answers_of_one(vlm, hash_encoder):
    editor = ReasonEditor(vlm, design(k=2, keys="both"))
    for i in range(4):
        write(editor, i)
    right = [told(editor.ask(*question(i))) for i in range(8)]
    for asked in range(3):
        order = [(i + asked) % 8 for i in range(THREADS)]
        found = at_once(*(lambda i=i: [editor.ask(*question(i)) for _ in range(3)] for i in order))
        for i, answers in zip(order, found, strict=True):
            assert all(same(answer, right[i]) for answer in answers)


def test_any_mixture_is_some_order_one_after_the_other(vlm, hash_encoder):
    """Asking, editing, undoing, restoring and explaining from eight threads, against every state of the codebook."""
    editor = ReasonEditor(vlm, design(k=2, keys="both", merge=True))
    first = [write(editor, i) for i in range(2)]

    def edits(numbers):
        return [write(editor, i) for i in numbers]

    def turns(edit):
        for _ in range(3):
            editor.undo(edit.id)
            editor.restore(edit.id)
        editor.undo(edit.id)

    def asks(i):
        return [editor.ask(*question(i)) for _ in range(6)]

    def explains(i):
        return [editor.explain(*question(i)) for _ in range(3)]

    *_, a, b, c, explained = at_once(
        lambda: edits([2, 3]),
        lambda: edits([4, 5]),
        lambda: turns(first[0]),
        lambda: [len(editor.memory.keys) == len(editor.memory.entries) for _ in range(20)],
        lambda: asks(0),
        lambda: asks(2),
        lambda: asks(4),
        lambda: explains(1),
    )
    # The same events one after the other, and what each question gets after each of them.
    again = ReasonEditor(vlm, design(k=2, keys="both", merge=True))
    states = {i: [] for i in (0, 1, 2, 4)}
    for event in editor.memory.events:
        if event.op == "edit":
            number = int(event.edit.answer.split()[1])
            image, asked = question(number)
            again.write(Edit(image, asked, event.edit.answer, list(event.edit.reasoning), id=event.edit_id))
        else:
            getattr(again, event.op)(event.edit_id)
        for i, seen in states.items():
            seen.append(told(again.ask(*question(i))))
    for i, answers in ((0, a), (2, b), (4, c), (1, [e.answer for e in explained])):
        place = 0
        for answer in answers:  # and one thread never sees the codebook go back
            at = next((n for n in range(place, len(states[i])) if same(answer, states[i][n])), None)
            assert at is not None, (answer, states[i])
            place = at
    assert [e.edit_id for e in again.memory.events] == [e.edit_id for e in editor.memory.events]
    for name in editor.edits:  # each edit has its own picture's keys
        mine, alone = editor.memory.entries_of(name), again.memory.entries_of(name)
        for one, other in zip(mine, alone, strict=True):
            torch.testing.assert_close(one.key, other.key)
            assert one.fact == other.fact
    for explanation in explained:  # what an explanation shows is of one moment
        used = {fact for key in explanation.keys if key.fate == "used" for fact in key.facts}
        assert {hit.fact for hit in explanation.answer.hits} <= used


@pytest.mark.parametrize("hubness", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_threads_with_and_without_inference_mode_share_a_codebook(hubness, vlm, hash_encoder, tmp_path):
    """A trainer predicts in inference mode, a server's threads do not: what one of them keeps the others change."""
    made = replace(design(k=2, keys="both", merge=True), retrieval=RetrievalConfig(k=2, hubness=hubness))
    writer = ReasonEditor(vlm, made)
    writer.save(tmp_path / "book")
    write(writer, 0)
    with torch.inference_mode():
        other = ReasonEditor.load(tmp_path / "book", vlm)
        other.ask(*question(0))
    for i in range(1, 40, 2):
        write(other, i)
        with torch.inference_mode():
            other.ask(*question(i))
            write(writer, i + 1)
            other.ask(*question(i))
    assert told(other.ask(*question(3))) == told(writer.ask(*question(3)))
    assert set(ReasonEditor.load(tmp_path / "book", vlm).edits) == set(other.edits)
    assert len(other.edits) == 41


def test_what_an_edit_wrote_is_none_of_what_others_wrote(vlm, hash_encoder, tmp_path):
    writer = ReasonEditor(vlm, design(k=2, keys="both"))
    writer.save(tmp_path / "book")
    other = ReasonEditor.load(tmp_path / "book", vlm)
    edits = [Edit(*question(i), f"thing {i}", [f"Number {i} is round."]) for i in range(3)]
    alone = ReasonEditor(vlm, design(k=2, keys="both"))
    keys = [alone.write(edit).keys for edit in edits]
    assert [writer.write(edits[0]).keys, other.write(edits[1]).keys, writer.write(edits[2]).keys] == keys


def test_an_edit_on_disk_is_not_lost_beside_a_save(vlm, hash_encoder, tmp_path):
    editor = ReasonEditor(vlm, design(k=2))
    write(editor, 0)
    at_once(lambda: editor.save(tmp_path / "book"), *(lambda i=i: write(editor, i) for i in range(1, 5)))
    assert set(ReasonEditor.load(tmp_path / "book", vlm).edits) == set(editor.edits)
    assert len(editor.edits) == 5


def test_whoever_asks_does_not_wait_for_another_writer(vlm, hash_encoder, tmp_path, monkeypatch):
    editor = ReasonEditor(vlm, design(k=2))
    write(editor, 0)
    editor.save(tmp_path / "book")
    waits, taken = threading.Event(), LockFile.take

    def take(self):
        held = taken(self)
        if not held:
            waits.set()
        return held

    monkeypatch.setattr(LockFile, "take", take)
    monkeypatch.setattr(editor.memory.store._lock, "_patience", CEILING)
    calls = {
        "edit": lambda: write(editor, 1),
        "undo": lambda: editor.undo(next(iter(editor.edits))),
        "save": lambda: editor.memory.settle(),
    }
    for call in calls.values():
        waits.clear()
        with ThreadPoolExecutor(1) as pool:
            with WriterLock(tmp_path / "book").hold():  # another opening of the file, as another process has
                changing = pool.submit(call)
                assert waits.wait(CEILING)
                assert editor.ask(*question(0)).text
                assert not changing.done()
            changing.result(CEILING)
    assert len(ReasonEditor.load(tmp_path / "book", vlm).edits) == 1


def test_what_wraps_one_model_shares_its_guard(vlm):
    other = as_vlm(vlm.model, vlm.processor)
    assert other.guard is vlm.guard
    assert guard_of(torch.nn.Linear(1, 1)) is not vlm.guard


def test_whoever_runs_the_bare_model_meanwhile_is_not_read(vlm):
    """A hook hears of every thread that runs the model: those of others must not become somebody's key."""
    layer = vlm.vision_layers[0]
    right = vlm.see([picture(0, 64)], [layer]).layer(layer)[0]
    theirs = vlm.pixels([picture(1, 64)])
    given = {k: vlm._to_device(theirs[k]) for k in vlm.pixel_keys if k in theirs}
    stop = threading.Event()

    def bare():
        with torch.inference_mode():
            while not stop.is_set():
                vlm.model.get_image_features(**given, return_dict=True)

    thread = threading.Thread(target=bare)
    thread.start()
    try:
        for _ in range(20):
            assert torch.equal(vlm.see([picture(0, 64)], [layer]).layer(layer)[0], right)
    finally:
        stop.set()
        thread.join()


def test_what_a_family_of_ones_own_overrides_is_guarded_too():
    from reasonedit.vlm.llava import LlavaVLM

    class Theirs(LlavaVLM):
        model_types = ("theirs",)

        def generate(self, vision, prompts, generation):
            return []

    try:
        assert Theirs.generate.is_guarded
        assert LlavaVLM.see.is_guarded
    finally:
        Theirs.model_types = ()


def test_what_waits_is_answered_in_one_batch():
    begun, go_on = threading.Event(), threading.Event()
    batches = []

    def run(items):
        batches.append(list(items))
        begun.set()
        go_on.wait(CEILING)
        return [item * 10 for item in items]

    batcher = CallBatcher(run, most=3)
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(batcher.ask, 0)]
        assert begun.wait(CEILING)
        futures += [pool.submit(batcher.ask, i) for i in range(1, 6)]
        while len(batcher._waiting) < 5:
            threading.Event().wait(0.001)
        go_on.set()
        assert [f.result(CEILING) for f in futures] == [0, 10, 20, 30, 40, 50]
    assert batches[0] == [0]
    assert [len(batch) for batch in batches] == [1, 3, 2]


def test_threads_that_ask_again_and_again_are_answered_together():
    batches = []

    def run(items):
        batches.append(len(items))
        threading.Event().wait(0.05)
        return items

    batcher = CallBatcher(run, patience=20.0)  # so long that a busy machine is in time, too
    at_once(*(lambda: [batcher.ask(i) for i in range(4)] for _ in range(4)))
    assert sum(batches) == 16
    # Until all have come once, it cannot know of them; from then on they are answered together.
    assert batches.count(4) >= 2
    assert len(batches) <= 7  # alone and in threes by turns there would be eight
    alone = CallBatcher(run, patience=1000.0)  # one thread has nobody to wait for
    assert [alone.ask(i) for i in range(3)] == [0, 1, 2]


def test_each_call_gets_its_own_error():
    def run(items):
        if "bad" in items:
            raise ReasonEditError("bad")
        return items

    batcher = CallBatcher(run)

    def ask(item):
        try:
            return batcher.ask(item)
        except ReasonEditError as error:
            return f"error: {error}"

    found = at_once(*(lambda item=item: ask(item) for item in ("a", "bad", "b", "c", "bad", "d")))
    assert found == ["a", "error: bad", "b", "c", "error: bad", "d"]
    assert not batcher._waiting


def test_whoever_is_interrupted_does_not_hold_up_the_others():
    begun, go_on = threading.Event(), threading.Event()
    first = [True]

    def run(items):
        if first.pop() if first else False:
            begun.set()
            go_on.wait(CEILING)
            raise KeyboardInterrupt
        return items

    batcher = CallBatcher(run)

    def interrupted():
        with pytest.raises(KeyboardInterrupt):
            batcher.ask("first")

    with ThreadPoolExecutor(3) as pool:
        one = pool.submit(interrupted)
        assert begun.wait(CEILING)
        others = [pool.submit(batcher.ask, name) for name in ("second", "third")]
        go_on.set()
        assert [f.result(CEILING) for f in others] == ["second", "third"]
        one.result(CEILING)


def test_a_guarded_method_may_call_another():
    class Thing:
        guard = threading.RLock()

        @guarded
        def one(self):
            return self.two() + 1

        @guarded
        def two(self):
            return 1

    assert Thing().one() == 2


def test_one_batch_may_be_asked_in_several_ways(vlm, hash_encoder):
    editor = ReasonEditor(vlm, design(k=2))
    assert editor.ask_batch([]) == []
    long = editor.ask(*question(0), max_new_tokens=12)
    short = editor.ask(*question(0), max_new_tokens=2)
    found = at_once(
        lambda: editor.ask(*question(0), max_new_tokens=12),
        lambda: editor.ask(*question(0), max_new_tokens=2),
        lambda: editor.ask_batch([Query(*question(0))], max_new_tokens=12)[0],
    )
    assert [a.text for a in found] == [long.text, short.text, long.text]
