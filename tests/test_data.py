"""Data sets: what is read of them, what is wrong with them, and the base pass that finds the edits."""

from __future__ import annotations

import json

import pytest
from helpers import datasets
from helpers.tiny import picture

from reasonedit import Edit, EditStream, ReasonEditError
from reasonedit.cli import main
from reasonedit.data.answers import Answers
from reasonedit.data.aokvqa import AOKVQA
from reasonedit.data.built_probes import ProbeLine, probe_file
from reasonedit.data.editfile import EditFile
from reasonedit.data.fvqa import FVQA
from reasonedit.data.probe_counts import count_probes
from reasonedit.data.rationale_vqa import RationaleVQA
from reasonedit.data.sample import BLANK
from reasonedit.types import Query
from reasonedit.vlm import Generation, Reply

pytestmark = pytest.mark.usefixtures("hash_encoder")


def pool_of(kind, folder):
    """The same eight samples, in each schema."""
    if kind == "jsonl":
        return EditFile(str(datasets.own(folder)))
    if kind == "parquet":
        return EditFile(str(datasets.own_parquet(folder)))
    if kind == "aokvqa":
        return AOKVQA(str(datasets.aokvqa(folder)), str(folder))
    if kind == "fvqa":
        return FVQA(str(datasets.fvqa(folder)))
    write = datasets.rationale_vqa_published if kind == "published" else datasets.rationale_vqa
    return RationaleVQA("AOKVQA", str(folder / "coco"), str(write(folder)))


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "aokvqa", "fvqa", "rationalevqa", "published"])
def test_every_schema_gives_the_same_samples(kind, tmp_path):
    pool = pool_of(kind, tmp_path)
    edits = {e.id: e for e in pool.candidates()}
    assert pool.edits == len(edits) == 8
    for i, row in enumerate(datasets.samples()):
        edit = edits[row["id"]]
        assert (edit.question, edit.answer) == (row["question"], row["answer"])
        assert edit.choices == (None if kind == "fvqa" else row["choices"])
        assert edit.image.size == (64, 64)
        if kind in ("jsonl", "parquet"):
            assert list(edit.image.getdata()) == list(picture(i, 64).getdata())
        chain = [f"There is number {i}.", "It is round."] if i < 7 else row["reasoning"]
        reasoning = {
            "fvqa": [f"A {row['answer']} is round."],
            "rationalevqa": chain,
            "published": chain,
        }.get(kind, row["reasoning"])
        assert edit.reasoning == reasoning


def test_the_order_is_that_of_the_seed(tmp_path):
    path = str(datasets.own(tmp_path))
    one, two, same = ([e.id for e in EditFile(path, seed=s).candidates()] for s in (0, 1, 0))
    assert one == same
    assert one != two
    assert sorted(one) == sorted(two)


def test_direct_answers_and_several_rationales_of_aokvqa(tmp_path):
    folder = str(datasets.aokvqa(tmp_path, "train"))
    edit = {e.id: e for e in AOKVQA(folder, folder, "train", False, rationales=3).candidates()}["s1"]
    assert (edit.answer, edit.choices) == ("anchor", None)
    assert edit.reasoning == ["Number 1 is round.", "A anchor is round.", "It is old.", "It is so."]
    with pytest.raises(ReasonEditError, match="its answers are not published"):
        AOKVQA(folder, folder, "test")


@pytest.mark.parametrize("kind", ["rationalevqa", "published"])
def test_who_has_no_chain_of_thought_is_counted(kind, tmp_path, caplog, capsys):
    pool = pool_of(kind, tmp_path)
    assert len(pool.samples) == 8
    assert "1 of 8 samples have no chain of thought" in caplog.text
    chains = next(tmp_path.rglob("cot*.json" if kind == "rationalevqa" else "r_gen/cot/*.parquet"))
    if kind == "published":
        chains = chains.rename(chains.with_name("AOKVQA.parquet"))  # in any case
        assert "no chain" not in caplog.text.replace("1 of 8 samples have no chain", "")
        assert len(RationaleVQA("AOKVQA", str(tmp_path / "coco"), str(tmp_path)).samples["s0"].reasoning) == 2
    chains.unlink()
    caplog.clear()
    assert (
        RationaleVQA("AOKVQA", str(tmp_path / "coco"), str(tmp_path)).samples["s0"].reasoning[0] == "Number 0 is round."
    )
    assert "There are no chains of thought in" in caplog.text
    assert "all 8 samples have their rationale" in caplog.text
    check = ["data", "check", str(tmp_path), "--format", "rationalevqa", "--images", str(tmp_path / "coco")]
    assert main(check) == (1 if kind == "published" else 0)  # two rows of its R-Gen have no question
    assert "There are no chains of thought in" in capsys.readouterr().out


