"""Several right answers per question, from the data through streams, codebooks and files; what comparisons say."""

import json
from pathlib import Path

import lightning as L
import pyarrow.parquet as pq
import pytest
import torch
from helpers import datasets
from helpers.cells import cell, save
from helpers.tiny import design, picture
from helpers.toy import ToySource
from helpers.writer import open_or_create
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console
from torch.utils.data import DataLoader

from reasonedit import Edit, EditStream, Query, ReasonEditError, ReasonEditor, VLMModule
from reasonedit.callbacks import Codebook, EditingMetrics, PredictionWriter, Retriever
from reasonedit.cli import main
from reasonedit.codebook import Draft, EditMemory, Entry, Fact, Store, as_edit
from reasonedit.codebook.draft_messages import pack_drafts, unpack_drafts
from reasonedit.commands.results_table import collect_results, describe_results, results_table
from reasonedit.data import AOKVQA, EditFile
from reasonedit.data.built_probes import ProbeLine, load_built_probes, probe_file
from reasonedit.data.exported import export, read
from reasonedit.data.source import Probe
from reasonedit.experiments.plans import EXPERIMENTS
from reasonedit.experiments.tables import cells_in
from reasonedit.experiments.tables import table_of as experiment_table
from reasonedit.metrics import COMPARISON
from reasonedit.report import write_page
from reasonedit.runs.folder import row

pytestmark = pytest.mark.usefixtures("hash_encoder")

PEOPLE = ["surfing"] * 4 + ["surf"] * 3 + ["wave", "sport", "sea"]
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


def trainer(*callbacks, **options) -> L.Trainer:
    return L.Trainer(accelerator="cpu", devices=1, callbacks=list(callbacks), **{"logger": False, **QUIET, **options})


def an_edit(name="e", answer="surfing", answers=PEOPLE, **options) -> Edit:
    return Edit(picture(0), "What is it?", answer, ["It is so."], id=name, answers=answers, **options)


# ---- edits


def test_the_answer_of_an_edit_is_one_of_the_right_ones():
    assert an_edit(answers=[]).targets == ["surfing"]
    assert an_edit(answer="a Surf").targets == PEOPLE
    assert an_edit(answer="sofa", answers=("couch", "sofa")).answers == ["couch", "sofa"]
    with pytest.raises(ReasonEditError, match="'sea' is not right by the 10 right answers"):
        an_edit(answer="sea")
    with pytest.raises(ReasonEditError, match=r"'chair' is not among the right answers \['couch', 'sofa'\]"):
        an_edit(answer="chair", answers=["couch", "sofa"])
    with pytest.raises(ReasonEditError, match="must be a list of texts, not str"):
        an_edit(answers="surfing")
    with pytest.raises(ReasonEditError, match="The right answer is empty"):
        an_edit(answers=["surfing", " "])
    with pytest.raises(ReasonEditError, match="101 right answers: 100 is the limit"):
        an_edit(answers=["surfing"] * 101)


# ---- codebooks and files


def draft(edit: Edit, x: float = 0.0) -> Draft:
    return Draft.of(edit, [Entry(torch.tensor([x, 0.0]), 1.0, Fact(edit.answer_fact, "answer", edit.id))])


def test_a_codebook_keeps_them(tmp_path):
    memory = open_or_create(tmp_path / "book")
    for edit in (an_edit("several"), an_edit("one", answers=[])):
        memory.write(edit, draft(edit).entries)
    there = EditMemory.open(Store.open(tmp_path / "book"))
    assert there.edits["several"].answers == PEOPLE
    stored = there.find("several")
    assert as_edit(stored, {n: there.picture(n) for n in stored.pictures}).answers == PEOPLE
    # An edit with one answer is kept as before there were several.
    assert (tmp_path / "book" / "journal.jsonl").read_text().count('"answers"') == 1
    # And what ranks tell each other has them, too.
    assert unpack_drafts(pack_drafts([draft(an_edit())], [{}]))[0][0].edit.answers == PEOPLE


def test_edits_contradict_when_neither_is_right_by_the_other():
    memory = EditMemory()
    for edit in (
        an_edit("surfing"),
        an_edit("surf", "surf", []),  # right by the first, which is not right by it
        an_edit("sea", "sea", []),
        an_edit("water", "water", ["sea", "water"]),
    ):
        memory.write(edit, draft(edit).entries)
    assert {name: edit.contradicts for name, edit in memory.edits.items()} == {
        "surfing": [],
        "surf": [],
        "sea": ["surfing", "surf"],
        "water": ["surfing", "surf"],
    }


