"""Rows of any shape: each is used, or named with its number and what is wrong with it."""

from __future__ import annotations

import base64
import io
import json
import math
from datetime import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import datasets
from helpers.tiny import picture

from reasonedit import ReasonEditError
from reasonedit.cli import main
from reasonedit.codebook import as_edit, row_of
from reasonedit.codebook.drafts import Draft
from reasonedit.data import rows as rows_module
from reasonedit.data.columns import as_choices, as_text, pick_choice
from reasonedit.data.editfile import EditFile
from reasonedit.data.exported import load_edits, read
from reasonedit.data.rows import read_rows

ROW = datasets.samples()[0]


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    picture(seed, 64).save(buffer, "PNG")
    return buffer.getvalue()


def lines(folder, *rows, name="rows.jsonl"):
    datasets.pictures(folder, ["pictures/0.png", "pictures/1.png"])
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def table(folder, *rows, schema=None):
    datasets.pictures(folder, ["pictures/0.png", "pictures/1.png"])
    pq.write_table(pa.Table.from_pylist(list(rows), schema), folder / "rows.parquet")
    return folder / "rows.parquet"


def only(path):
    """The one edit of a file, by both readers; they agree."""
    (_, sample), *more = EditFile(str(path)).read_samples(open_images=True)
    assert not more
    assert not isinstance(sample, str), sample
    edit = sample.to_edit()
    (other,) = load_edits(path, read(path))
    assert (edit.question, edit.answer, edit.reasoning, edit.choices) == (
        other.question,
        other.answer,
        other.reasoning,
        other.choices,
    )
    assert edit.image.tobytes() == other.image.tobytes()
    return edit


def refused(path) -> str:
    """Why the one row of a file is none; both readers and the command say so in words."""
    assert main(["data", "check", str(path)]) == 1
    with pytest.raises(ReasonEditError):
        list(read(path))
    ((_, why),) = EditFile(str(path)).read_samples(open_images=True)
    assert isinstance(why, str)
    return why


ENCODED = base64.b64encode(png()).decode()


@pytest.mark.parametrize(
    "image",
    [
        ENCODED,
        "\n".join(ENCODED[i : i + 76] for i in range(0, len(ENCODED), 76)),
        f"data:image/png;base64,{ENCODED}",
        f"DATA:;base64,{ENCODED}",
        "data:image/png," + "".join(f"%{b:02x}" for b in png()),
    ],
    ids=["base64", "in lines", "address", "capitals", "percents"],
)
def test_a_picture_may_be_text(image, tmp_path):
    path = lines(tmp_path, {**ROW, "image": image, "evidence": [[image], None]})
    edit = only(path)
    assert edit.image.tobytes() == picture(0, 64).tobytes()
    assert edit.evidence[0][0].tobytes() == picture(0, 64).tobytes()


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("data:image/png;base64,%%%", "without a picture in it, or one that was cut short"),
        ("data:nothing", "without a picture"),
        (f"data:image/png;base64,{ENCODED[:60]}", "cannot be read|damaged"),
        (f"data:image/svg+xml,<svg/>{'x' * 5000}", "in no format that is read here"),
        ("x" * 100_000, "cannot be opened|no image file"),
        ("../" * 3 + "etc/x.png", "leads out of the folder"),
        ("a\0b.png", "cannot be opened|NUL"),
        ([1, 2], "not list"),
        (True, "not bool"),
        ("", "not empty"),
    ],
)
def test_a_picture_that_is_none_is_refused(image, why, tmp_path):
    import re

    told = refused(lines(tmp_path, {**ROW, "image": image}))
    assert re.search(why, told)
    assert len(told) < 700


def test_bytes_of_a_parquet_file_in_every_way(tmp_path):
    for image in (png(), {"bytes": png(), "path": None}, {"bytes": None, "path": "pictures/0.png"}, "pictures/0.png"):
        assert only(table(tmp_path, {**ROW, "image": image})).image.tobytes() == picture(0, 64).tobytes()
    assert "'image' must be a path" in refused(table(tmp_path, {**ROW, "image": {"bytes": None, "path": None}}))
    assert "'image' must be a path" in refused(table(tmp_path, {**ROW, "image": b""}))