def test_chains_that_cannot_be_used_are_counted(tmp_path, caplog):
    folder = datasets.rationale_vqa(tmp_path)
    chains = {"s0": "It is so.", "s1": None, "s2": 3, "s3": [], "s4": ["It is."], "s5": "..."}
    (folder / "AOKVQA" / "r_gen" / "cot.json").write_text(json.dumps(chains))
    assert RationaleVQA("AOKVQA", str(folder / "coco"), str(folder)).samples["s4"].reasoning == ["It is."]
    assert "6 of 8 samples have no chain of thought" in caplog.text
    assert "4 rows of the chains of thought cannot be used (the first, row 2 of 'AOKVQA/r_gen/cot.json': 'reason'" in (
        caplog.text
    )


CHOICES = [
    ({"choices": "a cup; tea"}, ["a cup", "tea"], "tea"),
    ({"choices": "a cup;tea;"}, ["a cup", "tea"], "tea"),
    ({"choices": "(A) a cup\n(B) tea"}, ["a cup", "tea"], "tea"),
    ({"choices": "['a cup', 'tea']"}, ["a cup", "tea"], "tea"),
    ({"choices": ["a cup", "tea"], "idx_choices": "(A) a cup\n(B) tea"}, ["a cup", "tea"], "tea"),
    ({"choices": "a; cup; tea", "idx_choices": "(A) a; cup\n(B) tea"}, ["a; cup", "tea"], "tea"),
    ({"choices": None, "idx_choices": "(A) a cup\n(B) tea"}, ["a cup", "tea"], "tea"),
    ({"choices": "a cup; tea", "answer": "TEA "}, ["a cup", "tea"], "tea"),
    ({"choices": "a cup; tea", "answer": "B"}, ["a cup", "tea"], "tea"),
    ({"choices": "a cup; tea", "answer": "(B) tea"}, ["a cup", "tea"], "tea"),
    ({"choices": "a cup; tea", "answer": None, "idx_choices": 1.0}, ["a cup", "tea"], "tea"),
    ({"choices": "a cup; tea", "answer": "", "idx_choices": "1"}, ["a cup", "tea"], "tea"),
    ({"choices": "a cup; tea", "answer": None, "idx_choices": "b"}, ["a cup", "tea"], "tea"),
    ({"choices": "2; 3", "answer": 2}, ["2", "3"], "2"),
    ({"choices": ""}, None, "tea"),
    ({"choices": [], "idx_choices": ""}, None, "tea"),
    ({"choices": "a; cup; tea", "idx_choices": "(A) a cup\n(B) tea"}, "3 and 2 choices", None),
    ({"choices": "a cup; tea", "idx_choices": "(A) a cup\n(B) tee"}, "do not say the same", None),
    (
        {"choices": "a cup; tea", "answer": "tea", "idx_choices": 0},
        "'answer' is 'tea', but 'idx_choices' names 'a cup'",
        0,
    ),
    ({"choices": "a cup; tea", "answer": None, "idx_choices": 2}, "names choice 2", None),
    ({"choices": "a cup; tea", "idx_choices": "tea"}, "neither lettered lines nor the number", None),
    ({"choices": "a cup; tea", "answer": "milk"}, "is not among the choices", None),
    ({"choices": "tea"}, "at least two choices", None),
    ({"choices": "a cup; tea", "answer": None}, "'answer' is missing", None),
]


@pytest.mark.parametrize(("change", "choices", "answer"), CHOICES)
def test_choices_in_one_text(change, choices, answer, tmp_path):
    folder = datasets.rationale_vqa(tmp_path)
    path = folder / "AOKVQA" / "samples.jsonl"
    row = json.loads(path.read_text().splitlines()[0]) | {"answer": "tea", "idx_choices": None} | change
    path.write_text(json.dumps(row))
    found = [sample for _, sample in RationaleVQA("AOKVQA", str(folder / "coco"), str(folder)).read_samples()]
    assert len(found) == 1
    if isinstance(choices, str):
        assert choices in found[0]
        assert found[0].startswith("'AOKVQA/samples.jsonl': ")
    else:
        assert (found[0].choices, found[0].answer) == (choices, answer)


