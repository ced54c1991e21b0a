"""The callbacks in all functions of the trainer, in any company, beside other VLMs, trainers and threads."""

from __future__ import annotations

import copy
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import design, picture, save_tiny_llava
from helpers.toy import ToySource
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader
from transformers import AutoModelForImageTextToText

from reasonedit import Edit, EditStream, ReasonEditError, ReasonEditor, VLMModule
from reasonedit.callbacks import (
    Codebook,
    EditingMetrics,
    PredictionWriter,
    QueryTimer,
    Retriever,
    RunLog,
    StreamLines,
    StreamProgress,
    TensorBoardCharts,
    TokenShares,
)
from reasonedit.callbacks.baselines import IKE, FineTuning
from reasonedit.callbacks.held_pipeline import HeldPipeline
from reasonedit.codebook import EditMemory, Store
from reasonedit.ranks import refuse_parts, spawning_error
from reasonedit.retrieval import Retrieval
from reasonedit.vlm import load_vlm

pytestmark = pytest.mark.usefixtures("hash_encoder")

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
FUNCTIONS = ("predict", "validate", "test")


def trainer(*callbacks, **options):
    return L.Trainer(accelerator="cpu", callbacks=list(callbacks), **{**QUIET, **options})


def batches(count=2, **more):
    return [
        {
            "images": [picture(i)],
            "prompts": [f"What is number {i}?"],
            "targets": [f"thing {i}"],
            "groups": ["rel"],
            "ids": [f"sample-{i}"],
            **more,
        }
        for i in range(count)
    ]


def loader(made=None):
    return DataLoader(made or batches(), batch_size=None, collate_fn=dict)


@pytest.fixture
def book(tiny_vlm, tmp_path):
    editor = ReasonEditor(tiny_vlm, design(k=1))
    for i in range(3):
        editor.edit(picture(i), f"What is number {i}?", answer=f"thing {i}", reasoning=f"Number {i} is round.")
    editor.save(tmp_path / "book")
    return tmp_path / "book"


