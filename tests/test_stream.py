"""Streams in trainer.predict: our module, somebody else's module, and each callback on its own."""

import copy
import itertools
import re
from dataclasses import replace
from types import SimpleNamespace

import lightning as L
import pyarrow.parquet as pq
import pytest
import torch
from helpers.tiny import design, picture
from helpers.toy import ToySource
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from reasonedit import Edit, EditStream, ReasonEditError, ReasonEditor, VLMModule
from reasonedit.callbacks import (
    Codebook,
    EditingMetrics,
    PredictionWriter,
    QueryTimer,
    Retriever,
    StreamLines,
    StreamProgress,
    TensorBoardCharts,
)
from reasonedit.callbacks.baselines import Unedited
from reasonedit.codebook import EditMemory, Store
from reasonedit.data.base_pass import BasePass
from reasonedit.data.stream import collate
from reasonedit.rounds import final_probes, split_rounds
from reasonedit.vlm import Generation, load_vlm

pytestmark = pytest.mark.usefixtures("hash_encoder")

FAR = "Tell me how many birds sing outside"
DESIGN = design()


def trainer(*callbacks, **options) -> L.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return L.Trainer(accelerator="cpu", callbacks=list(callbacks), **{"logger": False, **quiet, **options})


def run(vlm, tmp_path, *, edits=5, interleave=None, batch_size=2, **options):
    stream = EditStream(ToySource(edits), batch_size=batch_size, interleave=interleave)
    parts = {
        "timer": QueryTimer(),
        "codebook": Codebook(tmp_path / "book", DESIGN),
        "retriever": Retriever(k=3, percentile=20),
        "metrics": EditingMetrics(),
        "writer": PredictionWriter(tmp_path / "predictions.parquet"),
    }
    made = trainer(*parts.values(), **options)
    made.predict(VLMModule(vlm, max_new_tokens=3), datamodule=stream, return_predictions=False)
    return stream, parts, made


def test_a_stream_edits_what_is_wrong_and_asks_afterwards(tiny_vlm, tmp_path):
    before = copy.deepcopy(tiny_vlm.model.state_dict())
    stream, parts, _ = run(tiny_vlm, tmp_path)
    assert len(stream.base.edits) == 5
    assert [e.answer for e in parts["codebook"].memory.edits.values()] == [f"thing {i}" for i in range(5)]
    rows = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert [r["phase"] for r in rows] == ["edit"] * 5 + ["probe"] * 10
    # In the first batch there was nothing to retrieve; the rest is asked with facts in front.
    assert [bool(r["facts"]) for r in rows[:2]] == [False, False]
    for r in rows:
        if r["group"] == "rel":
            assert r["distances"][0] == 0
            assert r["prompt"].startswith(f"The answer to 'What is number {r['id'][-1]}?' is thing {r['id'][-1]}. ")
            assert r["prompt"].endswith(f" What is number {r['id'][-1]}?")
        assert r["right"] == (r["answer"].lower() == r["target"])
    assert all(torch.equal(before[k], v) for k, v in tiny_vlm.model.state_dict().items())


def test_locality_keeps_only_what_was_right_before(tiny_vlm, tmp_path):
    stream, parts, _ = run(tiny_vlm, tmp_path)
    assert {p.group for p in stream.base.probes} == {"rel", "t_gen"}  # the tiny model never says "nobody at all"
    assert set(parts["metrics"].results) == {"rel", "t_gen"}
    assert parts["metrics"].results["rel"][1] == 5


def test_an_edit_that_is_right_already_is_not_written(tiny_vlm, tmp_path):
    answer = tiny_vlm.answer(tiny_vlm.see([picture(0)]), ["What is number 0?"], max_new_tokens=3)[0]
    right = Edit.of(picture(0), "What is number 0?", answer or "x", ["Because."])
    wrong = Edit.of(picture(0), "What is number 0?", "something else", ["Because."])
    batch = {"images": [picture(0)] * 2, "prompts": ["What is number 0?"] * 2, "edits": [right, wrong]}
    codebook = Codebook(design=DESIGN)
    loader = DataLoader([batch], batch_size=None, collate_fn=dict)
    trainer(codebook).predict(VLMModule(tiny_vlm, max_new_tokens=3), loader)
    assert list(codebook.memory.edits) == ([wrong.id] if answer else [right.id, wrong.id])