def test_published_probes_are_read_without_a_language_model(tmp_path, caplog):
    pool = pool_of("published", tmp_path)
    edits = [edit for edit in pool.candidates() if edit.id in ("s0", "s1", "s3")]
    caplog.clear()
    probes = pool.probes(edits)
    of = {(p.edit_id, p.group): [q for q in probes if (q.edit_id, q.group) == (p.edit_id, p.group)] for p in probes}
    by_id = {edit.id: edit for edit in edits}
    for name in ("s0", "s1", "s3"):
        paraphrased = of[name, "t_gen"]
        assert [p.query.question for p in paraphrased] == [f"{i}. {by_id[name].question}" for i in range(5)]
        assert all(p.query.image.tobytes() == by_id[name].image.tobytes() for p in paraphrased)
        assert {p.answer for p in paraphrased} == {by_id[name].answer}
        assert all(p.query.choices == by_id[name].choices for p in paraphrased)
    first, second = of["s0", "r_gen"]
    assert (first.answer, sorted(first.query.choices)) == ("kettle 1", ["a", "b", "c", "kettle 1"])
    assert list(first.query.image.getdata()) == list(picture(0, 64).getdata())
    assert second.query.image.tobytes() == by_id["s0"].image.tobytes()
    assert ("s3", "r_gen") not in of  # its questions are empty
    assert [len(of[name, "coe_gen"]) for name in ("s0", "s1")] == [2, 2]
    assert of["s0", "coe_gen"][0].query.question == by_id["s0"].question
    assert ("s3", "coe_gen") not in of  # no picture was painted of its errors
    assert len({p.query.id for p in probes}) == len(probes)
    told = caplog.text
    assert "R-Gen has 4 probes; asked about the edit's own picture, as no painted one is there: 3; " in told
    assert "rows that cannot be used: 2 (the first, row 7 of 'r_gen/qa/aokvqa.parquet': 'question' is missing" in told
    assert "CoE-Gen has 4 probes; rows left out, as no picture was painted of them: 1; edits without one: 1." in told
    assert "T-Gen" not in told
    again = pool_of("published", tmp_path / "again").probes(edits)
    assert [p.query.choices for p in again] == [p.query.choices for p in probes]
    # The right answer is not always the first of its choices, as it is in the file.
    everything = pool.probes(list(pool.candidates()))
    assert len({p.query.choices.index(p.answer) for p in everything if p.group == "r_gen"}) > 1


def test_published_probes_in_plain_columns(tmp_path, caplog):
    folder = datasets.rationale_vqa(tmp_path)
    datasets.pictures(folder, ["more/x.png"])
    files = {
        "t_gen/val.jsonl": [{"uid": "s1", "question": "Which is it?"}, {"uid": "s1", "question": 7}, {"question": "?"}],
        "t_gen/fvqa.jsonl": [{"uid": "s1", "question": "Not of this subset?"}],
        "r_gen/qa/aokvqa.jsonl": [
            {"uid": "s1", "question": "A?", "answer": "x", "choices": ["y", "x"], "image_path": "data/more/x.png"},
            {"uid": "s1", "question": "B?", "answer": 2},
            {"uid": "s1", "question": "C?", "answer": "x", "image_path": "more/none.png"},
            {"uid": "s1", "question": "D?"},
            {"uid": "nobody", "question": "E?", "answer": "x"},
        ],
        "coe_gen/aokvqa.jsonl": [{"uid": "s1", "image_path": "more/x.png"}, {"uid": "s1"}],
    }
    for name, rows in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    pool = RationaleVQA("AOKVQA", str(folder / "coco"), str(folder))
    edit = pool.samples["s1"].to_edit()
    probes = {p.query.question: p for p in pool.probes([edit])}
    assert probes["Which is it?"].group == "t_gen"
    assert (probes["A?"].answer, probes["A?"].query.choices) == ("x", ["y", "x"])
    assert probes["A?"].query.image.tobytes() == picture(0, 64).tobytes()
    assert (probes["B?"].answer, probes["B?"].query.choices) == ("2", None)
    assert {q for q, p in probes.items() if p.group != "word_loc"} == {edit.question, "Which is it?", "A?", "B?"}
    for said in (
        "rows that cannot be used: 2 (the first, row 2 of 't_gen/val.jsonl'",
        "belong to no sample: 1",
        "none.png",
    ):
        assert said in caplog.text
    blank = pool.samples["s1"].to_edit(lambda _: BLANK)
    assert [(number, why.partition(":")[0]) for number, why in pool.unusable_probes([blank])] == [
        (2, "'t_gen/val.jsonl'"),
        (3, "'t_gen/val.jsonl'"),
        (3, "'r_gen/qa/aokvqa.jsonl'"),
        (4, "'r_gen/qa/aokvqa.jsonl'"),
    ]
    # Errors are those of a model: several are never mixed.
    for name in ("aokvqa_big", "small_aokvqa"):
        (folder / "coe_gen" / f"{name}.jsonl").write_text(json.dumps({"uid": "s1", "image_path": "more/x.png"}))
    (folder / "coe_gen" / "aokvqa.jsonl").unlink()
    caplog.clear()
    assert "coe_gen" not in {p.group for p in pool_again(folder).probes([edit])}
    assert "they are about several models (big, small) and coe_model names none: 2" in caplog.text
    assert [p.group for p in pool_again(folder, coe_model="Big").probes([edit])].count("coe_gen") == 1
    # What build-probes made takes their place.
    (folder / "built").mkdir()
    probe_file(folder / "built", "t_gen", 0).write_text("")
    assert {p.group for p in pool_again(folder, probes=str(folder / "built")).probes([edit])} == {"rel", "word_loc"}


