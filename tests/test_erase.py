"""Edits that are erased: nothing of them is left in any file, and all others are as if these had never been."""

import errno
import io
import json
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from contextlib import closing
from pathlib import Path

import lightning as L
import pyarrow.parquet as pq
import pytest
import torch
from helpers.tiny import design, picture
from helpers.toy import ToySource
from helpers.writer import make_edit, open_or_create
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from safetensors.torch import load_file

from reasonedit import Edit, EditStream, ReasonEditError, ReasonEditor, VLMModule
from reasonedit.callbacks import Codebook, EditingMetrics, PredictionWriter, Retriever, RunLog, TensorBoardCharts
from reasonedit.cli import main
from reasonedit.codebook import EditMemory, Entry, Fact, Store
from reasonedit.codebook.backup import backup
from reasonedit.codebook.repair import LOST, repair, verify
from reasonedit.codebook.stored_edit import picture_name
from reasonedit.data.exported import export
from reasonedit.erasure import erase, erase_from, plan_erasure
from reasonedit.errors import InputError, NotFoundError
from reasonedit.traces import ErasedEdits, KeptQuestions, folder_of_questions


def book(folder: Path, numbers=range(6), **changes) -> EditMemory:
    memory = open_or_create(folder)
    for number in numbers:
        memory.write(*make_edit(number))
    return memory


def opened(folder: Path) -> EditMemory:
    return EditMemory.open(Store.open(folder))


def same_answers(one: EditMemory, other: EditMemory) -> None:
    """All that an answer depends on."""
    assert torch.equal(one.keys, other.keys)
    assert torch.equal(one.radii, other.radii)
    assert one.entries == other.entries
    assert list(one.edits) == list(other.edits)
    assert list(one.undone) == list(other.undone)
    assert [e.contradicts for e in one.edits.values()] == [e.contradicts for e in other.edits.values()]


def holding(
    tree: Path, texts: list[str], image: Image.Image | None = None, keys: torch.Tensor | None = None
) -> list[str]:
    """Files in which any of it is, as they lie there or unpacked."""
    forms = {form.encode() for text in texts for form in (text, json.dumps(text)[1:-1])}
    found = []
    for path in sorted(p for p in tree.rglob("*") if p.is_file()):
        data = [path.read_bytes(), path.name.encode()]
        if path.suffix == ".parquet":
            data.append(json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False).encode())
        elif path.suffix == ".png":
            data.append(Image.open(path).convert("RGB").tobytes())
        elif path.suffix == ".sqlite":
            with closing(sqlite3.connect(path)) as base:
                data.append("\n".join(base.iterdump()).encode())
        elif path.suffix == ".safetensors" and keys is not None:
            rows = load_file(path).get("keys", torch.empty(0, keys.shape[1]))
            data += [text for text in forms if any(torch.equal(row, key) for row in rows for key in keys)][:1]
        wanted = {*forms} | ({image.tobytes()} if image is not None else set())
        if any(form in one for form in wanted for one in data):
            found.append(path.relative_to(tree).as_posix())
    return found


def test_all_others_are_as_if_it_had_never_been(tmp_path):
    memory = book(tmp_path / "book", range(8))
    memory.undo("e00002")
    memory.undo("e00005")
    memory.restore("e00005")
    assert holding(tmp_path, ["thing 4", "e00004", "fact 4 1"], picture(4), make_edit(4)[1][0].key[None]) != []
    erased = erase(tmp_path / "book", ["e00004", "e00002"], "Ada")
    assert [edit.id for edit in erased.edits] == ["e00004", "e00002"]
    assert holding(tmp_path, ["thing 4", "thing 2", "e00004", "e00002", "fact 4 1", "What is 4?"], picture(4)) == []
    # The keys of 4 and 5 are the same three: only one edit has them now.
    other = book(tmp_path / "other", [0, 1, 3, 5, 6, 7])
    other.undo("e00005")
    other.restore("e00005")
    again = opened(tmp_path / "book")
    same_answers(again, other)
    assert len(again.table) == 6 * 3
    assert [(e.op, e.edit_id) for e in again.events[-3:]] == [("undo", "e00005"), ("restore", "e00005"), ("erase", "")]
    assert (again.events[-1].count, again.events[-1].author) == (2, "Ada")
    assert verify(tmp_path / "book").damages == []
    # Whoever has read it before sees it, too, and an id may be used again.
    memory.refresh()
    same_answers(memory, other)
    memory.write(*make_edit(4))
    other.write(*make_edit(4))
    same_answers(opened(tmp_path / "book"), other)
    assert list(memory.edits)[-1] == "e00004"