def test_interleaved_streams_probe_all_edits_so_far(tiny_vlm, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="tb", version="")
    stream, parts, _ = run(tiny_vlm, tmp_path, interleave=2, logger=logger)
    phases = [[step[0].phase, len(step)] for step in stream.layout()]
    assert phases == [
        ["edit", 2],
        *[["probe", 2]] * 2,
        ["edit", 2],
        *[["probe", 2]] * 4,
        ["edit", 1],
        *[["probe", 2]] * 5,
    ]
    assert {edits: shares["rel"][1] for edits, shares in parts["metrics"].history.items()} == {2: 2, 4: 4, 5: 5}
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    logged = [(e.step, e.value) for e in events.Scalars("edit/rel")]
    assert logged == [(n, pytest.approx(s["rel"][0])) for n, s in parts["metrics"].history.items()]


class RightFromThird(L.Callback):
    """From the third edit on the model answers rightly, so that no more edits are written."""

    def __init__(self) -> None:
        self.edits = 0

    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.edits += batch["phase"] == "edit"
        if self.edits > 2:
            outputs[:] = batch["targets"]


def test_rounds_without_a_new_edit_between_them_are_told_apart(tiny_vlm, tmp_path):
    book, metrics, writer = Codebook(design=DESIGN), EditingMetrics(), PredictionWriter(tmp_path / "p.parquet")
    stream = EditStream(ToySource(4), batch_size=1, interleave=2)
    made = trainer(RightFromThird(), book, metrics, writer)
    made.predict(VLMModule(tiny_vlm, max_new_tokens=2), datamodule=stream, return_predictions=False)
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    rel = [(r["round"], r["edits"], r["right"]) for r in rows if r["group"] == "rel"]
    assert rel == [(1, 2, False)] * 2 + [(2, 2, True)] * 4
    assert [r["round"] for r in rows if r["phase"] == "edit"] == [1, 1, 2, 2]
    assert [(edits, shares["rel"]) for edits, shares in metrics.rounds] == [(2, (0.0, 2)), (2, (1.0, 4))]
    assert metrics.results["rel"] == metrics.history[2]["rel"] == (1.0, 4)
    final = final_probes(rows)
    assert [r["round"] for r in final] == [2] * 8
    assert split_rounds(rows)[2] == final
    assert {r["round"] for r in final_probes([r for r in rows if r["round"] == 1])} == {1}  # cut short before the end


def test_where_each_edit_stands_alone_all_probes_are_final(tiny_vlm, tmp_path):
    class Nothing(Codebook):
        def forget(self):
            pass

    writer = PredictionWriter(tmp_path / "p.parquet")
    stream = EditStream(ToySource(3), batch_size=2, alone=True)
    made = trainer(Nothing(design=DESIGN), writer)
    made.predict(VLMModule(tiny_vlm, max_new_tokens=2), datamodule=stream, return_predictions=False)
    probes = [r for r in writer.rows if r["phase"] == "probe"]
    assert [(r["edit"], r["round"]) for r in probes if r["group"] == "rel"] == [(f"toy-{i}", i + 1) for i in range(3)]
    assert final_probes(writer.rows) == probes


def test_predictions_keep_the_question_without_what_stands_before_it(tiny_vlm, tmp_path, monkeypatch):
    class Tagged(ToySource):
        """Its facts hold what a prompt must not, so that they stand otherwise before a question."""

        def candidates(self):
            for edit in super().candidates():
                yield replace(edit, reasoning=["The user: a sailor."], evidence=())

        def probes(self, edits, right=()):
            return [replace(p, group="r_gen") if p.group == "t_gen" else p for p in super().probes(edits, right)]

    drawn = []

    def draw(query, *_, **__):
        drawn.append(query.question)
        return query.image

    monkeypatch.setattr("reasonedit.callbacks.charts.draw_retrieval", draw)
    writer = PredictionWriter(tmp_path / "p.parquet")
    parts = [Codebook(design=design(percentile=100)), Retriever(), EditingMetrics(), TensorBoardCharts({}, 2), writer]
    made = trainer(*parts, logger=TensorBoardLogger(tmp_path, name="tb", version=""))
    stream = EditStream(Tagged(2), batch_size=2)
    made.predict(VLMModule(tiny_vlm, max_new_tokens=2), datamodule=stream, return_predictions=False)
    asked = {p.query.id: p.query.question for p in stream.base.probes}
    probes = [r for r in pq.read_table(tmp_path / "p.parquet").to_pylist() if r["phase"] == "probe"]
    for row in probes:
        assert row["question"] == asked[row["id"]]
        assert row["facts"]
        assert not row["prompt"].startswith(" ".join(row["facts"]))
        assert row["prompt"].endswith(row["question"])
    assert drawn == [row["question"] for row in probes if row["group"] == "r_gen"]