def test_tables_of_a_further_subset_are_not_taken_for_ones_own(tmp_path):
    """The authors' loader knows a third one, whose samples may be numbered as those of another."""
    folder = datasets.rationale_vqa(tmp_path)
    (folder / "AOKVQA" / "r_gen" / "cot.json").unlink()
    tables = {
        "t_gen/aokvqa": {"uid": "s1", "question": "Which is it?"},
        "t_gen/simulation": {"uid": "s1", "question": "Which shape is it?"},
        "r_gen/cot/aokvqa": {"uid": "s2", "reason": "It is a thing."},
        "r_gen/cot/simulation": {"uid": "s1", "reason": "It is a shape."},
    }
    for name, row in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jsonl").write_text(json.dumps(row))
    samples = pool_again(folder).samples
    assert [samples[name].reasoning[0] for name in ("s1", "s2")] == ["Number 1 is round.", "It is a thing."]
    probes = pool_again(folder).probes([samples["s1"].to_edit()])
    assert [p.query.question for p in probes if p.group == "t_gen"] == ["Which is it?"]


def test_a_list_that_a_table_has_as_text_is_not_asked(tmp_path, caplog):
    """As pandas writes a column of lists into a CSV file."""
    folder = datasets.rationale_vqa(tmp_path)
    (folder / "t_gen").mkdir()
    rows = ["uid,variants", "s1,\"['What is it?'\n 'Which is it?']\"", 's2,"1. What is that?\n2. Which is that?"']
    (folder / "t_gen" / "aokvqa.csv").write_text("\n".join(rows))
    pool = pool_again(folder)
    probes = pool.probes([pool.samples[name].to_edit() for name in ("s1", "s2")])
    asked = [(p.edit_id, p.query.question) for p in probes if p.group == "t_gen"]
    assert asked == [("s2", "What is that?"), ("s2", "Which is that?")]
    assert "rows that cannot be used: 1 (the first, row 1 of 't_gen/aokvqa.csv': 'variants' is a list" in caplog.text


def test_folders_of_tables_may_be_links(tmp_path):
    pool = pool_of("published", tmp_path / "there")
    root = tmp_path / "here"
    root.mkdir()
    for name in ("AOKVQA", "t_gen"):
        (root / name).symlink_to(tmp_path / "there" / name)
    (tmp_path / "there" / "AOKVQA" / "round").symlink_to(root)  # without end, if it were followed
    linked = RationaleVQA("AOKVQA", str(tmp_path / "there" / "coco"), str(root))
    assert list(linked.samples) == list(pool.samples)
    edits = list(pool.candidates())
    of_links, of_folders = ([p.query.id for p in x.probes(edits) if p.group == "t_gen"] for x in (linked, pool))
    assert of_links == of_folders
    assert of_folders