class Echo(L.LightningModule):
    """Somebody's module; it answers with what comes before the question."""

    def __init__(self, vlm=None):
        super().__init__()
        if vlm is not None:
            self.vlm = vlm
        self.layer = torch.nn.Linear(1, 1)
        self.asked = []

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return [text.partition("' is ")[2].partition(".")[0] for text in batch["prompts"]]

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("mine", 2.0, batch_size=1)
        return {"answers": self.predict_step(batch, batch_idx)}

    def validation_step(self, batch, batch_idx):
        self.asked.append(("validation", batch["prompts"][0]))
        return self.loss()

    def training_step(self, batch, batch_idx):
        self.asked.append(("training", batch["prompts"][0]))
        return self.loss()

    def loss(self):
        return self.layer(torch.ones(1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


# ---- predict, validate, test, fit


def test_facts_answers_and_metrics_are_those_of_predict_in_validate_and_test(book, tiny_vlm, tmp_path):
    seen = {}
    for function in FUNCTIONS:
        timer, metrics, writer = QueryTimer(), EditingMetrics(), PredictionWriter(tmp_path / f"{function}.parquet")
        run = trainer(timer, Retriever(book), metrics, writer)
        told = getattr(run, function)(VLMModule(tiny_vlm, max_new_tokens=3), loader())
        assert (tmp_path / f"{function}.parquet").is_file()
        assert timer.queries == 2
        assert [row["facts"] for row in writer.rows] == [
            [f"The answer to 'What is number {i}?' is thing {i}."] for i in (0, 1)
        ]
        seen[function] = metrics.results, [(row["id"], row["answer"], row["distances"]) for row in writer.rows]
        if function != "predict":
            assert told[0]["edit/rel"] == metrics.results["rel"][0]
    assert seen["validate"] == seen["test"] == seen["predict"]
    assert seen["test"][0]["rel"][1] == 2


def test_predictions_of_one_function_are_not_replaced_by_those_of_another(tmp_path):
    writer, path = PredictionWriter(), tmp_path / "predictions.parquet"
    run = trainer(writer, default_root_dir=tmp_path)
    for _ in range(2):  # a further run of the same function takes the place of the first
        run.test(Echo(), loader(), verbose=False)
    kept = path.read_bytes()
    with pytest.raises(ReasonEditError, match=r"trainer\.predict would replace those of trainer\.test in .*: set"):
        run.predict(Echo(), loader(batches(1)))
    assert path.read_bytes() == kept
    writer.path = tmp_path / "predict.parquet"
    run.predict(Echo(), loader(batches(1)))
    assert path.read_bytes() == kept
    writer.path = path.rename(tmp_path / "moved.parquet").with_name("predict.parquet")
    run.predict(Echo(), loader(batches(2)))
    assert len(writer.rows) == 2


def test_what_a_foreign_module_logs_stands_beside_the_metrics(book, tiny_vlm):
    metrics = EditingMetrics()
    told = trainer(Retriever(book), metrics).test(Echo(tiny_vlm), loader(), verbose=False)
    assert told == [{"mine": 2.0, "edit/rel": 1.0, "exact_match/rel": 1.0}]
    assert metrics.results == {"rel": (1.0, 2)}


def test_steps_without_answers_are_not_counted_and_that_is_said(book, tiny_vlm, tmp_path, caplog):
    metrics, writer = EditingMetrics(), PredictionWriter(tmp_path / "p.parquet")
    trainer(metrics, writer).validate(Echo(tiny_vlm), loader(), verbose=False)
    assert metrics.results == {}
    assert writer.rows == []
    for name in ("EditingMetrics", "PredictionWriter"):
        assert f"{name} counts no batch whose step returns a Tensor in place of a list of answers" in caplog.text


def test_a_run_in_which_nothing_could_be_counted_says_so(tiny_vlm, caplog):
    bare = [{"images": [picture(0)], "prompts": ["What?"]}]
    trainer(EditingMetrics()).predict(VLMModule(tiny_vlm, max_new_tokens=2), loader(bare))
    assert "EditingMetrics counted nothing: no batch had 'targets' and 'groups'" in caplog.text


def test_a_callback_that_is_used_again_has_no_figures_of_the_run_before(tiny_vlm, caplog):
    timer, metrics = QueryTimer(), EditingMetrics()
    asked = Echo(), loader()
    trainer(timer, metrics).predict(*asked)
    assert (metrics.results, timer.queries) == ({"rel": (0, 2)}, 2)
    trainer(timer, metrics, limit_predict_batches=0).predict(*asked)  # no batch, and no hook of a batch
    assert (metrics.results, metrics.rounds, timer.queries, timer.ms_per_query) == ({}, [], 0, None)


def test_questions_in_batches_of_any_kind_are_timed():
    class Pairs(L.LightningModule):
        def predict_step(self, batch, batch_idx):
            return ["a boat"] * len(batch)

    timer = QueryTimer()
    trainer(timer).predict(Pairs(), DataLoader([("What?", "Who?")], batch_size=None, collate_fn=tuple))
    assert timer.queries == 2


def test_what_an_earlier_run_said_hides_nothing_of_a_later_one(caplog):
    metrics = EditingMetrics()
    trainer(metrics).predict(Echo(), loader(batches(groups=["mine"])))
    assert "counts no group 'mine'" in caplog.text
    assert "EditingMetrics counted nothing" not in caplog.text  # why is said
    trainer(metrics).predict(Echo(), loader([{"prompts": ["What?"]}]))
    assert "EditingMetrics counted nothing: no batch had 'targets' and 'groups'" in caplog.text


def test_a_trainer_of_the_other_package_of_lightning_is_refused_by_what_needs_ours(tmp_path):
    theirs = type("Trainer", (), {"__module__": "pytorch_lightning.trainer.trainer", "callbacks": []})
    for callback in (StreamProgress(), StreamLines(), TensorBoardCharts()):
        said = f"one of pytorch_lightning, and {type(callback).__name__} needs one of lightning"
        with pytest.raises(ReasonEditError, match=said):
            callback.setup(type("Mine", (theirs,), {})(), Echo(), "predict")


def test_what_the_other_package_calls_alike_is_refused_alike():
    launcher = type("_MultiProcessingLauncher", (), {"__module__": "pytorch_lightning.strategies.launchers"})
    spawns = SimpleNamespace(strategy=SimpleNamespace(launcher=type("Mine", (launcher,), {})()))
    assert "forks or spawns" in str(spawning_error(spawns))
    assert spawning_error(SimpleNamespace(strategy=SimpleNamespace(launcher=None))) is None
    cuts = SimpleNamespace(strategy=type("FSDPStrategy", (), {})())
    with pytest.raises(ReasonEditError, match="FSDPStrategy cuts the model 'mine' into parts"):
        refuse_parts(cuts, "mine")


def test_fit_puts_facts_before_questions_of_validation_alone_and_says_what_it_leaves_out(
    book, tiny_vlm, tmp_path, caplog
):
    module, writer = Echo(tiny_vlm), PredictionWriter(tmp_path / "p.parquet")
    run = trainer(Retriever(book), EditingMetrics(), writer, max_epochs=1, num_sanity_val_steps=0)
    run.fit(module, loader(), loader())
    asked = dict(module.asked)
    assert asked["training"] == "What is number 1?"
    assert asked["validation"] == "The answer to 'What is number 1?' is thing 1. What is number 1?"
    assert not (tmp_path / "p.parquet").exists()
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and "trainer.fit" in r.getMessage()]
    assert [s.partition(" ")[0] for s in said] == ["Retriever", "EditingMetrics", "PredictionWriter"]
    assert "in trainer.fit facts come before the questions of validation, not of training" in said[0]


def test_a_batch_that_is_kept_gets_no_facts_before_facts(book, tiny_vlm):
    class Leaves(Echo):
        def transfer_batch_to_device(self, batch, device, dataloader_idx):
            return batch  # Lightning's own makes a new dict

    data = DataLoader(batches(), batch_size=None, collate_fn=lambda batch: batch)
    first = trainer(Retriever(book)).predict(Leaves(tiny_vlm), data)
    assert first == [["thing 0"], ["thing 1"]]
    with pytest.raises(ReasonEditError, match="has the facts of an earlier run before its questions"):
        trainer(Retriever(book)).predict(Leaves(tiny_vlm), data)


def test_a_copied_codebook_and_a_copied_retriever_read_the_folder_by_themselves(book, tiny_vlm):
    codebook, retriever = Codebook.load(book), Retriever(book)
    for _ in range(2):  # before a run and after it
        copies = copy.deepcopy([codebook, retriever])
        assert copies[0].held.memory is not codebook.memory
        assert (copies[0].edits, copies[0].design, copies[0].path) == (3, codebook.design, codebook.path)
        asked = trainer(copies[1]).predict(Echo(tiny_vlm), loader())
        assert asked == [["thing 0"], ["thing 1"]]
        assert copies[1]._pipeline.vlm is tiny_vlm  # a module's VLM is not copied with them
        assert trainer(codebook, retriever).predict(Echo(tiny_vlm), loader()) == asked
    mine, other = copy.deepcopy(codebook), copy.deepcopy(codebook)
    trainer(mine).predict(VLMModule(tiny_vlm, max_new_tokens=2), loader(batches(1, edits=[new_edit()])))
    assert (mine.edits, other.edits, len(Store.open(book).news().events)) == (4, 3, 4)


def new_edit():
    return Edit(picture(7), "What is number 0?", "another", ["Number 7 is square."], id="new")


def test_a_codebook_in_memory_is_copied_while_it_is_empty(tiny_vlm):
    codebook = Codebook(design=design(k=1))
    other = copy.deepcopy(codebook)
    for callback in (other, codebook):
        trainer(callback).predict(VLMModule(tiny_vlm, max_new_tokens=2), loader(batches(1, edits=[new_edit()])))
        assert callback.edits == 1
    with pytest.raises(ReasonEditError, match="whose edits are in memory alone cannot be copied"):
        copy.deepcopy(codebook)


def test_a_retriever_reads_the_disk_for_its_own_codebook_alone(book, tiny_vlm, monkeypatch):
    """The codebook of a callback is as it is in memory once the run has begun, however often it validates."""
    read, refresh = [], EditMemory.refresh
    monkeypatch.setattr(EditMemory, "refresh", lambda memory: (read.append(memory), refresh(memory))[1])
    for callbacks, times in (([Retriever(book)], 1 + 4), ([Codebook.load(book), Retriever()], 1)):
        read.clear()
        run = trainer(*callbacks, max_epochs=2, num_sanity_val_steps=0)
        run.fit(Echo(tiny_vlm), loader(), loader())  # two batches to validate per epoch
        assert len(read) == times


@pytest.mark.parametrize("edits", [3, "none", torch.zeros(2), ["brighter"]])
def test_somebodys_own_column_named_edits_does_no_harm(edits, tiny_vlm, tmp_path):
    ReasonEditor(tiny_vlm, design(k=1)).save(tmp_path / "empty")
    timer, metrics = QueryTimer(), EditingMetrics()
    run = trainer(
        timer, Retriever(tmp_path / "empty"), metrics, TensorBoardCharts(), logger=TensorBoardLogger(tmp_path)
    )
    assert len(run.predict(VLMModule(tiny_vlm, max_new_tokens=2), loader(batches(2, edits=edits)))) == 2
    assert metrics.results["rel"][1] == timer.queries == 2


def test_a_round_without_probes_takes_nothing_from_the_one_before(tiny_vlm):
    class Unlike(L.Callback):
        def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            batch["retrieved"] = [Retrieval([], 0.0, 0.0, in_range=False)]

    metrics = EditingMetrics()
    trainer(Unlike(), metrics).predict(VLMModule(tiny_vlm, max_new_tokens=2), loader([*batches(1), *to_edit_alone()]))
    assert metrics.results["rel"][1] == 1
    assert metrics.out_of_range == (1.0, 1)


def test_edits_are_written_in_predict_only_and_the_folder_is_free_meanwhile(book, tiny_vlm, caplog):
    codebook = Codebook.load(book)
    edit = Edit(picture(9), "What is it?", "a boat", ["It is round."])
    other = ReasonEditor.load(book, vlm=tiny_vlm)

    class Meanwhile(L.Callback):
        def on_test_batch_end(self, *_):
            other.edit(picture(8), "Who?", answer="nobody", reasoning="Nobody is there.")

    trainer(codebook, Retriever(), Meanwhile()).test(
        VLMModule(tiny_vlm, max_new_tokens=2), loader(batches(1, edits=[edit]))
    )
    assert "Codebook works in trainer.predict: in trainer.test nothing is edited." in caplog.text
    assert edit.id not in codebook.memory.edits
    assert len(other.edits) == 4


@pytest.mark.parametrize("function", ["validate", "test", "fit"])
def test_a_stream_outside_of_predict_says_where_it_belongs(tiny_vlm, function):
    with pytest.raises(ReasonEditError, match=r"An EditStream runs in trainer\.predict"):
        getattr(trainer(max_epochs=1), function)(Echo(tiny_vlm), datamodule=EditStream(ToySource(1)))


def test_a_log_is_not_touched_by_a_function_that_it_does_not_serve(tiny_vlm, tmp_path, caplog):
    kept = tmp_path / "log.0.jsonl"
    kept.write_text("what was answered\n")
    trainer(RunLog(tmp_path / "log")).test(VLMModule(tiny_vlm, max_new_tokens=2), loader())
    assert kept.read_text() == "what was answered\n"
    assert "RunLog works in trainer.predict: trainer.test is left alone." in caplog.text


def test_several_loaders_give_several_lists_of_predictions(book, tiny_vlm):
    told = trainer(Retriever(book)).predict(
        Echo(tiny_vlm), [loader(), loader()], return_predictions=True, ckpt_path=None
    )
    assert told == [[["thing 0"], ["thing 1"]]] * 2


# ---- which VLM


@pytest.fixture(scope="module")
def other_vlm(tmp_path_factory):
    return load_vlm(str(save_tiny_llava(tmp_path_factory.mktemp("other"), tower="clip")), dtype="float32")


REFUSED = "was made with another model or setting"


def ask(callbacks, vlm, made=None):
    return trainer(*callbacks).predict(Echo(vlm), loader(made))


def to_edit_alone():
    """What no metric counts."""
    return [{**batch, "groups": [""]} for batch in to_edit()]


def to_edit():
    return batches(1, edits=[Edit(picture(0), "What is number 0?", "a boat", ["It is round."])])


def test_a_codebook_of_another_vlm_is_refused_wherever_it_comes_from(book, tiny_vlm, other_vlm):
    for callbacks in ([Retriever(book)], [Codebook.load(book)], [Codebook.load(book), Retriever()]):
        with pytest.raises(ReasonEditError, match=REFUSED):
            ask(callbacks, other_vlm)
        assert len(ask(callbacks, tiny_vlm)) == 2  # the same callbacks are as good as before with the right one


def test_so_is_one_without_an_edit_whose_statistics_are_those_of_another_vlm(tiny_vlm, other_vlm, tmp_path):
    ReasonEditor(tiny_vlm, design()).save(tmp_path / "empty")
    for callback in (Retriever(tmp_path / "empty"), Codebook.load(tmp_path / "empty")):
        with pytest.raises(ReasonEditError, match=REFUSED):
            ask([callback], other_vlm)


@pytest.mark.parametrize("folder", [True, False], ids=["in a folder", "in memory"])
def test_one_callback_before_two_modules_is_checked_each_time(tiny_vlm, other_vlm, tmp_path, folder):
    codebook = Codebook(tmp_path / "book" if folder else None, design())
    retriever = Retriever()
    ask([codebook, retriever], tiny_vlm, to_edit())
    assert codebook.edits == 1
    with pytest.raises(ReasonEditError, match=REFUSED):
        ask([codebook, retriever], other_vlm)
    with pytest.raises(ReasonEditError, match="has no attribute 'vlm' that is a reasonedit VLM"):
        ask([codebook, retriever], None)
    codebook.memory.undo(next(iter(codebook.memory.edits)))  # what was undone can come back
    with pytest.raises(ReasonEditError, match=REFUSED):
        ask([codebook, retriever], other_vlm)
    ask([codebook, retriever], tiny_vlm)


class Restored(Echo):
    """Somebody's module whose checkpoints have the weights of the VLM in them."""

    def __init__(self, vlm):
        super().__init__(vlm)
        self.net = vlm.model

    def validation_step(self, batch, batch_idx):
        return self.predict_step(batch, batch_idx)


@pytest.fixture
def restored(tiny_folder, tmp_path):
    """Makes a module afresh, and checkpoints of it: as it is, and after a training."""

    def make():
        return Restored(load_vlm(str(tiny_folder), dtype="float32"))

    run, module = trainer(), make()
    run.strategy.connect(module)
    for name, factor in (("same", 1), ("trained", 2)):
        with torch.no_grad():
            for weight in module.vlm.model.get_submodule("model.vision_tower").parameters():
                weight.mul_(factor)
        run.save_checkpoint(tmp_path / f"{name}.ckpt", weights_only=True)
    return make


ANOTHER = r"was made with another model or setting \(another vision weights"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_checkpoint_that_makes_another_vlm_of_it_is_refused(book, restored, tmp_path, function):
    metrics = EditingMetrics()
    getattr(trainer(Retriever(book), metrics), function)(restored(), loader(), ckpt_path=str(tmp_path / "same.ckpt"))
    assert metrics.results == {"rel": (1, 2)}
    with pytest.raises(ReasonEditError, match=ANOTHER):
        getattr(trainer(Retriever(book)), function)(restored(), loader(), ckpt_path=str(tmp_path / "trained.ckpt"))


def test_so_it_is_by_a_codebook_in_memory_once_it_has_an_edit(restored, tmp_path):
    codebook, asked = Codebook(design=design(k=1)), batches(edits=[Edit(picture(5), "Who?", "nobody", ["Nobody is."])])
    trainer(codebook).predict(restored(), loader(asked), ckpt_path=str(tmp_path / "trained.ckpt"))
    assert codebook.edits == 1
    with pytest.raises(ReasonEditError, match=ANOTHER):
        trainer(codebook).predict(restored(), loader(asked))
    codebook = Codebook(design=design(k=1))
    trainer(codebook).predict(restored(), loader(asked))
    with pytest.raises(ReasonEditError, match=ANOTHER):
        trainer(codebook).predict(restored(), loader(asked), ckpt_path=str(tmp_path / "trained.ckpt"))


def test_a_codebook_that_is_nothing_yet_belongs_to_no_vlm(tiny_vlm, other_vlm):
    codebook = Codebook(design=design())
    ask([codebook], tiny_vlm)
    ask([codebook], other_vlm, to_edit())
    assert codebook.pipeline.vlm is other_vlm
    assert codebook.edits == 1
    with pytest.raises(ReasonEditError, match=REFUSED):
        ask([codebook], tiny_vlm)


def test_a_retriever_follows_the_codebook_beside_it(tiny_vlm, tmp_path):
    """It is used in two trainers one after the other: the second's codebook counts, not the first's."""
    retriever = Retriever(k=1)
    codebooks = [Codebook(tmp_path / str(i), design()) for i in range(2)]
    ask([codebooks[0], retriever], tiny_vlm, to_edit())
    assert ask([codebooks[0], retriever], tiny_vlm, batches(1)) == [["a boat"]]
    assert ask([codebooks[1], retriever], tiny_vlm, batches(1)) == [[""]]


def test_without_a_vlm_it_is_said_where_one_is_named():
    for callback in (TokenShares(), Codebook()):
        with pytest.raises(ReasonEditError, match=r"give it vlm = reasonedit\.vlm\.as_vlm\(model, processor\), or"):
            trainer(callback).predict(Echo(), loader())


def test_two_vlms_at_work_are_said_once(book, tmp_path, caplog):
    folder = str(FAMILIES["qwen3_vl"](tmp_path / "theirs"))
    module = Echo()
    module.net = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    retriever = Retriever(book)
    for _ in range(2):
        trainer(retriever).predict(module, loader())
    said = [r.getMessage() for r in caplog.records if "answers with a model of its own" in r.getMessage()]
    assert len(said) == 1
    assert f"(Qwen3VLForConditionalGeneration '{folder}')" in said[0]
    assert f"embedded by '{Store.open(book).manifest.config['model']}', loaded beside it" in said[0]
    assert all(parameter.requires_grad for parameter in module.net.parameters())  # theirs is left as it was


# ---- company


def test_a_vlm_beside_a_module_goes_to_the_device_of_the_run(tiny_vlm, monkeypatch):
    """Lightning moves its module there only after the set-up."""
    moved = []
    monkeypatch.setattr(tiny_vlm.model, "to", moved.append)
    monkeypatch.setattr("reasonedit.callbacks.model.load_vlm", lambda name: tiny_vlm)
    device = torch.device("cuda:1")
    run = SimpleNamespace(strategy=SimpleNamespace(root_device=device))
    HeldPipeline(design(k=1), "a VLM").attach(run, Echo(), lambda sentence: None)
    assert moved == [device]
    HeldPipeline(design(k=1)).attach(run, Echo(tiny_vlm), lambda sentence: None)  # Lightning moves the module's own
    assert moved == [device]


def test_two_retrievers_or_two_editors_in_one_trainer_are_refused(book, tiny_vlm):
    for callbacks, said in (
        ([Retriever(book), Retriever(book)], "Two Retrievers in one trainer"),
        ([Codebook(), Codebook()], "Codebook and Codebook would edit the same samples"),
        ([Codebook(), IKE()], "Codebook and IKE would edit the same samples"),
    ):
        with pytest.raises(ReasonEditError, match=said):
            ask(callbacks, tiny_vlm)


def test_the_order_of_callbacks_is_free_or_refused(book, tiny_vlm, tmp_path):
    for callbacks in ([Codebook(design=design()), Retriever()], [Retriever(), Codebook(design=design())]):
        assert ask(callbacks, tiny_vlm, [*to_edit(), *batches(1)]) == [[""], ["a boat"]]
    for callbacks, said in (
        ([Retriever(book), QueryTimer()], "QueryTimer must stand before Retriever"),
        ([Codebook(), RunLog(tmp_path / "log")], "RunLog must stand before Codebook"),
        ([TensorBoardCharts(), Codebook()], "TensorBoardCharts must stand behind Codebook"),
    ):
        with pytest.raises(ReasonEditError, match=said):
            ask(callbacks, tiny_vlm)


def test_a_callback_in_two_runs_at_once_is_refused(book, tiny_vlm):
    metrics, said = EditingMetrics(), []

    class Within(L.Callback):
        def on_predict_batch_end(self, *_):
            with pytest.raises(
                ReasonEditError, match="This EditingMetrics is in the run of another trainer right now"
            ) as e:
                ask([metrics], tiny_vlm)
            said.append(str(e.value))

    ask([metrics, Within()], tiny_vlm)
    assert len(said) == 2
    assert metrics.results["rel"][1] == 2
    ask([metrics], tiny_vlm)  # one run after the other is fine, also after one that failed
    with pytest.raises(ReasonEditError, match="finds no 'prompts'"):
        ask([metrics, Retriever(book)], tiny_vlm, [{"images": []}])
    ask([metrics], tiny_vlm)


def test_two_editors_of_layers_do_not_share_a_model_at_once(tiny_vlm):
    said = []

    class Within(L.Callback):
        def on_predict_batch_end(self, *_):
            with pytest.raises(ReasonEditError, match="Another editor works on the layers of the model") as e:
                ask([FineTuning()], tiny_vlm)
            said.append(str(e.value))

    ask([FineTuning(), Within()], tiny_vlm)
    assert len(said) == 2
    assert "shares_prefix" not in tiny_vlm.__dict__


# ---- threads


def test_runs_and_a_server_on_one_vlm_and_one_codebook_do_not_mix(book, tiny_vlm):
    """Trainers in threads of their own, and an editor that is asked meanwhile: all get what they get one by one."""
    made = [batches(3)[i % 3] for i in range(6)]

    def run(function):
        metrics, writer = EditingMetrics(), PredictionWriter(book.parent / f"{threading.get_ident()}.parquet")
        getattr(trainer(Retriever(book), metrics, writer), function)(
            VLMModule(tiny_vlm, max_new_tokens=3), loader(made)
        )
        return metrics.results, [(r["prompt"], r["answer"], r["nearest"], r["distances"]) for r in writer.rows]

    def serve(function):
        editor = ReasonEditor.load(book, vlm=tiny_vlm)
        answers = [editor.ask(picture(i % 4), f"What is number {i % 4}?") for i in range(8)]
        return [(a.prompt, a.text, a.nearest, [(h.fact, h.distance) for h in a.hits]) for a in answers]

    jobs = [(run, "predict"), (serve, ""), (run, "test"), (serve, "")]
    alone = [job(function) for job, function in jobs]
    with ThreadPoolExecutor(len(jobs)) as pool:
        together = list(pool.map(lambda one: one[0](one[1]), jobs))
    assert together == alone


def test_after_a_run_the_vlm_is_where_it_was(tiny_vlm, monkeypatch):
    """Lightning moves a module to the CPU when its run is over; a server may be asking the VLM on a GPU."""
    module, moved = VLMModule(tiny_vlm, max_new_tokens=2), []
    monkeypatch.setattr(module, "to", lambda device: moved.append(str(device)) or module)
    module._home = torch.device("cuda:1")
    trainer().predict(module, loader())
    with pytest.raises(ReasonEditError):
        trainer().predict(module, loader([{}]))
    assert moved == ["cpu", "cuda:1"] * 2
    assert module.cpu() is module  # somebody's own wish
    assert len(moved) == 4


def test_beside_a_run_that_writes_others_read_and_are_told_to_wait(tiny_vlm, tmp_path):
    codebook = Codebook(tmp_path / "book", design(k=1))
    seen = []

    def meanwhile():
        other = ReasonEditor.load(tmp_path / "book", vlm=tiny_vlm)
        other.memory.store._lock._patience = 0.01
        with pytest.raises(ReasonEditError, match=r"is being written by .*Reading it is possible all the time"):
            other.edit(picture(7), "Who?", answer="nobody", reasoning="Nobody is there.")
        return other.ask(picture(0), "What is number 0?").hits[0].fact

    class Within(L.Callback):
        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            if batch["phase"] == "probe" and not seen:
                with ThreadPoolExecutor(1) as pool:
                    seen.append(pool.submit(meanwhile).result())
                seen.append(meanwhile())  # and in the run's own thread

    stream = EditStream(ToySource(2), batch_size=2)
    with ThreadPoolExecutor(1) as pool:  # a trainer in a thread sets no signal handlers, and needs none
        pool.submit(
            trainer(codebook, Retriever(), Within()).predict, VLMModule(tiny_vlm, max_new_tokens=3), datamodule=stream
        ).result()
    assert seen == ["The answer to 'What is number 0?' is thing 0."] * 2
    after = ReasonEditor.load(tmp_path / "book", vlm=tiny_vlm)
    after.edit(picture(7), "Who?", answer="nobody", reasoning="Nobody is there.")
    assert len(after.edits) == codebook.edits + 1


@pytest.mark.parametrize("shown", [True, False])
def test_hyperparameters_that_tensorboard_would_not_show_are_said(shown, tmp_path, caplog):
    class Saves(Echo):
        def __init__(self, width):
            super().__init__()
            self.save_hyperparameters()

    logger = TensorBoardLogger(tmp_path, name="tb", version="", default_hp_metric=not shown)
    trainer(EditingMetrics(), TensorBoardCharts({"mine": 1}), logger=logger).predict(Saves(3), loader())
    metadata = EventAccumulator(str(tmp_path / "tb")).Reload().summary_metadata
    assert ("mine" in str(metadata["_hparams_/session_start_info"])) == shown
    assert ("TensorBoard shows the first hyperparameters in a folder alone" in caplog.text) == (not shown)


def test_each_chart_of_tensorboard_has_one_line_for_a_run():
    import re

    from reasonedit.callbacks.charts import LAYOUT
    from reasonedit.groups import LABELS

    tags = [f"{place}/{group}" for place in ("edit", "exact_match", "token_accuracy", "final") for group in LABELS]
    for charts in LAYOUT.values():
        for label, (_, patterns) in charts.items():
            found = [tag for tag in tags for pattern in patterns if re.search(pattern, tag)]
            assert [LABELS[tag.removeprefix("edit/")] for tag in found] == [label]