def test_probes_on_the_way_can_be_few_and_edits_checked_at_once(tiny_vlm):
    def laid_out(**options):
        stream = EditStream(ToySource(5), batch_size=8, **options)
        stream.base_pass(tiny_vlm, Generation(3))
        names = [e.id for e in stream.base.edits]
        return [(step[0].phase, [names.index(i.edit_id) for i in step]) for step in stream.layout()]

    def probed(steps):
        return [sorted(set(edits)) for phase, edits in steps if phase == "probe"]

    assert probed(laid_out(interleave=[2, 4, 9], sample=2)) == [[0, 1], [0, 2], [0, 1, 2, 3], [4]]  # the last in two
    assert probed(laid_out(interleave=2, probed=2)) == [[0], [0, 2], [0, 2]]
    assert probed(laid_out(interleave=3, probed=2, sample=2)) == [[0, 2], [0, 2]]
    checked = laid_out(check=True)
    assert checked[:4] == [("edit", [0]), ("check", [0]), ("edit", [1]), ("check", [1])]
    assert len([1 for phase, _ in checked if phase == "check"]) == 5


def test_tensorboard_opens_on_the_useful_charts(tiny_vlm, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="tb", version="")
    codebook = Codebook(design=design(keys="both"))
    charts = TensorBoardCharts({"editor": "ours"}, pictures=2)
    parts = [codebook, Retriever(k=3), EditingMetrics(), charts]
    stream = EditStream(ToySource(3), batch_size=2)
    trainer(*parts, logger=logger).predict(VLMModule(tiny_vlm, max_new_tokens=2), datamodule=stream)
    events = EventAccumulator(str(tmp_path / "tb"), size_guidance={"images": 0}).Reload()
    tags = events.Tags()
    assert len([t for t in tags["images"] if t.startswith("evidence/")]) == 2
    assert "custom_scalars__config__" in tags["tensors"]
    assert "_hparams_/session_start_info" in str(events.summary_metadata) + str(tags)
    assert "final/rel" in tags["scalars"]