def test_painted_pictures_of_a_sample_are_asked_about_once(tmp_path, caplog):
    """As the authors' loader does, which goes by the folders of pictures: a table has a row for each of the errors."""
    folder = datasets.rationale_vqa(tmp_path)
    datasets.pictures(folder, [f"coe_gen_merge/image/aokvqa/small/s1/scenario_{i}.png" for i in range(3)])
    rows = [{"uid": "s1", "indices": indices, "scenario_1": "A beach."} for indices in ("0", "1", "0,1")]
    for table in ("lite", "full"):
        (folder / "coe_gen" / table).mkdir(parents=True)
        path = folder / "coe_gen" / table / "small_aokvqa.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pool = pool_again(folder)
    edit = pool.samples["s1"].to_edit()
    for _ in range(2):
        caplog.clear()
        asked = [p for p in pool.probes([edit]) if p.group == "coe_gen"]
        assert [p.query.image.tobytes() for p in asked] == [picture(i, 64).tobytes() for i in range(3)]
        assert "CoE-Gen" not in caplog.text


def pool_again(folder, **options):
    return RationaleVQA("AOKVQA", str(folder / "coco"), str(folder), **options)


def test_boxes_go_with_their_sentences(tmp_path):
    path = datasets.own(tmp_path, boxes=[[[0, 0, 0.5, 0.5]], None])
    edit = next(iter(EditFile(str(path)).candidates()))
    assert edit.evidence == [[(0, 0, 0.5, 0.5)], []]


BAD = [
    ('{"image": "pictures/0.png", "question": "What?"', r"not JSON"),
    ("[1, 2]", "not an object with columns but list"),
    ({"image": None}, "'image' is missing"),
    ({"image": 3}, "'image' must be a path, or in a Parquet file bytes, not int"),
    ({"image": "https://x.org/y.png"}, "'image' is an address"),
    ({"image": "x[/b].png"}, r"There is no image file '.*x\[/b\]\.png'"),
    ({"image": None, "answer": None}, "'image' and 'answer' are missing"),
    ({"image": "pictures/none.png"}, r"There is no image file '.*none\.png'"),
    ({"question": " "}, "'question' is missing or empty"),
    ({"question": 7}, "'question' must be text, not int"),
    ({"answer": None}, "'answer' is missing"),
    ({"answer": "a whale"}, "is not among the choices"),
    ({"reasoning": "..."}, "has no words"),
    ({"reasoning": None}, "'reasoning' is missing"),
    ({"reasoning": {"a": 1}}, "'reasoning' must be text or a list of sentences"),
    ({"reasoning": "It is \0."}, "NUL"),
    ({"question": "What is \ud83d?"}, "broken character"),
    ({"choices": ["kettle", "Kettle"]}, "The choice 'kettle' appears twice"),
    ({"id": ["x"]}, "'id' must be text or a number"),
    ({"choices": ["kettle"]}, "at least two choices"),
    ({"choices": "kettle, boat"}, "'choices' must be a list"),
    ({"boxes": [[[0, 0, 2, 1]], None]}, "reaches outside the image"),
    ({"boxes": [[[0, 0, 1, 1]]]}, "for 1 sentences but the reasoning has 2"),
    ({"boxes": [[0, 0, 1, 1]]}, "'boxes' must hold"),
    ({"id": "s1"}, r"Its id 's1' is that of row 1 too"),
]