def test_an_empty_list_of_choices_is_an_open_question(tmp_path):
    assert only(lines(tmp_path, {**ROW, "choices": []})).choices is None
    assert only(table(tmp_path, {**ROW, "choices": []})).choices is None
    assert pick_choice([], 0) == (None, None)
    assert as_choices(np.array(["a", "b"], dtype=object)) == ["a", "b"]
    assert pick_choice(["a", "b"], 1.0) == (["a", "b"], "b")


@pytest.mark.parametrize(
    ("answer", "text"),
    [(2, "2"), (2.0, "2"), (2.5, "2.5"), (-1, "-1"), (1e15, "1000000000000000"), (0, "0"), ("2.0", "2.0")],
)
def test_a_number_counts_as_its_text(answer, text, tmp_path):
    assert only(lines(tmp_path, {**ROW, "answer": answer, "choices": None})).answer == text
    assert only(lines(tmp_path, {**ROW, "answer": answer, "choices": [answer, 77]})).choices == [text, "77"]
    assert only(table(tmp_path, {**ROW, "answer": answer, "choices": None})).answer == text
    edit = only(lines(tmp_path, {**ROW, "answer": answer, "answers": [answer, "x"], "choices": None, "id": answer}))
    assert (edit.id, edit.answers) == (text, [text, "x"])


def test_numbers_of_numpy_and_decimals_count_too():
    assert [as_text(n, "x") for n in (np.int64(3), np.float32(2), np.float64(0.5), Decimal("2.00"))] == [
        "3",
        "2",
        "0.5",
        "2",
    ]
    for odd in (True, np.bool_(True), math.nan, math.inf, [1], None, datetime(2026, 1, 1)):
        with pytest.raises(ReasonEditError, match="'x' must be text or a number"):
            as_text(odd, "x")


def test_true_is_no_answer(tmp_path):
    assert "'answer' must be text or a number, not true" in refused(lines(tmp_path, {**ROW, "answer": True}))
    assert "'choices' must be a list of texts" in refused(lines(tmp_path, {**ROW, "choices": [True, False]}))
    assert "'id' must be text or a number, not false" in refused(lines(tmp_path, {**ROW, "id": False}))


def test_ids_as_pandas_writes_them(tmp_path):
    pd = pytest.importorskip("pandas")
    datasets.pictures(tmp_path, ["pictures/0.png"])
    frame = pd.DataFrame([{**ROW, "id": 1}, {**ROW, "id": None, "question": "Other?"}, {**ROW, "id": 7}])
    frame["answer"] = frame["answer"].astype("category")
    frame.to_parquet(tmp_path / "rows.parquet")
    assert list(EditFile(str(tmp_path / "rows.parquet")).samples) == ["1", "2", "7"]  # the second has its row's number
    made = [edit.id for edit in read(tmp_path / "rows.parquet")]
    assert (made[0], made[2]) == ("1", "7")
    assert len(made[1]) == 32


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("question", pa.large_string()),
        ("question", pa.dictionary(pa.int32(), pa.string())),
        ("choices", pa.large_list(pa.large_string())),
        ("choices", pa.list_(pa.string(), 3)),
        ("reasoning", pa.large_list(pa.string())),
        ("answer", pa.dictionary(pa.int8(), pa.large_string())),
    ],
)
def test_columns_of_every_type_of_text(name, type_, tmp_path):
    plain = pa.Table.from_pylist([{**ROW, "image": "pictures/0.png"}])
    place = plain.column_names.index(name)
    datasets.pictures(tmp_path, ["pictures/0.png"])
    column = plain[name].dictionary_encode() if isinstance(type_, pa.DictionaryType) else plain[name].cast(type_)
    pq.write_table(plain.set_column(place, pa.field(name, column.type), column), tmp_path / "rows.parquet")
    edit = only(tmp_path / "rows.parquet")
    assert (edit.question, edit.answer, edit.choices) == (ROW["question"], ROW["answer"], ROW["choices"])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"question": datetime(2026, 1, 1)}, "'question' must be text, not datetime"),
        ({"answer": datetime(2026, 1, 1)}, "'answer' must be text or a number, not"),
        ({"id": datetime(2026, 1, 1)}, "'id' must be text or a number"),
        ({"choices": [{"text": "kettle"}, {"text": "boat"}]}, "'choices' must be a list of texts"),
        ({"reasoning": [{"text": "It is."}]}, "'reasoning' must be text or a list of sentences"),
        ({"boxes": [{"left": 0.0}]}, "'boxes' must hold"),
        ({"evidence": [["none.png"], None]}, "There is no image file"),
        ({"evidence": [[[0.0, 0.0, math.nan, 1.0]], None]}, "'evidence' must hold"),
        ({"evidence": [[None], None]}, "'evidence' must hold"),
        ({"reasoning": math.nan}, "'reasoning' is missing"),
        ({"answers": "kettle"}, "'answers' must be a list"),
    ],
)
def test_columns_of_other_types_are_refused(change, why, tmp_path):
    assert why in refused(table(tmp_path, {**ROW, "image": "pictures/0.png", **change}))


