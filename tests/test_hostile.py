"""Input that is bad or meant badly: one clear error or a right answer, and never a changed codebook."""

import io
import json
import struct
import zlib
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from helpers.tiny import design, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_store import book, content, open_memory

from reasonedit import Edit, Query, ReasonEditError, ReasonEditor
from reasonedit.codebook import DamagedError, EditMemory, Entry, Fact
from reasonedit.codebook.repair import repair, verify
from reasonedit.config.merging import Config
from reasonedit.data.exported import load_edits, read
from reasonedit.design import Design
from reasonedit.images import load_image, path_inside
from reasonedit.validation import LONGEST_NAME, LONGEST_TEXT, MOST_CHOICES, MOST_REGIONS, MOST_SENTENCES

texts = st.one_of(st.text(max_size=30), st.text(alphabet="\x00\ud800 \n.?<>|{}", max_size=8), st.none(), st.integers())
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=12)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)
regions = st.one_of(
    st.none(), st.lists(st.one_of(st.tuples(*[st.floats()] * 4), st.text(max_size=4), anything), max_size=3)
)


@pytest.fixture(scope="module")
def editor(tiny_vlm):
    from helpers.tiny import HashEncoder

    from reasonedit.embedding import SentenceEncoder

    patch = pytest.MonkeyPatch()
    patch.setattr(SentenceEncoder, "from_pretrained", classmethod(lambda cls, name="hash", device=None: HashEncoder()))
    made = ReasonEditor(tiny_vlm, design(keys="both", merge=True))
    made.edit(picture(0), "What is it?", answer="a boat", reasoning="It is round.")
    yield made
    patch.undo()


@given(
    question=texts,
    answer=texts,
    reasoning=st.one_of(texts, st.lists(texts, max_size=3), anything),
    choices=st.one_of(st.none(), st.lists(texts, max_size=3), anything),
    evidence=st.one_of(st.just(()), st.lists(regions, max_size=3), anything),
    author=texts,
)
def test_an_edit_is_written_whole_or_refused(editor, question, answer, reasoning, choices, evidence, author):
    before = (len(editor.memory), list(editor.edits), len(editor.memory.events))
    try:
        edit = editor.edit(
            picture(1), question, answer=answer, reasoning=reasoning, choices=choices, evidence=evidence, author=author
        )
    except ReasonEditError:
        assert (len(editor.memory), list(editor.edits), len(editor.memory.events)) == before
        return
    kept = editor.edits[edit.id]
    assert (kept.question, kept.answer, kept.reasoning) == (question.strip(), answer.strip(), edit.reasoning)
    json.dumps([kept.question, kept.answer, kept.reasoning]).encode()
    if choices is None:
        # However odd the texts are, it is the nearest to its own question.
        assert editor.ask(picture(1), question).nearest == pytest.approx(0, abs=1e-5)


@given(question=texts, choices=st.one_of(st.none(), st.lists(texts, max_size=3), anything))
def test_a_question_is_answered_or_refused(editor, question, choices):
    before = len(editor.memory)
    try:
        answer = editor.ask(picture(2), question, choices)
    except ReasonEditError:
        pass
    else:
        assert isinstance(answer.text, str)
        assert not choices or answer.text in [c.strip() for c in choices]  # none at all: an open question
    assert len(editor.memory) == before


@given(rows=st.lists(st.one_of(anything, st.fixed_dictionaries(
    {"image": st.one_of(st.just("a.png"), anything), "question": texts, "answer": texts, "reasoning": anything},
    optional={"id": anything, "choices": anything, "evidence": anything, "boxes": anything, "author": anything})),
    max_size=3), noise=st.binary(max_size=8))  # fmt: skip
def test_an_imported_file_is_read_or_refused_with_its_row(tmp_path_factory, rows, noise):
    folder = tmp_path_factory.mktemp("import")
    picture(0).save(folder / "a.png")
    path = folder / "edits.jsonl"
    path.write_bytes("\n".join(json.dumps(r) for r in rows).encode() + noise)
    told = str(path)
    try:
        found = list(load_edits(path, read(path)))
    except ReasonEditError as error:
        found, told = [], str(error)
    assert str(path) in told
    assert all(isinstance(e, Edit) for e in found)