def test_pictures_and_texts_stay_that_others_have_too(tmp_path):
    memory = open_or_create(tmp_path / "book")
    for name in ("one", "two"):
        edit = Edit(picture(1), "What is it?", f"a {name}", ["It is shared.", f"It is {name}."], id=name)
        memory.write(
            edit, [Entry(torch.full((8,), len(memory) + 1.0), 0.0, Fact(t, "image", name)) for t in edit.reasoning]
        )
    plan = plan_erasure(memory, ["one"])
    assert "0 pictures (1 more stay, which other edits have, too)" in plan.here[0]
    erase_from(memory, ["one"])
    again = opened(tmp_path / "book")
    assert [f.text for facts in again.entries for f in facts] == ["It is shared.", "It is two."]
    assert again.picture(picture_name(picture(1))).tobytes() == picture(1).tobytes()
    assert holding(tmp_path, ["a one", "It is one."]) == []
    erase_from(memory, ["two"])
    assert list((tmp_path / "book" / "pictures").iterdir()) == []
    assert [(e.op, e.count) for e in opened(tmp_path / "book").events] == [("erase", 1), ("erase", 1)]


def test_nothing_is_erased_where_an_edit_is_unknown_or_somebody_writes(tmp_path):
    memory = book(tmp_path / "book")
    before = {p: p.read_bytes() for p in (tmp_path / "book").rglob("*") if p.is_file()}
    with pytest.raises(ReasonEditError, match="There is no edit 'e9'"):
        erase(tmp_path / "book", ["e00001", "e9"])
    with pytest.raises(ReasonEditError, match="There is no edit 'e0000'"):
        erase(tmp_path / "book", ["e0000"])
    assert {p: p.read_bytes() for p in (tmp_path / "book").rglob("*") if p.is_file()} == before
    with pytest.raises(ReasonEditError, match="only in memory"):
        erase_from(EditMemory(), ["e00001"])
    assert len(memory.edits) == 6


def test_the_same_call_again_erases_no_other_edit(tmp_path):
    memory = open_or_create(tmp_path / "book")
    for name in ("e1", "e10"):
        memory.write(Edit(picture(1), f"What is {name}?", "a harp", ["It is so."], id=name), [])
    assert [edit.id for edit in erase(tmp_path / "book", ["e1"]).edits] == ["e1"]
    for call in (plan_erasure, erase_from):
        with pytest.raises(NotFoundError, match="There is no edit 'e1'"):
            call(opened(tmp_path / "book"), ["e1"])
    assert list(opened(tmp_path / "book").edits) == ["e10"]


def test_one_text_is_no_list_of_ids(tmp_path):
    memory = open_or_create(tmp_path / "book")
    memory.write(Edit(picture(1), "What is it?", "a harp", ["It is so."], id="1"), [])
    for call in (plan_erasure, erase_from, lambda memory, ids: export(memory, tmp_path / "edits.jsonl", ids)):
        for ids in ("1", ""):
            with pytest.raises(InputError, match=rf"must be a list of texts, not one text: write \['{ids}'\]"):
                call(memory, ids)
    assert list(opened(tmp_path / "book").edits) == ["1"]
    assert not (tmp_path / "edits.jsonl").exists()


def test_contradictions_do_not_name_what_is_erased(tmp_path):
    memory = open_or_create(tmp_path / "book")
    for name in ("Anna", "Berta", "Clara"):
        edit = Edit(picture(1), "What is it?", f"a {name}", ["It is so."], id=name)
        memory.write(edit, [Entry(torch.ones(8), 1.0, Fact(edit.answer_fact, "answer", name))])
    assert memory.find("Clara").contradicts == ["Anna", "Berta"]
    erase_from(memory, ["Anna"])
    assert memory.find("Clara").contradicts == ["Berta"]
    assert holding(tmp_path, ["Anna"]) == []