def test_boxes_as_structs_and_decimals(tmp_path):
    sides = {"left": 0.0, "top": 0.0, "right": 0.5, "bottom": 1.0}
    edit = only(table(tmp_path, {**ROW, "image": "pictures/0.png", "boxes": [[sides], None]}))
    assert edit.evidence == [[(0.0, 0.0, 0.5, 1.0)], []]
    half = [Decimal("0.00"), Decimal("0.00"), Decimal("0.50"), Decimal("1.00")]
    edit = only(table(tmp_path, {**ROW, "image": "pictures/0.png", "boxes": [[half], None]}))
    assert edit.evidence == [[(0.0, 0.0, 0.5, 1.0)], []]


@pytest.mark.parametrize("most", [1, 1 << 10, 1 << 28])
def test_a_parquet_file_is_the_same_in_batches_of_any_size(most, tmp_path, monkeypatch):
    made = pa.table({"id": [str(i) for i in range(200)], "question": ["What?" * 40] * 200})
    pq.write_table(made, tmp_path / "rows.parquet", row_group_size=70)
    monkeypatch.setattr("reasonedit.data.parquet._MOST_BATCH", most)
    found = list(read_rows(tmp_path / "rows.parquet"))
    assert [row.number for row in found] == list(range(1, 201))
    assert [row.values for row in found] == made.to_pylist()


def test_two_columns_of_a_name_are_refused(tmp_path):
    made = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["question", "question"])
    pq.write_table(made, tmp_path / "rows.parquet")
    with pytest.raises(ReasonEditError, match="two columns 'question'"):
        list(read_rows(tmp_path / "rows.parquet"))


TEXT = json.dumps({**ROW, "image": "pictures/0.png"})


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (TEXT[:-1] + ', "answer": "boat"}', "the key 'answer' appears twice in one object"),
        (TEXT[:-1] + ', "x": {"a": 1, "a": 2}}', "the key 'a' appears twice"),
        (TEXT[:-1] + ', "x": NaN}', "NaN is not a number of JSON"),
        (TEXT[:-1] + ', "x": [-Infinity]}', "-Infinity is not a number of JSON"),
        (TEXT[:-1] + ', "x": 1e999}', "the number 1e999 is too large"),
        (TEXT[:-1] + ', "x": ' + "9" * 5000 + "}", "a number of 5000 digits is too large"),
        (TEXT[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        (TEXT[:-1] + ', "choices": ' + "[" * 400 + "]" * 400 + "}", "appears twice|'choices' must be"),
        (TEXT[:-1], "not JSON"),
        ("null", "not an object with columns but NoneType"),
        ("3", "not an object with columns but int"),
        ('"x"', "not an object with columns but str"),
    ],
    ids=range(12),
)
def test_json_is_read_strictly(line, why, tmp_path):
    import re

    path = lines(tmp_path, line)
    assert re.search(why, refused(path))
    with pytest.raises(ReasonEditError, match=r"Row 1 of '.*rows\.jsonl'"):
        list(read(path))
    if "not an object" not in why:  # the same in a file that is read as a whole
        whole = lines(tmp_path, f"[{line}]", name="rows.json")
        if "choices" not in why:
            with pytest.raises(ReasonEditError, match=f"The data file '.*rows.json' cannot be used: .*{why}"):
                list(read_rows(whole))