@pytest.fixture
def book(tiny_folder, tmp_path) -> Path:
    editor = ReasonEditor.from_pretrained(str(tiny_folder), design(), dtype="float32")
    editor.save(tmp_path / "book")
    editor.write(an_edit("several"))
    editor.write(an_edit("one", answers=[]))
    return tmp_path / "book"


def test_they_survive_export_and_import(book, tiny_folder, tmp_path, capsys):
    export(EditMemory.open(Store.open(book)), tmp_path / "edits.jsonl")
    assert [row.edit.answers for row in read(tmp_path / "edits.jsonl")] == [PEOPLE, []]
    pool = EditFile(str(tmp_path / "edits.jsonl"))
    assert {e.id: e.answers for e in pool.candidates()} == {"several": PEOPLE, "one": []}
    assert main(["data", "check", str(tmp_path / "edits.jsonl")]) == 0
    assert "'answers'" not in capsys.readouterr().out  # a column that is known
    ReasonEditor.from_pretrained(str(tiny_folder), design(), dtype="float32").save(tmp_path / "new")
    assert main(["codebook", "import", str(tmp_path / "new"), str(tmp_path / "edits.jsonl"), "--dtype", "float32"]) == 0
    assert EditMemory.open(Store.open(tmp_path / "new")).edits["several"].answers == PEOPLE
    capsys.readouterr()
    assert main(["codebook", "show", str(tmp_path / "new"), "several"]) == 0
    assert "also:      surf, wave, sport, sea" in capsys.readouterr().out
    # Other right answers make another edit of it.
    rows = [json.loads(line) for line in (tmp_path / "edits.jsonl").read_text().splitlines()]
    rows[0]["answers"] = ["surfing"]
    (tmp_path / "other.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    assert main(["codebook", "import", str(book), str(tmp_path / "other.jsonl"), "--dtype", "float32"]) == 1
    assert "There is another edit 'several'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ("surfing", "'answers' must be a list of texts"),
        ([["surfing"]], "'answers' must be text or a number, not list"),
        (["sea"], "'surfing' is not among the right answers"),
        ([""], "The right answer is empty"),
    ],
)
def test_a_row_whose_answers_cannot_be_used_is_named(tmp_path, answers, said):
    datasets.own(tmp_path, 1, answer="surfing", answers=answers, choices=None)
    ((number, why),) = EditFile(str(tmp_path / "corrections.jsonl")).read_samples()
    assert number == 1
    assert said in why


def test_numbers_among_the_answers_are_their_texts(tmp_path):
    datasets.own(tmp_path, 1, answer=2, answers=[2.0, "two or three"], choices=None)
    ((_, sample),) = EditFile(str(tmp_path / "corrections.jsonl")).read_samples()
    assert sample.to_edit().answers == ["2", "two or three"]


# ---- A-OKVQA


def aokvqa(folder: Path, **columns) -> AOKVQA:
    datasets.aokvqa(folder)
    path = folder / "aokvqa_v1p0_val.json"
    rows = json.loads(path.read_text())
    for row_, changes in zip(rows, [dict(zip(columns, v, strict=True)) for v in zip(*columns.values(), strict=True)],
                             strict=False):  # fmt: skip
        row_ |= changes
    path.write_text(json.dumps(rows[: len(next(iter(columns.values())))]))
    return AOKVQA(str(folder), str(folder), multiple_choice=False)


def test_ten_direct_answers_are_all_kept(tmp_path, caplog):
    dogs = ["Dog", "dog", "a dog", "dog", "cat", "cat", "wolf", "fox", "pup", "bear"]
    digits = [str(n) for n in range(10)]
    pool = aokvqa(
        tmp_path,
        direct_answers=[dogs, digits, ["cat", "cat", *digits[:8]], PEOPLE],
        difficult_direct_answer=[False, True, False, False],
    )
    edits = {e.id: e for e in pool.candidates()}
    assert set(edits) == {"s0", "s3"}
    assert (edits["s0"].answer, edits["s0"].answers) == ("dog", dogs)
    assert (edits["s3"].answer, edits["s3"].answers) == ("surfing", PEOPLE)
    (said,) = [r.message for r in caplog.records if "left out" in r.message]
    assert "2 questions of" in said
    assert "1 are marked as difficult" in said
    assert "on 1 no 3 people agree" in said
    probes = pool.probes(list(edits.values()), [])
    assert {p.edit_id: p.targets for p in probes if p.group == "rel"} == {"s0": dogs, "s3": PEOPLE}