class Patients(ToySource):
    """Edits whose texts are in nothing else; one asks what a fact of another brings to an answer."""

    def candidates(self):
        for i in range(3 * self.edits):
            reasoning = [f"Fräulein Nummer {i} wohnt hier.", f"The patient of bed {i} is she."]
            yield Edit(picture(i), f"Who lies in bed {i}?", f"Miss Number {i}", reasoning, id=f"patient-{i}x")


@pytest.fixture
def run(tiny_vlm, tmp_path, hash_encoder, monkeypatch):
    """The results folder of a run, which was stopped when its log was there, but its predictions, too."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.yaml", "versions.json", "metrics.json"):
        (folder / name).write_text("{}")
    logger = TensorBoardLogger(folder, name="tensorboard", version="")
    parts = [RunLog(folder / "log" / "answers"), Codebook(folder / "codebook", design(k=8, percentile=90.0))]
    parts += [Retriever(), EditingMetrics(), TensorBoardCharts(pictures=8)]
    parts.append(PredictionWriter(folder / "predictions.parquet"))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(accelerator="cpu", devices=1, callbacks=parts, logger=logger, **quiet)
    stream = EditStream(Patients(3), batch_size=2, interleave=1)
    trainer.predict(VLMModule(tiny_vlm, max_new_tokens=2), datamodule=stream)
    logger.finalize("success")
    (folder / "story").mkdir()
    picture(1).save(folder / "story" / "mistake.png")
    (folder / ".predictions.parquet.part").write_text("Who lies in bed 1?")
    return folder


def images_in(folder: Path) -> list[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"images": 0}).Reload().Tags()["images"]


def test_nothing_is_left_in_the_folder_of_its_run(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    texts = ["patient-1x", "Fräulein Nummer 1 wohnt hier.", "The patient of bed 1 is she.", "Who lies in bed 1?"]
    texts.append("Miss Number 1")
    before = holding(run, texts, picture(1))
    assert {"log/answers.0.jsonl", "predictions.parquet", "story/mistake.png", "codebook/journal.jsonl"} <= {*before}
    rows = {name: pq.read_table(run / name).to_pylist() for name in ("predictions.parquet",)}["predictions.parquet"]
    used = [row for row in rows if row["edit"] != "patient-1x" and "patient-1x" in row["fact_edits"]]
    assert used
    assert "evidence/patient-0x" in images_in(run / "tensorboard")
    plan = plan_erasure(opened(run / "codebook"), ["patient-1x"])
    assert any(f"in '{run}': their rows and those of their probes" in text for text in plan.here)
    done = erase(run / "codebook", ["patient-1x"])
    assert holding(run, texts, picture(1)) == []
    assert f"'{run / 'predictions.parquet'}'" in done.here
    # What is not of it is what it was.
    table = pq.read_table(run / "predictions.parquet")
    assert b"comparison" in table.schema.metadata
    rows_left = table.to_pylist()
    others = [row for row in rows if row["edit"] != "patient-1x"]
    assert [(r["id"], r["right"], r["distances"]) for r in rows_left] == [
        (r["id"], r["right"], r["distances"]) for r in others
    ]
    untouched = [row for row in others if "patient-1x" not in row["fact_edits"]]
    assert untouched
    assert all(row in rows_left for row in untouched)
    (first,) = [row for row in rows_left if row["id"] == used[0]["id"] and row["edits"] == used[0]["edits"]]
    assert first["fact_edits"].count("(erased)") == used[0]["fact_edits"].count("patient-1x")
    assert first["prompt"].startswith("(erased) ") or " (erased) " in first["prompt"]
    board = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert {"evidence/patient-0x", "evidence/patient-2x"} == {*board.Tags()["images"]}
    assert board.Scalars("edit/rel")
    assert (run / "metrics.json").read_text() == "{}"
    log = [json.loads(line) for line in (run / "log" / "answers.0.jsonl").read_text().splitlines()]
    assert {row["edit"] for row in log if "edit" in row} == {"patient-0x", "patient-2x"}


def test_rows_of_others_lose_nothing_else():
    erased = ErasedEdits(
        ids=frozenset({"1", "2"}),
        texts=frozenset({"Yes.", "It is red."}),
        answers=frozenset({"red"}),
        questions=frozenset({"What?"}),
        pictures=frozenset(),
        sentences=frozenset({"Yes.", "It is red.", "It is shared."}),
    )
    other = {"id": "p", "edit": "3", "prompt": "Yes. Is it red?", "answer": "1", "facts": [], "fact_edits": []}
    assert erased.clean_row(other) == other
    assert erased.clean_row({**other, "edit": "1"}) is None
    used = {
        "id": "p",
        "edit": "3",
        "prompt": "It is red. It is shared. It is blue. What?",
        "answer": "It is Red",
        "thought": None,
        "target": "red",
        "facts": ["It is red.", "It is shared.", "It is blue."],
        "fact_edits": ["1", "2", "4"],
        "left_out": ["Yes.", "Yes. No."],
    }
    assert erased.clean_row(used) == {
        **used,
        "prompt": "(erased) It is shared. It is blue. What?",  # which another edit says, too
        "answer": "(erased)",
        "facts": ["(erased)", "It is shared.", "It is blue."],
        "fact_edits": ["(erased)", "(erased)", "4"],
        "left_out": ["(erased)", "Yes. No."],
    }


def test_a_fact_of_another_edit_does_not_name_the_erased_one_that_it_was_joined_to():
    erased = ErasedEdits(frozenset({"1"}), frozenset({"It is Ada's chair."}), *[frozenset()] * 4)
    own = {"fact": "The chair is heavy.", "edit_id": "2", "distance": 0.5, "kind": "patch", "via": "It is Ada's chair."}
    same = {**own, "via": "It is red."}
    found = erased.clean_row({"edit": "3", "found": {"hits": [own, same], "left_out": [own]}})["found"]
    assert found == {"hits": [{**own, "via": "(erased)"}, same], "left_out": [{**own, "via": "(erased)"}]}


@pytest.mark.parametrize("logged", [True, False])
def test_a_prompt_goes_in_which_a_fact_stands_without_what_the_model_takes_for_a_turn(logged):
    fact = "The label says USER: Ada."
    erased = ErasedEdits(frozenset({"1"}), frozenset({fact}), *[frozenset()] * 4)
    hit = {"fact": fact, "edit_id": "1"}
    found = {"found": {"hits": [hit]}} if logged else {"facts": [fact], "fact_edits": ["1"]}
    row = {"edit": "2", "question": "Whose is it?", "prompt": "The label says USER Ada. Whose is it?", **found}
    clean = erased.clean_row(row)
    assert (clean["question"], clean["prompt"]) == ("Whose is it?", "(erased)")
    assert erased.clean_row({**row, "prompt": f"{fact} Whose is it?"})["prompt"] == "(erased) Whose is it?"


def test_what_is_found_elsewhere_is_told(run, tmp_path, monkeypatch):
    (run / "notes.txt").write_text("Remember: The patient of bed 1 is she.")
    backup(run / "codebook", run / "kept")
    hub = tmp_path / "hub" / "models--a--b" / "snapshots" / "0"
    hub.mkdir(parents=True)
    (hub / "codebook.json").write_bytes((run / "codebook" / "codebook.json").read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    done = erase(run / "codebook", ["patient-1x"])
    assert [text for text in done.elsewhere if "notes.txt" in text] == [f"'{run / 'notes.txt'}' holds words of them"]
    assert f"'{hub}' holds a copy of this codebook" in done.elsewhere
    assert f"'{run / 'kept'}' holds a copy of this codebook" in done.elsewhere
    assert list(opened(run / "kept").edits) == ["patient-0x", "patient-1x", "patient-2x"]


def test_damaged_copies_go_that_may_hold_it(tmp_path):
    book(tmp_path / "book")
    for name, changed in (("one", b"e00001"), ("two", b"e0xxxx"), ("three", b"e00003")):
        copy = tmp_path / f"book.damaged-{name}"
        backup(tmp_path / "book", copy)
        journal = (copy / "journal.jsonl").read_bytes()
        (copy / "journal.jsonl").write_bytes(journal.replace(b"e00001", changed) if name == "two" else journal)
        if name == "three":  # of a time before the edit came
            lines = [line for line in journal.splitlines(keepends=True) if b"e00001" not in line]
            (copy / "journal.jsonl").write_bytes(b"".join(lines))
            for picture_of in (1, 1001):
                (copy / "pictures" / f"{picture_name(picture(picture_of))}.png").unlink(missing_ok=True)
    (tmp_path / ".book.77.part").mkdir()
    (tmp_path / ".book.77.part" / "journal.jsonl").write_bytes(b"half a")
    (tmp_path / "book.damaged-notes").mkdir()
    (tmp_path / "book.damaged-notes" / "read.me").write_text("something else")
    rows = [{"id": "e00001", "question": "What is 1?"}, {"id": "e9", "question": "What is 9?"}]
    rows.append({"id": "gone", "question": "Who?", "reasoning": ["She."], "image": "lost-edits-pictures/aa.png"})
    (tmp_path / "book" / LOST).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "book" / "lost-edits-pictures").mkdir()
    (tmp_path / "book" / "lost-edits-pictures" / "aa.png").write_bytes(b"a picture")
    backup(tmp_path / "book", tmp_path / "kept")
    assert (tmp_path / "kept" / "lost-edits-pictures" / "aa.png").read_bytes() == b"a picture"
    shutil.rmtree(tmp_path / "kept")
    assert [edit.question for edit in plan_erasure(opened(tmp_path / "book"), ["gone"]).edits] == ["Who?"]
    erase(tmp_path / "book", ["e00001", "gone"])
    assert opened(tmp_path / "book").events[-1].count == 1
    assert list((tmp_path / "book" / "lost-edits-pictures").iterdir()) == []
    there = sorted(p.name for p in tmp_path.iterdir())
    assert there == ["book", "book.damaged-notes", "book.damaged-three"]
    assert json.loads((tmp_path / "book" / LOST).read_text())["id"] == "e9"
    assert holding(tmp_path, ["e00001", "thing 1", "fact 1 0"], picture(1)) == []


def test_a_copy_goes_that_holds_what_an_earlier_repair_could_not_keep(tmp_path):
    """The copy of the second repair has the edit in its file of lost ones alone."""
    folder = tmp_path / "book"
    book(folder)
    journal = folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"thing 1", b"another thing"))
    repair(folder, accept_loss=True)
    opened(folder).settle(join=True)
    (folder / Store.open(folder).manifest.sealed[0].sums.file).write_bytes(b"")
    repair(folder, accept_loss=True)
    assert len(list(tmp_path.glob("book.damaged-*"))) == 2
    assert [edit.id for edit in erase(folder, ["e00001"]).edits] == ["e00001"]
    assert holding(tmp_path, ["e00001", "another thing"], picture(1)) == []
    assert [path.name for path in tmp_path.iterdir()] == ["book"]


def test_what_a_killed_server_left_of_a_question_goes_too(tmp_path, monkeypatch):
    folder = tmp_path / "book"
    book(folder, range(2))
    kept = KeptQuestions(folder_of_questions(folder))
    with monkeypatch.context() as patch:
        patch.setattr(KeptQuestions, "_append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        for number in range(2):
            with pytest.raises(KeyboardInterrupt):
                kept.add({"id": "q", "question": "What is it?", "edit_ids": []}, picture(number))
    pictures = kept.folder / "pictures"
    (pictures / f".{picture_name(picture(1))}.png.77.part").write_bytes(b"half a picture")
    (kept.folder / ".questions.jsonl.77.part").write_text("half of all questions")
    kept.add({"id": "other", "question": "What is it?", "edit_ids": []}, picture(0))
    with (kept.folder / "questions.jsonl").open("a") as file:
        file.write('{"id": "q", "question": "What is 1?')
    erase(folder, ["e00001"])
    assert list(kept.rows()) == ["other"]
    assert holding(tmp_path, ["What is 1?"], picture(1)) == []
    assert [path.name for path in pictures.iterdir()] == [f"{picture_name(picture(0))}.png"]
    assert not list(kept.folder.glob("*.part"))


def test_what_lies_beside_a_codebook_is_found_whichever_way_it_is_reached(run, tmp_path, monkeypatch):
    texts = ["patient-1x", "The patient of bed 1 is she.", "Who lies in bed 1?"]
    backup(run / "codebook", run / "codebook.damaged-1")
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "book"
    link.symlink_to(run / "codebook")
    backup(run / "codebook", tmp_path / "elsewhere" / "book.damaged-2")
    (tmp_path / "elsewhere" / "real").symlink_to(run / "codebook")
    plan = plan_erasure(opened(link), ["patient-1x"])
    assert any(f"in '{run}': their rows" in text for text in plan.here)
    assert not any("holds a copy" in text for text in plan.elsewhere)  # its own folder is none, and the others go
    erase(link, ["patient-1x"])
    assert holding(tmp_path, texts, picture(1)) == []
    # Where the folder of the run is a link, nothing is looked for twice.
    (tmp_path / "linked").symlink_to(run)
    backup(run / "codebook", run / "codebook.damaged-3")
    assert erase(tmp_path / "linked" / "codebook", ["patient-2x"]).here[0].count("damaged-3") == 1
    # "keys/.." is the codebook, too.
    backup(run / "codebook", run / "codebook.damaged-4")
    monkeypatch.chdir(run / "codebook" / "keys")
    erase("..", ["patient-0x"])
    assert not (run / "codebook.damaged-4").exists()


def test_sentences_go_from_the_cache_of_evidence(tmp_path, monkeypatch):
    monkeypatch.setenv("REASONEDIT_CACHE", str(tmp_path / "cache"))
    memory = open_or_create(tmp_path / "book")
    edit = Edit(picture(1), "What is it?", "a harp", ["Only Anna knows this."], id="one")
    memory.write(edit, [Entry(torch.ones(8), 0.0, Fact("a fact", "image", "one"))])
    path = tmp_path / "cache" / "evidence" / "x.sqlite"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("create table found (asked text primary key, evidence text, seconds real)")
        for i, sentence in enumerate(["Only Anna knows this.", "Everybody knows that."]):
            evidence = json.dumps([{"sentence": sentence, "windows": []}])
            base.execute("insert into found values (?, ?, 0.5)", (f"key {i}", evidence))
    done = erase(tmp_path / "book", ["one"])
    assert "1 searches in the cache of evidence" in done.here
    assert holding(tmp_path, ["Only Anna knows this."]) == []
    assert holding(tmp_path, ["Everybody knows that."]) == ["cache/evidence/x.sqlite"]


def test_a_cache_that_cannot_be_cleaned_stops_it(tmp_path, monkeypatch):
    monkeypatch.setenv("REASONEDIT_CACHE", str(tmp_path / "cache"))
    book(tmp_path / "book")
    (tmp_path / "cache" / "evidence").mkdir(parents=True)
    (tmp_path / "cache" / "evidence" / "x.sqlite").write_text("no database at all, but long enough to be one" * 9)
    damaged = tmp_path / "book.damaged-1"
    shutil.copytree(tmp_path / "book", damaged)
    told = r"x\.sqlite', which may hold sentences of the edits, cannot be cleaned .* No edit is erased yet"
    with pytest.raises(ReasonEditError, match=told):
        erase(tmp_path / "book", ["e00001"])
    assert not damaged.exists()  # what lies beside is cleaned first, so it cannot be said that nothing was erased
    assert len(opened(tmp_path / "book").edits) == 6
    assert not (tmp_path / "book" / ".erasing.json").exists()


def test_a_disk_that_fails_at_any_sync_is_one_sentence_and_the_same_again_finishes(tmp_path, monkeypatch):
    book(tmp_path / "book", range(3))
    real, failing = os.fsync, [0]

    def fsync(handle):
        failing[0] -= 1
        if failing[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    messages, at = [], 0
    while failing[0] <= 0:  # until there are fewer syncs than that
        at += 1
        there = tmp_path / f"copy-{at}"
        shutil.copytree(tmp_path / "book", there)
        failing[0] = at
        try:
            erase(there, ["e00001"])
        except ReasonEditError as error:
            messages.append(str(error))
        if "e00001" in {*opened(there).edits, *opened(there).undone} or (there / ".erasing.json").exists():
            erase(there, ["e00001"])
        assert list(opened(there).edits) == ["e00000", "e00002"]
        assert b"thing 1" not in b"".join(p.read_bytes() for p in there.rglob("*") if p.is_file())
        assert not (there / ".erasing.json").exists()
    assert len(messages) > 10
    assert all(os.strerror(errno.ENOSPC) in text for text in messages)


def output_of(capsys, *call, code: int = 0) -> str:
    assert main([str(c) for c in call]) == code
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_the_command_asks_first(tmp_path, capsys, monkeypatch):
    book(tmp_path / "book")
    call = ["codebook", "erase", tmp_path / "book", "e00001", "e00004"]
    output = output_of(capsys, *call, code=1)
    assert "Erase 2 edits for good? There is no way back. There is no terminal to ask at: confirm with --yes" in output
    assert "e00001  What is 1?  thing 1" in output
    assert "backups and codebooks migrated or pulled from this one, or saved from it into other folders" in output
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert "nothing was erased" in output_of(capsys, *call, code=1)
    assert len(opened(tmp_path / "book").edits) == 6
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert f"2 edits erased; {tmp_path / 'book'} holds 4 edits" in output_of(capsys, *call)
    assert "keys; 2 were erased" in output_of(capsys, "codebook", "list", tmp_path / "book")
    assert "There is no edit 'e00001'" in output_of(capsys, *call, "--yes", code=1)
    assert "1 edit erased" in output_of(capsys, *call[:3], "e00002", "--yes", "--author", "Ada")
    assert opened(tmp_path / "book").events[-1].author == "Ada"


def test_the_command_asks_about_the_whole_id_where_it_was_cut_short(tmp_path, capsys, monkeypatch):
    book(tmp_path / "book", (1, 12))
    call = ["codebook", "erase", tmp_path / "book"]
    assert "'e00001' is the beginning of" not in output_of(capsys, *call, "e00001", code=1)
    assert output_of(capsys, *call, "e00001", "--yes").endswith("holds 1 edit\n")
    book(tmp_path / "book", (123,))
    # The beginning of what else is there: nobody is taken to mean that one unless asked.
    refused = output_of(capsys, *call, "e0001", "--yes", code=1)
    assert "'e0001' is the beginning of 'e00012'. --yes asks nobody whether that one is meant" in refused
    assert "There is no edit 'e00', and the beginning of an id" in output_of(capsys, *call, "e00", "--yes", code=1)
    assert list(opened(tmp_path / "book").edits) == ["e00012", "e00123"]
    question = "'e0001' is the beginning of 'e00012'. Erase 1 edit for good?"
    assert question in output_of(capsys, *call, "e0001", code=1)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert question in output_of(capsys, *call, "e0001")
    assert list(opened(tmp_path / "book").edits) == ["e00123"]


def test_the_command_finishes_what_was_begun_by_the_beginning_of_an_id(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("reasonedit.erasure.erasing._PATIENCE", 0.05)
    memory = book(tmp_path / "book", (1, 23))
    with memory.store.reading(), pytest.raises(ReasonEditError, match="somebody reads the codebook"):
        erase(tmp_path / "book", ["e00001"])
    assert holding(tmp_path, ["e00001"]) != []
    said = output_of(capsys, "codebook", "erase", tmp_path / "book", "e0000", "--yes")
    assert "the erasing that was cut short is finished" in said
    assert holding(tmp_path, ["e00001", "thing 1"], picture(1)) == []
    assert list(opened(tmp_path / "book").edits) == ["e00023"]


def test_the_command_shows_stored_text_plainly(tmp_path, capsys):
    memory = open_or_create(tmp_path / "book")
    memory.write(Edit(picture(1), "Who\x1b]0;me\x07?", "\u202enobody", ["It is so."], id="one"), [])
    output = output_of(capsys, "codebook", "erase", tmp_path / "book", "one", "--yes")
    assert r"one  Who\x1b]0;me\x07?  \u202enobody" in output
    assert not {*output} & {"\x1b", "\x07", "\u202e"}


def test_an_editor_erases_and_answers_on(tiny_vlm, tmp_path, hash_encoder):
    editor = ReasonEditor(tiny_vlm, design())
    with pytest.raises(ReasonEditError, match="only in memory"):
        editor.erase("one")
    editor.save(tmp_path / "book")
    for name in ("one", "two"):
        editor.write(Edit(picture(1), f"Who is {name}?", f"person {name}", [f"It is person {name}."], id=name))
    other = ReasonEditor.load(tmp_path / "book", tiny_vlm)
    assert "It is person one." in other.ask(picture(1), "Who is one?").prompt
    done = editor.erase("one")
    assert [edit.id for edit in done.edits] == ["one"]
    for reader in (editor, other):  # also whoever has had it open all the time
        answer = reader.ask(picture(1), "Who is one?")
        assert {hit.edit_id for hit in answer.hits} == {"two"}
    assert holding(tmp_path, ["person one"]) == []


def test_who_reads_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.erasure.erasing._PATIENCE", 0.05)
    memory = book(tmp_path / "book")
    with (
        memory.store.reading(),
        pytest.raises(ReasonEditError, match=r"are erased, but \d+ files .* somebody reads the codebook"),
    ):
        erase(tmp_path / "book", ["e00001"])
    assert "e00001" not in opened(tmp_path / "book").edits
    assert holding(tmp_path, ["e00001"]) != []
    erase(tmp_path / "book", ["e00001"])  # it is known what was begun
    assert holding(tmp_path, ["e00001", "thing 1"], picture(1)) == []
    with pytest.raises(ReasonEditError, match="There is no edit 'e00001'"):
        erase(tmp_path / "book", ["e00001"])
    assert [e.count for e in opened(tmp_path / "book").events if e.op == "erase"] == [1]


WRITES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree", "sqlite3.connect")


def killed_at(step: int, work) -> bool:
    """Whether a process that does some work lived beyond its n-th change of a file; else it was killed at that."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # a forked process has no threads but its own
        steps_left = step

        def count(event: str, given: tuple) -> None:
            nonlocal steps_left
            mode = given[1] if event == "open" else None
            flags = given[2] if event == "open" else 0
            writes = event == "open" and (
                (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & 3)
            )
            if writes or event in WRITES:
                steps_left -= 1
                if steps_left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    return status == 0