def test_deep_nesting_in_a_column_is_no_traceback(tmp_path):
    row = {k: v for k, v in ROW.items() if k != "choices"}
    for depth, why in ((30, "'choices' must be a list of texts"), (600, "nested too deeply")):
        text = json.dumps(row)[:-1] + ', "choices": ' + "[" * depth + "]" * depth + "}"
        told = refused(lines(tmp_path, text))
        assert why in told
        assert len(told) < 300


@pytest.mark.parametrize("text", ["[" + "[]," * 2_100_000 + "[]]", "[" + "1," * 2_100_000 + "1]"])
def test_a_row_of_millions_of_values_is_refused_before_they_are_made(text, tmp_path):
    path = lines(tmp_path, TEXT[:-1] + ', "x": ' + text + "}")
    assert "more than 2,000,000 values" in refused(path)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_what_is_no_file_is_not_read(name, tmp_path):
    import os

    os.mkfifo(tmp_path / name)
    with pytest.raises(ReasonEditError, match=f"{name}' is a pipe or a device, not a file"):
        list(read_rows(tmp_path / name))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_other_encodings_are_named(encoding, name, tmp_path):
    (tmp_path / name).write_bytes(TEXT.encode(encoding))
    with pytest.raises(ReasonEditError, match="is UTF-16, or no text at all: save it as UTF-8"):
        list(read_rows(tmp_path / name))


def test_utf8_with_a_mark_and_other_line_ends(tmp_path):
    datasets.pictures(tmp_path, ["pictures/0.png"])
    for data in (b"\xef\xbb\xbf" + TEXT.encode(), TEXT.encode() + b"\r\n\r\n", TEXT.encode() + b"\n\n \n"):
        (tmp_path / "rows.jsonl").write_bytes(data)
        assert only(tmp_path / "rows.jsonl").answer == ROW["answer"]
    (tmp_path / "rows.json").write_bytes(b"\xef\xbb\xbf[\r\n" + TEXT.encode() + b"\r\n]")
    assert only(tmp_path / "rows.json").answer == ROW["answer"]
    (tmp_path / "rows.jsonl").write_bytes(TEXT.encode() + b'\n{"question": "caf\xe9"}\n' + TEXT.encode())
    found = list(read_rows(tmp_path / "rows.jsonl"))
    assert [bool(row.problem) for row in found] == [False, True, False]
    assert "not UTF-8 (byte 18 of the line)" in found[1].problem


def test_a_line_without_end_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "MOST_LINE", 2**20)
    path = lines(tmp_path, TEXT, '{"x": "' + "y" * 3 * 2**20 + '"}', TEXT.replace('"s0"', '"s1"'))
    found = list(read_rows(path))
    assert [(row.number, row.problem) for row in found] == [
        (1, ""),
        (2, "longer than 1 MiB: keep pictures in files of their own"),
        (3, ""),
    ]
    monkeypatch.setattr(rows_module, "MOST_JSON", 2**20)
    path = lines(tmp_path, '["' + "y" * 2**20 + '"]', name="rows.json")
    with pytest.raises(ReasonEditError, match="has more than 1 MiB: write it as JSON Lines"):
        list(read_rows(path))


