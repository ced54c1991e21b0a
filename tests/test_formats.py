"""Codebooks that earlier versions wrote, kept as they wrote them: every edit comes back, in its order, as it was."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.tiny import picture
from safetensors.torch import load_file

from reasonedit import ReasonEditError, ReasonEditor
from reasonedit.cli import main
from reasonedit.codebook import EditMemory, Store, as_edit
from reasonedit.codebook.repair import verify
from reasonedit.design import Design
from reasonedit.migrate import migrate_codebook

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


@pytest.fixture
def format_3(tmp_path):
    """A codebook of format 3, and the data set that its edits came from."""
    folder = Path(shutil.copytree(DATA / "codebook-format-3", tmp_path / "former"))
    rows = [{"id": name, "image": f"{name}.png"} for name in ("harp", "kettle", "anchor", "another")]
    for number, name in enumerate(("kettle", "anchor", "harp")):
        picture(number).save(tmp_path / f"{name}.png")
    (tmp_path / "pictures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def refusal_of(capsys, *call) -> str:
    assert main([str(c) for c in call]) == 1
    return capsys.readouterr().err


def test_format_3_is_read_by_migration(format_3, tmp_path, tiny_folder, hash_encoder, capsys):
    call = ["codebook", "migrate", format_3, "--to", tiny_folder, "--out", tmp_path / "new", "--dtype", "float32"]
    assert main([*map(str, call), "--pictures", str(tmp_path / "pictures.jsonl")]) == 0
    assert "holds 3 edits" in capsys.readouterr().out
    memory = EditMemory.open(Store.open(tmp_path / "new"))
    assert list(memory.edits) == ["kettle", "anchor", "harp"]
    anchor = memory.find("anchor")
    assert (anchor.question, anchor.answer, anchor.choices) == (
        "Wem gehört er?",
        "dem Fährmann",
        ["dem Fährmann", "niemandem"],
    )
    assert anchor.reasoning == ["Es ist ein Anker.", "Der Fährmann wirft ihn aus."]
    assert memory.picture(anchor.image).tobytes() == picture(1).tobytes()
    old = json.loads((format_3 / "codebook.json").read_text(encoding="utf-8"))
    assert [[f.text for f in facts] for facts in memory.entries] == [[f["text"] for f in e] for e in old["entries"]]
    # The keys of then are there to compare with: the same model makes the same ones, as far as that can be.
    assert memory.keys.shape == load_file(format_3 / "keys.safetensors")["keys"].shape
    # It answers: what was written about a picture is found for it.
    editor = ReasonEditor.load(tmp_path / "new", dtype="float32")
    assert editor.ask(picture(0), "Who owns it?").hits[0].fact == "The answer to 'Who owns it?' is the sailor."
    assert verify(tmp_path / "new").damages == []


def test_format_3_says_what_it_needs(format_3, tmp_path, capsys):
    call = ["codebook", "migrate", format_3, "--to", tmp_path / "no-model", "--out", tmp_path / "new"]
    assert "format 3, which kept no pictures: name by --pictures a file" in refusal_of(capsys, *call)
    for action in ("verify", "compact"):
        assert "is of format 3: 'reasonedit codebook migrate'" in refusal_of(capsys, "codebook", action, format_3)
    assert "is of format 3: 'reasonedit codebook migrate'" in refusal_of(capsys, "codebook", "list", format_3)
    (tmp_path / "some.jsonl").write_text('{"id": "harp", "image": "harp.png"}\n')
    message = refusal_of(capsys, *call, "--pictures", tmp_path / "some.jsonl")
    assert "There is no picture of the edits 'kettle', 'anchor'" in message
    (tmp_path / "kettle.png").unlink()
    message = refusal_of(capsys, *call, "--pictures", tmp_path / "pictures.jsonl")
    assert "kettle.png" in message
    (format_3 / "codebook.json").write_text('{"format": 3, "edits": [{"id": 7}], "config": {}}')
    assert "of format 3, is damaged" in refusal_of(capsys, *call, "--pictures", tmp_path / "pictures.jsonl")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("folder", FOUR, indirect=True)
def test_format_4_is_migrated_with_its_pictures(folder, tmp_path, tiny_vlm, hash_encoder):
    old = EditMemory.open(Store.open(folder))
    new = migrate_codebook(old, tiny_vlm, tmp_path / "new", Design.from_dict(old.store.manifest.config["design"]))
    assert (list(new.edits), list(new.undone)) == (["kettle", "anchor"], ["harp"])
    for name in ("kettle", "anchor", "harp"):
        one, other = new.find(name), old.find(name)
        assert (one.author, one.time, one.reasoning, one.image) == (
            other.author,
            other.time,
            other.reasoning,
            other.image,
        )
    assert [[f.text for f in facts] for facts in new.entries] == [[f.text for f in facts] for facts in old.entries]


def test_a_newer_format_is_refused_with_what_reads_it(tmp_path):
    folder = Path(shutil.copytree(DATA / "codebook-format-4", tmp_path / "book"))
    text = (folder / "codebook.json").read_text().replace('"format": 4', '"format": 6')
    (folder / "codebook.json").write_text(text)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for read in (Store.open, verify):
        with pytest.raises(ReasonEditError, match=r"is of format 6, this version reads up to 5: use a newer version"):
            read(folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