def test_two_runs_of_one_stream_are_the_same(tiny_vlm, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, first, _ = run(tiny_vlm, tmp_path / "a")
    _, second, _ = run(tiny_vlm, tmp_path / "b")
    assert torch.equal(first["codebook"].memory.keys, second["codebook"].memory.keys)
    assert [r["answer"] for r in first["writer"].rows] == [r["answer"] for r in second["writer"].rows]


def test_stream_and_library_answer_alike(tiny_vlm, tmp_path):
    stream, parts, _ = run(tiny_vlm, tmp_path, batch_size=1)
    editor = ReasonEditor.load(tmp_path / "book", tiny_vlm)
    assert (editor.pipeline.design.retrieval.k, editor.pipeline.retriever.gate.percentile) == (3, 20)
    for probe, row in zip(stream.base.probes, [r for r in parts["writer"].rows if r["phase"] == "probe"], strict=True):
        answer = editor.ask(probe.query.image, probe.query.question)
        assert answer.prompt == row["prompt"]
        assert [h.distance for h in answer.hits] == pytest.approx(row["distances"], abs=1e-5)


def test_a_stream_goes_on_with_the_codebook_of_another_run(tiny_vlm, tmp_path):
    stream, parts, _ = run(tiny_vlm, tmp_path)
    book = Codebook.load(tmp_path / "book")
    retriever = Retriever()
    trainer(book, retriever).predict(VLMModule(tiny_vlm, max_new_tokens=3), datamodule=stream, return_predictions=False)
    assert torch.equal(book.memory.keys, parts["codebook"].memory.keys)  # nothing was written twice
    assert (
        book.pipeline.design.retrieval == parts["codebook"].pipeline.design.retrieval
    )  # the settings it was saved with
    trainer(Codebook.load(tmp_path / "book"), Retriever(k=1)).predict(
        VLMModule(tiny_vlm, max_new_tokens=3), datamodule=stream, return_predictions=False
    )
    assert Store.open(tmp_path / "book").manifest.design["retrieval"]["k"] == 3  # that of the run that made it
    other = Codebook(tmp_path / "book", DESIGN)
    with pytest.raises(ReasonEditError, match=r"There is a codebook in .* already: go on with it by Codebook\.load"):
        trainer(other).predict(VLMModule(tiny_vlm), datamodule=stream)


def test_another_model_is_asked_anew_and_its_keys_are_not_mixed(tiny_vlm, tmp_path):
    from helpers.tiny import save_tiny_llava

    from reasonedit.vlm import load_vlm

    stream, _, made = run(tiny_vlm, tmp_path)
    first = stream.base
    assert stream.base_pass(tiny_vlm, Generation(3)) is first
    other = load_vlm(str(save_tiny_llava(tmp_path / "clip", tower="clip")), dtype="float32")
    with pytest.raises(ReasonEditError, match="made with another model"):
        made.predict(VLMModule(other, max_new_tokens=3), datamodule=stream)
    assert stream.base_pass(other, Generation(3)) is not first


class TheirCaptioner(L.LightningModule):
    """Somebody else's module: its own batch layout, its own model, its own predictions."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def predict_step(self, batch, batch_idx):
        self.seen += batch["texts"]
        return {"answers": [f"a picture of {len(text)} letters" for text in batch["texts"]], "scores": torch.ones(1)}


def their_loader():
    batches = [{"photos": [picture(0), picture(9)], "texts": ["What is number 0?", FAR]}]
    return DataLoader(batches, batch_size=None, collate_fn=dict)


def test_the_retriever_works_before_somebody_elses_module(tiny_vlm, tiny_folder, tmp_path):
    editor = ReasonEditor(tiny_vlm, design(k=2, percentile=5))
    edits = [
        editor.edit(picture(i), f"What is number {i}?", answer=f"thing {i}", reasoning=f"Number {i} is <image>round.")
        for i in range(3)
    ]
    editor.vlm.name = str(tiny_folder)
    editor.save(tmp_path / "book")
    theirs, loader = TheirCaptioner(), their_loader()
    made = trainer(
        Codebook.load(tmp_path / "book"),
        Retriever(k=2, percentile=5, image_key="photos", prompt_key="texts"),
        PredictionWriter(tmp_path / "theirs.parquet", prompt_key="texts"),
    )
    made.predict(theirs, loader)
    assert theirs.seen[0].startswith(edits[0].answer_fact)
    assert "<image>" not in theirs.seen[0]
    assert theirs.seen[1] == FAR  # far from all keys: the gate stays closed
    rows = pq.read_table(tmp_path / "theirs.parquet").to_pylist()
    assert rows[0]["answer"].startswith("a picture of")
    assert rows[0]["facts"][0] == edits[0].answer_fact
    # The data set's own batches were not changed: a second run sees the same questions.
    theirs.seen.clear()
    made.predict(theirs, loader)
    assert theirs.seen[1] == FAR
    assert theirs.seen[0].count(edits[0].answer_fact) == 1


def test_the_retriever_reads_a_folder_on_its_own(tiny_vlm, tiny_folder, tmp_path):
    editor = ReasonEditor(tiny_vlm, DESIGN)
    editor.vlm.name = str(tiny_folder)
    edit = editor.edit(picture(0), "What is number 0?", answer="zero", reasoning="It is round.")
    editor.save(tmp_path / "book")
    theirs = TheirCaptioner()
    trainer(Retriever(tmp_path / "book", image_key="photos", prompt_key="texts")).predict(theirs, their_loader())
    assert theirs.seen[0].startswith(edit.answer_fact)


def test_metrics_and_writer_work_without_the_others(tmp_path):
    batch = {"texts": ["1234", "123"], "targets": ["a picture of 4 letters", "x"], "groups": ["rel", "rel"]}
    metrics, writer = EditingMetrics(), PredictionWriter(tmp_path / "p.parquet", prompt_key="texts")
    made = trainer(metrics, writer)
    made.predict(TheirCaptioner(), DataLoader([batch], batch_size=None, collate_fn=dict))
    assert metrics.results == {"rel": (0.5, 2)}
    assert [r["right"] for r in pq.read_table(tmp_path / "p.parquet").to_pylist()] == [True, False]


def test_somebody_elses_prompts_keep_their_own_marks(tiny_vlm, tiny_folder, tmp_path):
    editor = ReasonEditor(tiny_vlm, DESIGN)
    editor.vlm.name = str(tiny_folder)
    editor.edit(picture(0), "What?", answer="zero", reasoning="It is <image>round.")
    editor.save(tmp_path / "book")
    theirs = TheirCaptioner()
    batch = {"photos": [picture(0)], "texts": ["USER: <image>\nWhat? ASSISTANT:"], "vision": torch.ones(1)}
    retriever = Retriever(tmp_path / "book", image_key="photos", prompt_key="texts")
    trainer(retriever).predict(theirs, DataLoader([batch], batch_size=None, collate_fn=dict))
    assert "It is round." in theirs.seen[0]
    assert theirs.seen[0].endswith("USER: <image>\nWhat? ASSISTANT:")


def test_ids_and_targets_of_any_type_are_written(tmp_path):
    batch = {"texts": ["a", "b"], "ids": torch.tensor([3, 4]), "targets": [1, 2], "phase": 7}
    timer, writer = QueryTimer(), PredictionWriter(tmp_path / "p.parquet", prompt_key="texts")
    trainer(timer, writer).predict(TheirCaptioner(), DataLoader([batch], batch_size=None, collate_fn=dict))
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert [(r["target"], r["phase"], r["right"]) for r in rows] == [("1", "7", False), ("2", "7", False)]
    assert timer.queries == 2


def test_missing_parts_are_named(tiny_vlm, tmp_path):
    with pytest.raises(ReasonEditError, match="Retriever has no codebook"):
        trainer(Retriever()).predict(VLMModule(tiny_vlm), their_loader())
    with pytest.raises(ReasonEditError, match="TheirCaptioner has no attribute 'vlm'"):
        trainer(Codebook()).predict(TheirCaptioner(), their_loader())
    with pytest.raises(ReasonEditError, match=r"finds no 'prompts' in the batch, which has \['photos', 'texts'\]"):
        trainer(Codebook(design=DESIGN), Retriever()).predict(VLMModule(tiny_vlm), their_loader())
    with pytest.raises(ReasonEditError, match="There is no codebook in"):
        Retriever(tmp_path / "nothing")
    with pytest.raises(ReasonEditError, match="no sample of the data set wrong"):
        EditStream(NothingWrong()).base_pass(tiny_vlm)


class NothingWrong(ToySource):
    def candidates(self):
        return iter(())


def test_an_interrupted_stream_keeps_its_edits(tiny_vlm, tmp_path, caplog):
    class Stop(L.Callback):
        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            if batch_idx == 1:
                raise KeyboardInterrupt

    parts = [
        Codebook(tmp_path / "book", DESIGN),
        Retriever(),
        PredictionWriter(tmp_path / "p.parquet"),
        Stop(),
    ]
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        trainer(*parts).predict(
            VLMModule(tiny_vlm, max_new_tokens=2), datamodule=EditStream(ToySource(6), batch_size=2)
        )
    memory = EditMemory.open(Store.open(tmp_path / "book"))
    assert len(memory.edits) == 4
    assert "4 edits are saved in" in caplog.text
    assert pq.read_table(tmp_path / "p.parquet").num_rows == 4


def test_in_a_file_lines_say_how_far_a_stream_is(tiny_vlm, capsys, monkeypatch):
    def predict():
        trainer(Codebook(design=DESIGN), StreamLines(), enable_progress_bar=True).predict(
            VLMModule(tiny_vlm, max_new_tokens=2), datamodule=EditStream(ToySource(3), batch_size=2)
        )
        return [re.sub(r"after \d+ min$", "", line) for line in capsys.readouterr().err.splitlines() if " min" in line]

    assert predict() == []  # none of it took a minute
    monkeypatch.setattr("reasonedit.util.progress_lines.SECONDS", -1.0)
    said = predict()
    assert said[0] == "finding errors: 2 of 3, "
    assert "asking the unedited model: " in "".join(said)
    of = next(re.search(r"of (\d+),", line)[1] for line in said if line.startswith("editing"))
    assert [line for line in said if line.startswith(("editing", "probing"))][:5] == [
        f"editing 2/3, batch: 0 of {of}, ",
        f"editing 2/3, batch: 1 of {of}, ",
        f"editing 3/3, batch: 1 of {of}, ",
        f"editing 3/3, batch: 2 of {of}, ",
        f"probing after 3 edits, batch: 2 of {of}, ",
    ]


def test_the_progress_bar_says_what_is_happening(tiny_vlm, tmp_path):
    said = []

    class Listen(L.Callback):
        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            bar = trainer.progress_bar_callback
            said.append(bar.progress.tasks[bar.predict_progress_bar_id].description)

    trainer(Codebook(design=DESIGN), StreamProgress(), Listen(), enable_progress_bar=True).predict(
        VLMModule(tiny_vlm, max_new_tokens=2), datamodule=EditStream(ToySource(3), batch_size=2)
    )
    assert [s for i, s in enumerate(said) if s not in said[:i]] == [
        "editing 2/3",
        "editing 3/3",
        "probing after 3 edits",
    ]


def test_mixed_precision_is_refused_and_true_precision_changes_no_answer_without_an_edit(tiny_folder, tmp_path):
    """Mixed precision would round what is answered in the run, and not what the unedited model was asked before it."""
    path = tmp_path / "p.parquet"

    def ask(precision):
        module = VLMModule(str(tiny_folder), dtype="float32", max_new_tokens=6)
        parts = trainer(Unedited(), PredictionWriter(path), precision=precision)
        parts.predict(module, datamodule=EditStream(ToySource(2)), return_predictions=False)

    with pytest.raises(ReasonEditError, match="precision='bf16-mixed' rounds what is answered in the run"):
        ask("bf16-mixed")
    for precision in ("32-true", "bf16-true"):
        ask(precision)
        rows = [row for row in pq.read_table(path).to_pylist() if row["phase"] == "probe"]
        assert [row["answer"] for row in rows] == [row["before"] for row in rows] != []


def test_a_vlm_that_others_may_use_keeps_its_weights(tiny_folder):
    vlm = load_vlm(str(tiny_folder), dtype="float32")
    before = {name: (tensor.dtype, tensor.clone()) for name, tensor in vlm.model.state_dict().items()}
    asked = DataLoader([{"images": [picture(0)], "prompts": ["What?"]}], batch_size=None, collate_fn=dict)
    for precision in ("bf16-true", "16-true", "64-true"):
        with pytest.raises(ReasonEditError, match=f"precision='{precision}' would change the weights of the"):
            trainer(precision=precision).predict(VLMModule(vlm, max_new_tokens=2), asked)
    for precision in ("32-true", "bf16-mixed"):
        trainer(precision=precision).predict(VLMModule(vlm, max_new_tokens=2), asked)
    for name, tensor in vlm.model.state_dict().items():
        assert tensor.dtype == before[name][0]
        assert torch.equal(tensor, before[name][1])


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_progress_bar_counts_the_edits_of_all_ranks(monkeypatch, ranks):
    for hook in ("on_predict_start", "on_predict_batch_start"):
        monkeypatch.setattr(RichProgressBar, hook, lambda *_: None)
    said, bar, stream = [], StreamProgress(), EditStream(ToySource(5), batch_size=4, interleave=3)
    edits = list(itertools.islice(stream.source.candidates(), 5))
    probes = stream.source.probes(edits)
    stream.base = BasePass(edits, probes, [""] * len(probes))
    bar.predict_progress_bar_id = 0
    bar.progress = SimpleNamespace(update=lambda _, description: said.append(description))
    bar.on_predict_start(SimpleNamespace(datamodule=stream), None)
    for step in stream.steps(ranks)[::ranks]:  # of the first rank, which shows them
        bar.on_predict_batch_start(None, None, collate(step), 0)
    assert [text for text in dict.fromkeys(said) if text.startswith("probing")] == [
        "probing after 3 edits",
        "probing after 5 edits",
    ]
    assert all(text.endswith("/5") for text in said if text.startswith("editing"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EditStream("nothing"), "There is no data set 'nothing': use .*world"),
        (lambda: EditStream(batch_size=0), "batch_size must be 1 or more"),
        (lambda: EditStream(interleave=0), "interleave must be 1 or more"),
        (lambda: VLMModule("embedded", max_new_tokens=0), "max_new_tokens must be 1 or more"),
    ],
)
def test_arguments_out_of_range_are_refused(make, said):
    with pytest.raises(ReasonEditError, match=said):
        make()