def test_an_empty_answer_makes_no_nine_people_of_ten(tmp_path, caplog):
    pool = aokvqa(tmp_path, direct_answers=[["sea", *PEOPLE[:8], " "], PEOPLE], difficult_direct_answer=[False, False])
    assert list(pool.samples) == ["s1"]
    assert "'direct_answers' is missing, or not a list of texts" in caplog.text


def test_with_choices_difficult_questions_count(tmp_path, caplog):
    aokvqa(tmp_path, direct_answers=[PEOPLE], difficult_direct_answer=[True])
    samples = AOKVQA(str(tmp_path), str(tmp_path)).samples
    assert [(s.answer, list(s.answers)) for s in samples.values()] == [("kettle", [])]
    assert "left out" not in caplog.text


def test_built_probes_of_the_edits_own_question_have_its_answers(tmp_path):
    edit = an_edit()
    for group in ("t_gen", "r_gen"):
        probe = {"question": "What?", "answer": "surfing", "choices": None, "image": None}
        probe_file(tmp_path, group, 0).write_text(ProbeLine("e", edit.question, 0, probe, "", {}).to_json())
    assert {p.group: p.targets for p in load_built_probes(tmp_path, 0, [edit])["e"]} == {
        "t_gen": PEOPLE,
        "r_gen": ["surfing"],
    }


# ---- streams


class Says(VLMModule):
    """Answers what it is told to, by the question."""

    said: dict[str, str]

    def predict_step(self, batch, batch_idx=0, dataloader_idx=0):
        return [
            self.said.get(p[p.rindex("What is number") :], "") if "What is number" in p else ""
            for p in batch["prompts"]
        ]


class Several(ToySource):
    """Toys whose questions have several right answers, and an unrelated one that the tiny model gets right."""

    def __init__(self, edits, said):
        super().__init__(edits)
        self.said = said

    def candidates(self):
        for i, edit in enumerate(super().candidates()):
            edit.answers = [edit.answer, self.said[i]] if i in self.said else ["never said", edit.answer]
            yield edit

    def probes(self, edits, right=()):
        made = [Probe("rel", Query(e.image, e.question, id=f"rel-{e.id}"), e.answer, e.id, e.answers) for e in edits]
        return [
            *made,
            Probe("loc", Query(picture(99), "Who?", id="loc"), "nobody", edits[0].id, ["nobody", self.said["Who?"]]),
        ]


def test_a_stream_compares_with_all_of_them(tiny_vlm, tmp_path):
    first, who = (
        tiny_vlm.answer(tiny_vlm.see([picture(seed)]), [question], max_new_tokens=3)[0]
        for seed, question in ((0, "What is number 0?"), (99, "Who?"))
    )
    assert first
    assert who
    stream = EditStream(Several(3, {0: first, "Who?": who}), batch_size=2)
    module = Says(tiny_vlm, max_new_tokens=3)
    module.said = {"What is number 1?": "Thing 1.", "What is number 2?": "It is never said!", "What is number 3?": ""}
    book, metrics, writer = Codebook(design=design()), EditingMetrics(), PredictionWriter(tmp_path / "p.parquet")
    logger = CSVLogger(tmp_path)
    made = trainer(book, Retriever(), metrics, writer, logger=logger)
    made.predict(module, datamodule=stream, return_predictions=False)
    assert [e.id for e in stream.base.edits] == ["toy-1", "toy-2", "toy-3"]  # toy-0 is right by its second answer
    assert [p.group for p in stream.base.probes].count("loc") == 1  # right before, by its second answer
    assert stream.base.metrics["loc"] == (1, 1)
    assert list(book.memory.edits) == ["toy-2", "toy-3"]  # toy-1 was right by the time it was asked
    rows = {r["id"]: r for r in pq.read_table(tmp_path / "p.parquet").to_pylist()}
    kept = ("target", "targets", "accuracy", "right", "exact_match", "contains")
    assert [rows["rel-toy-1"][k] for k in kept] == ["never said", ["never said", "thing 1"], 1.0, True, False, True]
    assert [rows["rel-toy-2"][k] for k in kept][2:] == [0.0, False, False, True]
    assert [rows["rel-toy-3"][k] for k in kept][2:] == [0.0, False, False, False]
    assert metrics.results["rel"] == (pytest.approx(1 / 3), 3)
    assert metrics.exact_match["rel"] == 0
    assert metrics.contained == 1
    logged = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()[0]
    assert {"edit/rel", "exact_match/rel", "edit/loc"} <= set(logged.split(","))
    assert pq.read_schema(tmp_path / "p.parquet").metadata[b"comparison"].decode() == COMPARISON
    # What a run prints.
    assert any("1 of the edited one contain" in note for note in describe_results(made, stream))
    table = collect_results(made, stream)
    assert table["reasonedit"]["comparison"] == COMPARISON
    assert (table["reasonedit"]["rel"], table["reasonedit"]["rel_exact_match"]) == (pytest.approx(1 / 3), 0)
    assert table["unedited"]["loc_exact_match"] == 1