def kill_everywhere(tree: Path, scratch: Path, steps) -> int:
    """Erase an edit of the codebook in a tree, killed at one step after the other; how many there are."""
    texts = ["patient-1x", "Fräulein Nummer 1 wohnt hier.", "The patient of bed 1 is she.", "Who lies in bed 1?"]
    erase(shutil.copytree(tree, scratch / "whole") / "run" / "codebook", ["patient-1x"])
    expected = opened(scratch / "whole" / "run" / "codebook")
    for step in steps:
        here = Path(shutil.copytree(tree, scratch / str(step)))
        folder = here / "run" / "codebook"
        done = killed_at(step, lambda folder=folder: erase(folder, ["patient-1x"]))
        there = opened(folder)
        assert list(there.edits) in (["patient-0x", "patient-1x", "patient-2x"], ["patient-0x", "patient-2x"])
        assert verify(folder).damages == []
        if done:
            return step
        if holding(here, ["patient-1x"]):
            erase(folder, ["patient-1x"])
        else:  # all was done, and nobody knows any more of whom
            with pytest.raises(ReasonEditError, match="There is no edit 'patient-1x'"):
                erase(folder, ["patient-1x"])
        assert holding(here, texts, picture(1)) == []
        same_answers(opened(folder), expected)
        assert [e.count for e in opened(folder).events if e.op == "erase"] == [1]
        assert {p.name for p in here.rglob(".*")} <= {".lock"}
        shutil.rmtree(here)
    return -1


@pytest.fixture
def tree(run, tmp_path):
    """A run, and a damaged copy of its codebook beside that."""
    backup(run / "codebook", run / "codebook.damaged-1")
    whole = tmp_path / "tree"
    whole.mkdir()
    return run.rename(whole / "run").parent


def test_killed_here_and_there_the_next_one_finishes(tree, tmp_path):
    kill_everywhere(tree, tmp_path / "scratch", [0, 9, 22, 31, 40])


@pytest.mark.slow
def test_killed_anywhere_the_next_one_finishes(tree, tmp_path):
    steps = kill_everywhere(tree, tmp_path / "scratch", range(1000))
    assert steps > 30
