"""The codebook: what is written, joined, kept and refused."""

import errno
import json

import pytest
import torch
from helpers.tiny import picture

from reasonedit import Edit, ReasonEditError
from reasonedit.codebook import EditMemory, entries_of
from reasonedit.codebook.memory import check_fingerprint


def edit(number: int = 0, **changes) -> Edit:
    values = {"question": "What is it?", "answer": "a kettle", "reasoning": ["It has a spout.", "It boils water."]}
    values |= {"id": f"e{number}"} | changes
    return Edit(image=picture(number), **values)


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


def test_an_edit_writes_its_answer_and_each_sentence():
    texts = [(text, fact.text, fact.entry) for text, fact in entries_of(edit())]
    assert texts == [
        ("What is it?", "The answer to 'What is it?' is a kettle.", "answer"),
        ("It has a spout.", "It has a spout.", "image"),
        ("It boils water.", "It boils water.", "image"),
    ]


def test_exact_duplicates_join_and_near_ones_do_not():
    memory, rows = EditMemory(), keys(3)
    assert memory.write(edit(0), rows) == 3
    # The same keys with another answer: no new key, one new fact under the first.
    assert memory.write(edit(1, answer="a teapot"), rows) == 0
    assert [f.text for f in memory.entries[0]] == [
        "The answer to 'What is it?' is a kettle.",
        "The answer to 'What is it?' is a teapot.",
    ]
    assert [len(e) for e in memory.entries] == [2, 1, 1]
    moved = rows.clone()
    moved[1, 0] += 1e-6
    assert memory.write(edit(2), moved) == 1


def test_keys_stay_in_order_while_the_buffer_grows():
    memory, written = EditMemory(), []
    for i in range(90):
        written.append(keys(3, seed=i))
        memory.write(edit(i), written[-1])
    assert torch.equal(memory.keys, torch.cat(written))
    assert len(memory) == 270
    assert list(memory.edits) == [f"e{i}" for i in range(90)]


def test_keys_written_in_inference_mode_are_ordinary_tensors():
    memory = EditMemory()
    with torch.inference_mode():
        memory.write(edit(), keys(3) * 1)
    assert not memory.keys.is_inference()


def test_an_id_cannot_come_twice_and_widths_must_agree():
    memory = EditMemory()
    memory.write(edit(), keys(3))
    with pytest.raises(ReasonEditError, match="edit 'e0' in the codebook already"):
        memory.write(edit(), keys(3, seed=1))
    with pytest.raises(ReasonEditError, match="5 wide, the new ones 4"):
        memory.write(edit(1), torch.zeros(3, 4))
    assert len(memory) == 3


def test_save_and_load_give_the_same_memory(tmp_path):
    memory = EditMemory()
    for i in range(3):
        memory.write(edit(i, choices=["a kettle", "a cup"] if i else None), keys(3, seed=i // 2))
    memory.save(tmp_path / "book", {"layer": "x"}, {"k": 5})
    loaded, fingerprint, config = EditMemory.load(tmp_path / "book")
    assert torch.equal(loaded.keys, memory.keys)
    assert loaded.entries == memory.entries
    assert loaded.edits == memory.edits
    assert (fingerprint, config) == ({"layer": "x"}, {"k": 5})
    # It goes on as the first one would: duplicates join, new keys come behind.
    assert loaded.write(edit(7), keys(3, seed=0)) == 0
    assert loaded.write(edit(8), keys(3, seed=9)) == 3
    assert sorted(p.name for p in (tmp_path / "book").iterdir()) == ["codebook.json", "keys.safetensors"]


def test_a_full_disk_leaves_what_was_stored(tmp_path, monkeypatch):
    memory = EditMemory()
    memory.write(edit(0), keys(3))
    memory.save(tmp_path, {}, {})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    memory.write(edit(1), keys(3, seed=1))

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    for first_or_second_file in ("safetensors.torch.save_file", "pathlib.Path.write_text"):
        with monkeypatch.context() as patch:
            patch.setattr(first_or_second_file, full)
            with pytest.raises(ReasonEditError, match=r"No space left on device.*unchanged"):
                memory.save(tmp_path, {}, {})
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_missing_and_damaged_codebooks_are_named(tmp_path):
    with pytest.raises(ReasonEditError, match="There is no codebook in"):
        EditMemory.load(tmp_path)
    memory = EditMemory()
    memory.write(edit(0), keys(3))

    def save():
        memory.save(tmp_path, {}, {})
        return tmp_path / "codebook.json", tmp_path / "keys.safetensors"

    content, stored = save()
    stored.write_bytes(stored.read_bytes()[:-4])
    with pytest.raises(ReasonEditError, match="damaged"):
        EditMemory.load(tmp_path)
    content, stored = save()
    content.write_text(content.read_text()[:-30])
    with pytest.raises(ReasonEditError, match="damaged"):
        EditMemory.load(tmp_path)
    content, stored = save()
    values = json.loads(content.read_text())
    content.write_text(json.dumps(values | {"entries": values["entries"][:-1]}))
    with pytest.raises(ReasonEditError, match="3 keys but 2 entries"):
        EditMemory.load(tmp_path)
    content.write_text(json.dumps(values | {"format": 99}))
    with pytest.raises(ReasonEditError, match="format 99"):
        EditMemory.load(tmp_path)


def test_another_model_is_refused_with_what_differs():
    with pytest.raises(ReasonEditError, match=r"layer: stored 'a', now 'b'"):
        check_fingerprint({"layer": "a", "encoder": "e"}, {"layer": "b", "encoder": "e"}, "book")
    check_fingerprint({"layer": "a"}, {"layer": "a"}, "book")