def a_batch(answers, **columns):
    """What a module says to a batch of its own."""

    class Module(L.LightningModule):
        def predict_step(self, batch, batch_idx):
            return answers

    return Module(), DataLoader([columns], batch_size=None, collate_fn=dict)


def test_a_part_of_three_people_is_a_part_of_an_answer(tmp_path, caplog):
    columns = {"prompts": ["a", "b"], "targets": [PEOPLE, PEOPLE], "groups": ["rel", "rel"]}
    metrics, writer = EditingMetrics(), PredictionWriter(tmp_path / "p.parquet")
    trainer(metrics, writer).predict(*a_batch(["Sea.", "surf"], **columns))
    assert metrics.results["rel"] == (pytest.approx((1 / 3 + 1) / 2), 2)
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert [r["accuracy"] for r in rows] == pytest.approx([1 / 3, 1])
    assert [(r["right"], r["exact_match"], r["target"]) for r in rows] == [
        (False, False, "surfing"),
        (True, True, "surfing"),
    ]
    assert "contain a right one" not in caplog.text


def test_who_counts_sentences_as_wrong_is_told(tmp_path, caplog):
    columns = {"prompts": ["a", "b"], "targets": ["kettle", "cup"], "groups": ["rel", "rel"]}
    trainer(EditingMetrics()).predict(*a_batch(["It is a kettle.", "It is a cupboard."], **columns))
    (said,) = [r.message for r in caplog.records if "contain a right one" in r.message]
    assert "Of the answers that count as wrong 1 contain" in said


def test_targets_of_any_kind_are_read(tmp_path):
    columns = {
        "prompts": list("abcde"),
        "targets": [2, ("two", "both"), None, torch.tensor(3), []],
        "groups": ["rel"] * 5,
        "ids": torch.arange(5),
    }
    metrics, writer = EditingMetrics(), PredictionWriter(tmp_path / "p.parquet")
    trainer(metrics, writer).predict(*a_batch(["two", "2", "x", "3", "y"], **columns))
    assert metrics.results == {"rel": (1.0, 3)}  # a sample without a target does not count
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert [r["targets"] for r in rows] == [["2"], ["two", "both"], None, ["3"], None]
    assert [r["right"] for r in rows] == [True, True, None, True, None]
    assert [r["id"] for r in rows] == list("01234")
    with pytest.raises(ReasonEditError, match="1 values under 'groups' for 2 answers"):
        trainer(EditingMetrics()).predict(*a_batch(["a", "b"], targets=["a", "b"], groups=["rel"]))


def test_a_table_names_its_comparison_and_shows_exact_match():
    def shown(**tables):
        console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(results_table(tables))
        return " ".join(console.export_text().split())

    times = {"seconds_per_edit": None, "ms_per_query": 1.0}
    same = row({"rel": (0.5, 4), "loc": (1.0, 2)}, {"rel": 0.5, "loc": 1.0}, **times)
    less = row({"rel": (0.75, 4), "loc": (1.0, 2)}, {"rel": 0.25, "loc": 1.0}, **times)
    assert f"right by {COMPARISON}; the same by exact match" in shown(unedited=same)
    assert f"right by {COMPARISON}; by exact match: ReasonEdit Rel 0.25" in shown(unedited=same, reasonedit=less)


def test_a_report_shows_exact_match_where_it_is_another_figure(tmp_path):
    for seed in (0, 1):
        about, rows = cell("none", seed)
        for i, mine in enumerate(rows):
            mine |= {"accuracy": 0.5 if mine["group"] == "rel" else float(mine["right"]), "exact_match": mine["right"]}
            if mine["group"] == "loc":
                mine["exact_match"] = i % 4 == 0
        save(tmp_path / "main", (about, rows))
    (shown,) = experiment_table(EXPERIMENTS["main"], cells_in(tmp_path / "main"))
    assert shown.metrics["rel"].mean == shown.exact["rel"] == 0.5
    assert shown.metrics["loc"].mean == 0.5
    assert shown.exact["loc"] == pytest.approx(0.2, abs=0.1)
    page = write_page(tmp_path, tmp_path / "report.html").read_text()
    assert f"Answers are compared by {COMPARISON}" in page
    assert page.count("<small>exact ") == 1