part = st.dictionaries(st.sampled_from(["k", "text_weight", "grid", "merge", "pooling", "x"]), anything)
parts = st.sampled_from(["embedding", "evidence", "writing", "retrieval", "other"])


@given(values=st.dictionaries(parts, st.one_of(anything, part), max_size=3))
def test_a_design_is_read_or_refused(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("design") / "design.json"
    path.write_text(json.dumps(values))
    try:
        made = Design.load(path)
    except ReasonEditError:
        return
    assert Design.from_dict(made.to_dict()) == made


@given(data=st.data())
def test_a_folder_is_read_or_refused_and_never_changed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("book") / "book"
    memory = book(folder, 2)
    memory.settle()
    names = sorted(content(folder))
    name = data.draw(st.sampled_from(names))
    whole = (folder / name).read_bytes()
    kind = data.draw(st.sampled_from(["cut", "flip", "noise", "gone", "swapped"]))
    if kind == "cut":
        (folder / name).write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    elif kind == "flip":
        at = data.draw(st.integers(0, len(whole) - 1))
        (folder / name).write_bytes(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    elif kind == "noise":
        (folder / name).write_bytes(data.draw(st.binary(max_size=200)))
    elif kind == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / data.draw(st.sampled_from(names))).read_bytes())
    before = content(folder)
    try:
        there = open_memory(folder)
        there.store.statistics()
    except ReasonEditError:
        pass
    else:
        assert torch.equal(there.keys, memory.keys)
        assert there.edits == memory.edits
    assert content(folder) == before
    try:
        found = verify(folder)
        assert content(folder) == before
        repair(folder)
    except ReasonEditError:  # neither manifest nor journal is left
        assert content(folder) == before
    else:
        assert [e for e in open_memory(folder).edits if e not in memory.edits] == []
        assert isinstance(found.damages, list)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (self.path.touch, ())


def test_no_load_runs_foreign_code(tmp_path):
    import pickle

    trap = tmp_path / "was-here"
    payload = pickle.dumps(Trap(trap))
    pickle.loads(payload)
    assert trap.exists()  # it would work
    trap.unlink()
    book(tmp_path, 1).settle()
    for name in content(tmp_path):
        if name.startswith("pictures"):
            continue
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(payload)
        with pytest.raises(ReasonEditError):
            open_memory(tmp_path).store.statistics()
        (tmp_path / name).write_bytes(whole)
    with pytest.raises(ReasonEditError, match="in no format that is read here"):
        load_image(payload)
    assert not trap.exists()
    # Formats that Pillow hands to other programs are not opened: PostScript would go to Ghostscript.
    with pytest.raises(ReasonEditError, match="in no format that is read here"):
        load_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n")


