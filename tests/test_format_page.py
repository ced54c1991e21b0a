"""The page on the format is right: its code reads codebooks, and its tables name every field and every file."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from helpers.scenarios import begin, numbered_edit, open_memory

import reasonedit
from reasonedit.codebook import EditMemory

TESTS = Path(__file__).parent
TEXT = (Path(reasonedit.__file__).parent / "docs" / "reference" / "format.md").read_text(encoding="utf-8")
OLDER = sorted((TESTS / "data").glob("codebook-format-4*"))


@pytest.fixture
def book(tmp_path):
    """A codebook with all that can be in one."""
    memory = EditMemory()
    for number in range(3):
        memory.write(*numbered_edit(number))
    memory.copy_to(begin(tmp_path / "book"))
    memory.undo("e00001", "Ada")
    memory.settle(join=True)
    memory.undo("e00002")
    memory.restore("e00002", "a name with \u2028 in it")
    memory.write(*numbered_edit(3))
    return tmp_path / "book"


def stranger():
    """The reader that the page gives."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    names = {}
    exec(compile(code, "format.md", "exec"), names)
    return names["read"]


def fields(title):
    """The first column of the tables below a heading."""
    (part,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    rows = re.findall(r"^\| (`.*?) \|", part, re.M)
    return [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]


def test_the_sum_of_the_record_on_the_page_is_right():
    (line,) = re.findall(r"```json\n(.*?)\n```", TEXT, re.S)
    body, _, _ = line.rpartition(', "sum"')
    assert json.loads(line)["sum"] == hashlib.blake2b(f"{body}}}".encode(), digest_size=8).hexdigest()


def test_a_stranger_reads_a_codebook_with_the_code_of_the_page(book):
    manifest, edits, counts = stranger()(book)
    memory = open_memory(book)
    assert list(edits) == [e.edit_id for e in memory.events if e.edit is not None]
    assert counts == set(memory.edits)
    assert manifest["numbers"] == sum(len(record["facts"]) for record in edits.values()) == 12
    # One of whom a byte is changed is none.
    for name in ("journal.jsonl", *(p.relative_to(book).as_posix() for p in book.glob("keys/*"))):
        data = (book / name).read_bytes()
        (book / name).write_bytes(data[:-30] + bytes([data[-30] ^ 1]) + data[-29:])
        with pytest.raises((AssertionError, ValueError)):
            stranger()(book)
        (book / name).write_bytes(data)


@pytest.mark.parametrize("folder", OLDER, ids=lambda path: path.name)
def test_a_stranger_reads_what_earlier_versions_wrote(folder):
    _, edits, counts = stranger()(folder)
    assert (list(edits), counts) == (["kettle", "anchor", "harp"], {"kettle", "anchor"})


def test_every_field_of_the_manifest_is_on_the_page(book):
    assert fields("`codebook.json`") == list(json.loads((book / "codebook.json").read_text()))


def test_every_field_of_the_journal_is_on_the_page(book):
    records = [json.loads(line) for line in (book / "journal.jsonl").read_bytes().split(b"\n")[:-1]]
    (part,) = re.findall(r"^## The journal\n(.*?)(?=^## )", TEXT, re.M | re.S)
    told = set(re.findall(r"`(\w+)`", part))
    assert {name for record in records for name in record} <= told
    edit = records[1]["edit"]
    assert set(fields("The journal")) >= {*edit, "answers"}
    assert {kind for record in records for _, kind in record.get("facts", [])} <= told
    assert {record["op"] for record in records} == {"create", "edit", "undo", "restore"}


def test_tensors_and_names_of_files_are_those_of_the_page(book):
    from safetensors.torch import load_file

    memory = open_memory(book)
    loaded = {path.relative_to(book).as_posix(): load_file(path) for path in book.rglob("*.safetensors")}
    assert set(loaded) == {
        "keys/000000000000-9-joined.safetensors",
        "keys/000000000009-3.safetensors",
        "settled-4.safetensors",
        "statistics.safetensors",
    }
    for name, tensors in loaded.items():
        if name.startswith("keys/"):
            assert {n: t.dtype for n, t in tensors.items()} == {"keys": torch.float32, "radii": torch.float32}
    founders = loaded["settled-4.safetensors"]["founders"]
    assert (founders.dtype, len(founders)) == (torch.int64, 9)
    counting = [0, 1, 2, 6, 7, 8]  # e00001 was undone
    assert [n for n in counting if founders[n] == n] == [n for n in memory.numbers.tolist() if n < 9]
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(loaded["statistics.safetensors"].items()):
        digest.update(f"{name} F32 {list(tensor.shape)} ".encode() + tensor.numpy().tobytes())
    assert memory.store.manifest.statistics_digest == digest.hexdigest()
    for path in book.glob("pictures/*"):
        picture = memory.picture(path.stem)
        named = hashlib.sha256(f"{picture.width}x{picture.height} ".encode() + picture.convert("RGB").tobytes())
        assert path.stem == named.hexdigest()


def test_tests_that_the_page_names_exist():
    named = re.findall(r"`tests/(\w+\.py)(?:::(\w+))?`", TEXT)
    assert named
    for file, test in named:
        assert f"def {test}" in (TESTS / file).read_text(encoding="utf-8"), test