def test_a_time_that_python_cannot_hold_is_a_problem_of_its_row(tmp_path):
    plain = pa.Table.from_pylist([{**ROW, "id": str(i), "question": f"{i}?"} for i in range(3)])
    times = pa.array([0, 10**16, 0], pa.timestamp("ms"))
    datasets.pictures(tmp_path, ["pictures/0.png"])
    pq.write_table(plain.append_column("time", times), tmp_path / "rows.parquet")
    found = list(EditFile(str(tmp_path / "rows.parquet")).read_samples())
    assert [isinstance(sample, str) for _, sample in found] == [False, True, False]
    assert "not readable" in found[1][1]
    assert found[0][1].time == "1970-01-01T00:00:00"


@pytest.mark.parametrize("name", ["x.csv", "x.TSV", "x.xlsx", "x.ods"])
def test_tables_are_refused_in_words(name, tmp_path, capsys):
    (tmp_path / name).write_text("a,b\n1,2\n")
    assert main(["data", "check", str(tmp_path / name)]) == 1
    assert "write it as one of these, for instance with pandas' to_parquet" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "x.jsonl").write_bytes(b"\x1f\x8b\x08\x00")
    assert main(["data", "check", str(tmp_path / "x.jsonl")]) == 1


def test_what_is_exported_is_read_by_every_reader(tmp_path, capsys):
    crop = picture(1, 64).crop((0, 0, 20, 20))
    crop.save(tmp_path / "crop.png")
    path = lines(
        tmp_path,
        {
            **ROW,
            "image": "pictures/0.png",
            "reasoning": ["One.", "Two.", "Three."],
            "evidence": [[[0, 0, 0.5, 0.5], "crop.png"], None, []],
            "author": "Ada",
            "time": "2026-01-01T00:00:00+00:00",
            "answers": ["kettle", "a pot"],
            "choices": None,
        },
    )
    first = only(path)
    assert (first.author, first.time, first.answers) == ("Ada", "2026-01-01T00:00:00+00:00", ["kettle", "a pot"])
    # As a codebook stores it, and writes it again.
    draft = Draft.of(first, [])
    (tmp_path / "again").mkdir()
    for name, image in draft.pictures.items():
        image.save(tmp_path / "again" / f"{name}.png")
    written_row = row_of(draft.edit, "again")
    again = tmp_path / "again.jsonl"
    again.write_text(json.dumps(written_row) + "\n")
    second = only(again)
    stored = as_edit(draft.edit, draft.pictures)
    for edit in (second, stored):
        assert edit.evidence[0][0] == (0, 0, 0.5, 0.5)
        assert edit.evidence[0][1].tobytes() == crop.tobytes()
        assert edit.evidence[1:] == [[], []]
        assert (edit.id, edit.author, edit.time, edit.answers) == ("s0", first.author, first.time, first.answers)
    assert main(["data", "check", str(again)]) == 0
    assert "is not used" not in capsys.readouterr().out
    # Two columns for one thing: only where they say the same.
    lines(tmp_path, {**written_row, "boxes": written_row["evidence"]}, name="again.jsonl")
    assert len(only(again).evidence[0]) == 2
    lines(tmp_path, {**written_row, "boxes": [None] * 3}, name="again.jsonl")
    assert "'evidence' and 'boxes' say two things" in refused(again)
    # A misspelt column is named by both.
    lines(tmp_path, {**written_row, "evidense": None}, name="again.jsonl")
    with pytest.raises(ReasonEditError, match="there is a column 'evidense'"):
        list(read(again))


def test_ids_and_authors_that_no_codebook_keeps_are_refused(tmp_path):
    assert "The id of the edit is empty" in refused(lines(tmp_path, {**ROW, "id": " "}))
    assert "The id has 300 characters" in refused(lines(tmp_path, {**ROW, "id": "x" * 300}))
    assert "'author' must be text" in refused(lines(tmp_path, {**ROW, "author": ["Ada"]}))