@pytest.mark.parametrize(("change", "reason"), BAD, ids=[r for _, r in BAD])
def test_a_bad_row_is_named_with_its_number(change, reason, tmp_path, capsys):
    path = datasets.own(tmp_path)
    good = datasets.samples()
    line = change if isinstance(change, str) else json.dumps({**good[0], "id": "bad", **change})
    path.write_text("\n".join([json.dumps(good[1]), "", line, json.dumps(good[2])]))
    with pytest.raises(ReasonEditError, match=f"Row 3 of .*corrections.jsonl' cannot be used: .*{reason}"):
        EditStream(EditFile(str(path)))
    assert main(["data", "check", str(path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "3 rows, 2 of them good, 1 bad" in said


def test_the_check_opens_images_and_names_columns_that_are_not_used(tmp_path, capsys):
    path = datasets.own(tmp_path, resoning="x")
    (tmp_path / "pictures" / "5.png").write_bytes(b"not an image")
    assert main(["data", "check", str(path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "6 The image" in said
    assert "is in no format that is read here" in said
    assert "The column 'resoning' (8 rows) is not used: did you mean 'reasoning'?" in said
    assert "8 rows, 7 of them good, 1 bad" in said


@pytest.mark.parametrize("kind", ["aokvqa", "fvqa", "rationalevqa"])
def test_published_data_sets_are_checked_too(kind, tmp_path, capsys):
    pool_of(kind, tmp_path)
    images = ["--images", str(tmp_path / "coco")] if kind == "rationalevqa" else []
    assert main(["data", "check", str(tmp_path), "--format", kind, *images]) == 0
    assert "8 rows, 8 of them good, 0 bad" in capsys.readouterr().out


def test_files_that_are_no_data_set_are_refused(tmp_path):
    with pytest.raises(ReasonEditError, match="There is no data file"):
        EditStream(EditFile(str(tmp_path / "none.jsonl")))
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ReasonEditError, match="is a folder: name the data file"):
        EditStream(EditFile(str(tmp_path)))
    (tmp_path / "lines.json").write_text("{}\n{}\n")
    with pytest.raises(ReasonEditError, match=r"JSON Lines go into a file that ends in \.jsonl"):
        EditStream(EditFile(str(tmp_path / "lines.json")))
    (tmp_path / "x.json").write_text('{"data": [1]}')
    with pytest.raises(ReasonEditError, match=r"must hold a list of rows, or an object of rows by their names\.$"):
        EditStream(EditFile(str(tmp_path / "x.json")))
    with pytest.raises(ReasonEditError, match="There is no folder of images"):
        EditStream(EditFile(str(tmp_path / "x.json"), images=str(tmp_path / "none")))
    with pytest.raises(ReasonEditError, match=r"must end in \.jsonl, \.json, \.parquet"):
        EditStream(EditFile(str(tmp_path / "x.txt")))
    (tmp_path / "x.parquet").write_text("x")
    with pytest.raises(ReasonEditError, match="cannot be read"):
        EditStream(EditFile(str(tmp_path / "x.parquet")))
    (tmp_path / "x.jsonl").write_text("\n")
    with pytest.raises(ReasonEditError, match="There is no sample"):
        EditStream(EditFile(str(tmp_path / "x.jsonl")))
    with pytest.raises(ReasonEditError, match="no subset 'OKVQA'"):
        RationaleVQA("OKVQA", "x")
    with pytest.raises(ReasonEditError, match="There is no data set 'nobody/nothing'"):
        EditStream(RationaleVQA("FVQA", str(tmp_path), "nobody/nothing"))


def test_rows_of_published_data_that_cannot_be_used_are_left_out_loudly(tmp_path, caplog):
    pool = pool_of("aokvqa", tmp_path)
    path = tmp_path / "aokvqa_v1p0_val.json"
    rows = json.loads(path.read_text())
    rows[2]["rationales"] = []
    rows[5]["choices"] = ["a", "a"]
    path.write_text(json.dumps(rows))
    assert len(pool.samples) == 6
    assert pool.edits == 6
    assert "2 of the 8 rows of" in caplog.text
    assert "the first is row 3: 'rationales' is missing" in caplog.text
    path.write_text(json.dumps([rows[2]]))
    with pytest.raises(ReasonEditError, match=r"There is no sample in .* that can be used: row 1: 'rationales'"):
        EditStream(AOKVQA(str(tmp_path), str(tmp_path)))


def test_a_damaged_picture_of_published_data_is_left_out_and_one_of_ones_own_file_ends_the_run(tmp_path, caplog):
    pool = FVQA(str(datasets.fvqa(tmp_path)))
    whole = [edit.id for edit in pool.candidates()]
    picture_file = tmp_path / "images" / "3.jpg"
    picture_file.write_bytes(picture_file.read_bytes()[:300])
    pool = FVQA(str(tmp_path))
    edits = list(pool.candidates())
    assert [edit.id for edit in edits] == [name for name in whole if name != "s3"]
    assert len(list(pool.candidates())) == 7
    assert len(caplog.records) == 1
    assert f"The sample 's3' of {pool.name} is left out: The image '{picture_file}' cannot be read" in caplog.text
    probes = pool.probes(edits[:4])
    assert {p.group for p in probes} == {"rel", "word_loc"}
    counts = count_probes(pool, [edit.id for edit in edits[:4]], probes, probes)
    # Four samples ask for word Loc, the damaged one among them, so that it is among the nearest three of some edits.
    missing = 4 * 3 - sum(p.group == "word_loc" for p in probes)
    assert counts["word_loc"].not_made == missing > 0
    own = datasets.own(tmp_path / "own")
    picture_file = tmp_path / "own" / "pictures" / "3.png"
    picture_file.write_bytes(picture_file.read_bytes()[:100])
    with pytest.raises(ReasonEditError, match=r"3\.png' is damaged"):
        list(EditFile(str(own)).candidates())


def test_rows_that_ask_the_same_are_named(tmp_path, capsys):
    path = datasets.own(tmp_path, 3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[2] |= {"image": rows[0]["image"], "question": rows[0]["question"]}
    path.write_text("\n".join(map(json.dumps, rows)))
    assert main(["data", "check", str(path)]) == 0
    assert "Rows 1, 3 ask the same of the same picture, with different answers." in capsys.readouterr().out


# ---- the base pass


class Knows:
    """A model that knows every second answer, and counts what it is asked."""

    def __init__(self, vlm, known):
        self.vlm, self.known, self.asked = vlm, known, 0

    def __getattr__(self, name):
        return getattr(self.vlm, name)

    def reply(self, vision, questions, choices=None, generation=None):
        self.asked += len(questions)
        return [Reply(self.known.get(q, "no idea")) for q in questions]


def test_edits_are_what_the_model_gets_wrong_and_locality_what_it_gets_right(tiny_vlm, tmp_path, caplog):
    rows = datasets.samples()
    known = {r["question"]: r["answer"] for r in rows[::2]}
    path = datasets.own(tmp_path, choices=None)
    model = Knows(tiny_vlm, known)
    base = EditStream(EditFile(str(path), locality=2), batch_size=3).base_pass(model)
    assert {e.id for e in base.edits} == {"s1", "s3", "s5", "s7"}
    groups = [p.group for p in base.probes]
    assert {g: groups.count(g) for g in groups} == {"rel": 4, "loc": 8, "hard_loc": 8, "word_loc": 8}
    assert base.metrics["rel"][0] == 0
    assert base.metrics["loc"] == (1, 8)
    assert {p.query.question for p in base.probes if p.group != "rel"} <= set(known)
    # Of the hard ones the words are the most similar, as the encoder has it.
    from helpers.tiny import HashEncoder

    rights = list(known)
    for edit in base.edits:
        near = (HashEncoder().encode([edit.question]) @ HashEncoder().encode(rights).T)[0]
        best = near.topk(2).values.sum()
        mine = [p.query.question for p in base.probes if p.group == "hard_loc" and p.edit_id == edit.id]
        assert float(sum(near[rights.index(q)] for q in mine)) == pytest.approx(float(best))


def test_related_samples_are_no_locality(tiny_vlm, tmp_path):
    rows = datasets.samples()
    for row in rows:
        row.pop("choices")
    rows[2]["image"] = rows[1]["image"]  # right, but an edit's image
    rows[4]["question"] = rows[3]["question"].upper()  # right, but an edit's question
    path = datasets.own(tmp_path)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    known = {r["question"]: r["answer"] for r in rows[::2]}
    base = EditStream(EditFile(str(path), locality=5)).base_pass(Knows(tiny_vlm, known))
    assert {p.query.id.split("-")[-1] for p in base.probes if p.group == "loc"} == {"s0", "s6"}


def test_the_base_pass_is_asked_once_for_all_runs(tiny_vlm, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.data.answers.cache_folder", lambda: tmp_path / "cache")
    timed = []
    monkeypatch.setattr(Answers, "time", lambda self, queries: timed.append(len(queries)) or 5.0)
    path = str(datasets.own(tmp_path, choices=None))
    model = Knows(tiny_vlm, {})
    first = EditStream(EditFile(path)).base_pass(model)
    asked = model.asked
    assert asked == 8  # the edits; their reliability asks the same again
    second = EditStream(EditFile(path)).base_pass(model)
    assert model.asked == asked
    assert second.answers == first.answers
    assert second.ms_per_query == 5.0  # all answers were known: one batch is asked again, for its time alone
    assert timed
    EditStream(EditFile(path)).base_pass(model, Generation(3))
    assert model.asked == 2 * asked


def test_times_are_those_of_this_run(tiny_vlm, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.data.answers.cache_folder", lambda: tmp_path)
    model = Knows(tiny_vlm, {"What?": "a"})
    queries = [Query(picture(0), "What?"), Query(picture(1), "What?")]
    (known,) = Answers(model).ask(queries[:1])[1]
    assert known is not None
    assert known > 0
    answers = Answers(model)
    first, second = answers.ask(queries)[1]
    assert first is None  # from the cache: it took no time that says anything
    assert second is not None
    asked = model.asked
    assert answers.time(queries) > 0
    assert model.asked == asked + 2
    assert answers.ask(queries)[1] == [None, None]


def test_a_cache_of_answers_that_breaks_meanwhile_is_named(tiny_vlm, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.data.answers.cache_folder", lambda: tmp_path)
    answers = Answers(Knows(tiny_vlm, {"What?": "a"}))
    answers.ask([Query(picture(0), "What?")])
    (file,) = (tmp_path / "answers").glob("*.sqlite")
    file.write_bytes(b"something else" * 1000)
    for number in (0, 1):
        with pytest.raises(ReasonEditError, match=r"The cache '.*answers' cannot be used \(.*set REASONEDIT_CACHE"):
            answers.ask([Query(picture(number), "What?")])


def test_answers_are_known_by_model_image_and_prompt(tiny_vlm, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.data.answers.cache_folder", lambda: tmp_path)
    model = Knows(tiny_vlm, {"What?": "a", "Who?": "b"})
    queries = [Query(picture(0), "What?"), Query(picture(1), "What?"), Query(picture(0), "Who?")]
    queries.append(Query(picture(0), "What?", ["a", "c"]))
    assert Answers(model).ask(queries)[0] == ["a", "a", "b", "a"]
    assert model.asked == 4
    assert Answers(model).ask(queries[::-1])[0] == ["a", "b", "a", "a"]
    assert model.asked == 4
    weight = next(p for n, p in tiny_vlm.model.named_parameters() if "language_model.layers.1" in n)
    before = weight.data.clone()
    try:
        weight.data[:] += 1  # a fine-tuned model under the same name
        Answers(model).ask(queries)
    finally:
        weight.data[:] = before
    assert model.asked == 8


def test_built_probes_are_read_by_seed_and_edit(tmp_path, caplog):
    path = str(datasets.own(tmp_path, choices=None))
    edits = list(EditFile(path).candidates())
    folder = tmp_path / "probes"
    (folder / "images").mkdir(parents=True)
    picture(9, 48).save(folder / "images" / "x.png")
    probe = {"question": "And what is it?", "answer": f"A {edits[0].answer}.", "choices": None, "image": None}
    second = {**probe, "answer": edits[1].answer, "image": "images/x.png"}
    lines = [
        ProbeLine(edits[0].id, edits[0].question, 0, probe, "", {}),
        ProbeLine(edits[1].id, edits[1].question, 0, second, "", {}),
        ProbeLine(edits[2].id, edits[2].question, 0, None, "identical", {}),
        ProbeLine(edits[3].id, "a question of other data", 0, probe, "", {}),
    ]
    probe_file(folder, "t_gen", 4).write_text("".join(b.to_json() for b in lines) + '{"edit": "cut sho')
    probes = EditFile(path, probes=str(folder), probe_seed=4).probes(edits)
    made = {p.edit_id: p for p in probes if p.group == "t_gen"}
    assert set(made) == {edits[0].id, edits[1].id}
    assert made[edits[0].id].query.image.tobytes() == edits[0].image.tobytes()
    assert made[edits[1].id].query.image.size == (48, 48)
    assert made[edits[0].id].answer == probe["answer"]
    assert "6 of 8 edits have no probe in" in caplog.text
    assert "1 of its lines are about other questions, answers or choices of edits with the same ids" in caplog.text
    probe_file(folder, "t_gen", 4).write_text(
        ProbeLine(edits[0].id, edits[0].question, 2, {**probe, "image": "../x"}, "", {}).to_json()
    )
    with pytest.raises(
        ReasonEditError, match=r"Probe 2 of the edit '.*' in '.*t_gen-4.jsonl' cannot be used: .*leads out"
    ):
        EditFile(path, probes=str(folder), probe_seed=4).probes(edits)
    probe_file(folder, "t_gen", 4).write_text(
        ProbeLine(edits[0].id, edits[0].question, 0, {"question": "x"}, "", {}).to_json()
    )
    with pytest.raises(ReasonEditError, match=r"Line 1 of the probe set .* is damaged \(its probe must have answer"):
        EditFile(path, probes=str(folder), probe_seed=4).probes(edits)
    with pytest.raises(ReasonEditError, match="no probe set of seed 0"):
        EditFile(path, probes=str(folder)).probes(edits)


def test_an_edit_is_made_of_a_sample_with_all_it_has(tmp_path):
    edit = next(iter(EditFile(str(datasets.own(tmp_path))).candidates()))
    assert isinstance(edit, Edit)
    assert len(edit.evidence) == len(edit.reasoning)