def bomb(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that claims to be that large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_001, 15_000, 60_000])
def test_decompression_bombs_are_refused_before_they_are_unpacked(side, tmp_path):
    (tmp_path / "bomb.png").write_bytes(bomb(side, side))
    for source in (bomb(side, side), tmp_path / "bomb.png"):
        with pytest.raises(ReasonEditError, match=r"100 million is the limit|cannot be read"):
            load_image(source)
    with pytest.raises(ReasonEditError, match="100 million is the limit"):
        load_image(Image.new("1", (10_001, 10_000)))


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(257 << 20)  # a hole: it takes no room
    with pytest.raises(ReasonEditError, match="more than 256 MiB, which is the limit"):
        load_image(path)


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "a/../../secret.png", "link/secret.png", "x\0.png", "x" * 5000]
)
def test_paths_of_imported_images_stay_in_their_folder(tmp_path, name):
    folder = tmp_path / "import"
    folder.mkdir()
    picture(0).save(tmp_path / "secret.png")
    (folder / "link").symlink_to(tmp_path)
    if not name.startswith("link"):  # of one's own
        with pytest.raises(ReasonEditError, match=r"leads out of the folder|no image file|cannot be opened"):
            load_image(path_inside(folder, name))
    row = {"image": name, "question": "What?", "answer": "a", "reasoning": "b."}
    (folder / "edits.jsonl").write_text(json.dumps(row))
    with pytest.raises(ReasonEditError, match=r"Row 1 of .*(leads out of the folder|no image file|cannot be opened)"):
        list(read(folder / "edits.jsonl"))
    row |= {"image": "a.png", "evidence": [[name]]}
    picture(0).save(folder / "a.png")
    (folder / "edits.jsonl").write_text(json.dumps(row))
    with pytest.raises(ReasonEditError, match=r"Row 1 of .*(leads out of the folder|no image file|cannot be opened)"):
        list(read(folder / "edits.jsonl"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"question": "x" * (LONGEST_TEXT + 1)},
            f"question has {LONGEST_TEXT + 1} characters: {LONGEST_TEXT} is the limit",
        ),
        ({"answer": "x" * (LONGEST_TEXT + 1)}, f"answer has .* {LONGEST_TEXT} is the limit"),
        ({"reasoning": ["x" * (LONGEST_TEXT + 1)]}, f"reasoning has .* {LONGEST_TEXT} is the limit"),
        ({"reasoning": "It is. " * 10**6}, f"reasoning has .* {MOST_SENTENCES * LONGEST_TEXT} is the limit"),
        ({"reasoning": ["It is."] * (MOST_SENTENCES + 1)}, f"sentences: {MOST_SENTENCES} is the limit"),
        (
            {"choices": [str(i) for i in range(MOST_CHOICES + 1)], "answer": "1"},
            f"choices: {MOST_CHOICES} is the limit",
        ),
        ({"evidence": [[(0, 0, 1, 1)] * (MOST_REGIONS + 1)]}, f"regions as evidence: {MOST_REGIONS} is the limit"),
        ({"id": "x" * (LONGEST_NAME + 1)}, f"id has .* {LONGEST_NAME} is the limit"),
        ({"author": "x" * (LONGEST_NAME + 1)}, f"author has .* {LONGEST_NAME} is the limit"),
        ({"id": " "}, "id of the edit is empty"),
    ],
)
def test_sizes_are_capped_and_the_cap_is_said(values, said):
    given_ = {"question": "What?", "answer": "a", "reasoning": ["It is."], **values}
    with pytest.raises(ReasonEditError, match=said):
        Edit(picture(0), **given_)


def test_keys_that_are_no_numbers_are_refused():
    memory = EditMemory()
    edit = Edit(picture(0), "What?", "a", ["It is."], id="e")
    for key, radius in ((torch.tensor([1.0, float("nan")]), 1.0), (torch.tensor([1.0, 2.0]), float("inf"))):
        with pytest.raises(ReasonEditError, match="not finite"):
            memory.write(edit, [Entry(key, radius, Fact("f", "image", "e"))])
    assert not memory.edits


def test_a_picture_that_was_exchanged_is_noticed(tmp_path):
    memory = book(tmp_path, 1)
    name = memory.find("e00000").image
    other = io.BytesIO()
    picture(77).save(other, "PNG")
    (tmp_path / "pictures" / f"{name}.png").write_bytes(other.getvalue())
    with pytest.raises(DamagedError, match="the picture is not what was written"):
        open_memory(tmp_path).picture(name)
    assert Query.of(picture(0), "What?").question == "What?"


options = st.dictionaries(
    st.sampled_from(["batch_size", "interleave", "sample", "source", "check", "nothing"]), anything, max_size=3
)
configs = st.one_of(
    anything,
    st.fixed_dictionaries(
        {
            "data": st.one_of(
                anything,
                st.fixed_dictionaries(
                    {"class_path": st.just("reasonedit.EditStream"), "init_args": st.one_of(options, anything)}
                ),
            )
        }
    ),
)


@settings(max_examples=30)
@given(content_=configs)
def test_a_config_is_used_or_refused_with_its_name(tmp_path_factory, content_):
    path = tmp_path_factory.mktemp("config") / "run.yaml"
    path.write_text(yaml.safe_dump(content_, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    try:
        made = Config.read([str(path)]).instantiate("data")
    except ReasonEditError:
        return
    assert isinstance(made["data"], L.LightningDataModule)
