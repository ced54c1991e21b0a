"""Real runs of several processes under Lightning's ddp: the same edits, the same answers, however many there are."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from helpers.tiny import design, picture, save_tiny_llava
from helpers.waiting import CEILING
from helpers.writer import make_edit
from lightning.pytorch.plugins.precision import Precision

from reasonedit import Edit, ReasonEditError, ReasonEditor, VLMModule
from reasonedit.callbacks import Codebook
from reasonedit.callbacks.baselines import IKE
from reasonedit.codebook import Draft, EditMemory, Store
from reasonedit.codebook.draft_messages import pack_drafts, unpack_drafts
from reasonedit.ranks import refuse_parts

TOLERANCE = 1e-5
"""Of keys and radii, in units of the embedding, in float32: batches differ in size, and so in how sums are rounded."""

_HEAD = """
import json, os, signal, sys, threading, time
sys.path[:0] = [{tests!r}]
import lightning as L
from helpers.tiny import HashEncoder, design, picture
from helpers.toy import ToySource
from torch.utils.data import DataLoader
from reasonedit import EditStream, VLMModule
from reasonedit.callbacks import Codebook, EditingMetrics, PredictionWriter, Retriever
from reasonedit.embedding import SentenceEncoder
SentenceEncoder.from_pretrained = classmethod(lambda cls, name="hash", device=None: HashEncoder())
quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
ranks, out = int(sys.argv[1]), sys.argv[2]
import reasonedit.ranks
reasonedit.ranks.pulse.PATIENCE = 900.0  # a rank that is slow on a busy machine is not gone
"""

_STREAM = (
    _HEAD
    + """
class Logger(L.pytorch.loggers.Logger):
    name, version, seen = "memory", 0, []
    def log_hyperparams(self, *args, **options): pass
    def log_metrics(self, metrics, step=None): self.seen.append((step, metrics))

class Slow(L.Callback):
    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if os.environ.get("DIES") == str(trainer.global_rank) and batch_idx == 2:
            if os.environ["HOW"] == "raise":
                raise RuntimeError("this rank has had enough")
            open(out + "/stops", "w").close()
            os.kill(os.getpid(), signal.SIGKILL if os.environ["HOW"] == "kill" else signal.SIGSTOP)

def notice():  # only once a rank is gone the other is quick to notice
    while not os.path.exists(out + "/stops"):
        time.sleep(0.1)
    reasonedit.ranks.pulse.PATIENCE = 5.0

threading.Thread(target=notice, daemon=True).start()
writer, metrics, book = PredictionWriter(out + "/p.parquet"), EditingMetrics(), Codebook(
    out + "/book", design(keys="both", merge=True))
logger = Logger()
trainer = L.Trainer(
    accelerator="cpu", devices=ranks, strategy="ddp" if ranks > 1 else "auto",
    callbacks=[book, Retriever(k=3, percentile=40), metrics, writer, Slow()], **{{**quiet, "logger": logger}})
stream = EditStream(ToySource({edits}), batch_size=3, interleave={interleave})
trainer.predict(VLMModule({model!r}, dtype="float32", max_new_tokens=3), datamodule=stream)
open(out + f"/results-{{trainer.global_rank}}.json", "w").write(json.dumps(
    [metrics.results, sorted(metrics.history), book.edits, book.keys, sorted(book.seconds), logger.seen]))
"""
)


@contextmanager
def running(tmp_path: Path, script: str, ranks: int, **values):
    """A process with its ranks, and the file of what they say: a process that hangs would keep a pipe open."""
    out = tmp_path / f"ranks-{ranks}"
    out.mkdir()
    script_path = tmp_path / f"run-{ranks}.py"
    script_path.write_text(script.format(tests=str(Path(__file__).parent), **values))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "REASONEDIT_CACHE": str(tmp_path / f"cache-{ranks}")}
    environment |= values.get("env", {})
    said = tmp_path / f"said-{ranks}"
    with (
        said.open("w") as file,
        subprocess.Popen(
            [sys.executable, script_path, str(ranks), out], stdout=file, stderr=file, env=environment
        ) as process,
    ):
        yield process, said


def run(tmp_path: Path, script: str, ranks: int, **values) -> tuple[int, str]:
    with running(tmp_path, script, ranks, **values) as (process, said):
        code = process.wait(timeout=CEILING)
    return code, said.read_text()


@pytest.mark.parametrize(
    ("edits", "interleave", "counts"),
    [
        # Batches of 3, 3 and 1 edits: uneven ends, fewer samples than ranks, ranks with nothing to do.
        pytest.param(7, 3, (1, 2), id="uneven"),
        pytest.param(7, 3, (1, 4), id="four ranks", marks=pytest.mark.slow),
        pytest.param(1, None, (1, 2), id="one edit", marks=pytest.mark.slow),
    ],
)
def test_edits_predictions_and_metrics_are_those_of_one_rank(tmp_path, tiny_folder, edits, interleave, counts):
    seen = {}
    for ranks in counts:
        code, said = run(tmp_path, _STREAM, ranks, model=str(tiny_folder), edits=edits, interleave=interleave)
        assert code == 0, said[-3000:]
        out = tmp_path / f"ranks-{ranks}"
        results = [json.loads((out / f"results-{r}.json").read_text()) for r in range(ranks)]
        for one in results[1:]:
            assert one[:5] == results[0][:5]  # every rank has the same codebook and the same metrics
            assert one[5] == []  # and rank 0 alone logs them
        assert results[0][2] == edits
        memory = EditMemory.open(Store.open(out / "book"))
        table = pq.read_table(out / "p.parquet").to_pylist()
        assert [p.name for p in out.glob("p*")] == ["p.parquet"]
        seen[ranks] = (results[0], memory, table)
    one, memory, table = seen[1]
    assert one[5]  # something was logged
    for ranks in counts[1:]:
        results, other, rows = seen[ranks]
        assert results == one
        assert list(other.edits) == list(memory.edits)
        assert other.entries == memory.entries
        assert torch.allclose(other.keys, memory.keys, atol=TOLERANCE)
        assert torch.allclose(other.radii, memory.radii, atol=TOLERANCE)
        close = ("distances", "nearest", "threshold")
        assert [{k: v for k, v in r.items() if k not in close} for r in rows] == [
            {k: v for k, v in r.items() if k not in close} for r in table
        ]
        for mine, theirs in zip(rows, table, strict=True):
            assert mine["distances"] == pytest.approx(theirs["distances"], abs=TOLERANCE)
            assert mine["nearest"] == pytest.approx(theirs["nearest"], abs=TOLERANCE)
    # A question sees the edits of all batches before its own, and no others.
    known = []
    for row in table:
        assert set(row["fact_edits"]) <= set(known[: row["edits"]])
        if row["phase"] == "edit" and row["edit"] in memory.edits:
            known.append(row["edit"])


@pytest.mark.parametrize(
    ("dies", "how"),
    [
        pytest.param(1, "raise", marks=pytest.mark.slow),
        (1, "kill"),
        pytest.param(0, "kill", marks=pytest.mark.slow),
        pytest.param(1, "stop", marks=pytest.mark.slow),
        pytest.param(0, "stop", marks=pytest.mark.slow),
    ],
)
def test_a_rank_that_dies_ends_the_run_and_the_codebook_is_good(tmp_path, tiny_folder, dies, how):
    env = {"DIES": str(dies), "HOW": how}
    said_by = [f"Rank {1 - dies} cannot reach the other ranks any more"]
    if dies == 1 and how != "stop":  # rank 0 started it: there Lightning, which looks every 5 s, may come first
        said_by.append("Forcefully terminating all other processes")
    left: list[str] = []
    stays = how == "stop" and dies == 0  # rank 1 is ended by rank 0, which started it
    with running(tmp_path, _STREAM, 2, model=str(tiny_folder), edits=9, interleave=None, env=env) as (process, said):
        end = time.monotonic() + CEILING
        while time.monotonic() < end:
            time.sleep(0.2)
            left = subprocess.run(["pgrep", "-f", tmp_path], capture_output=True, text=True, check=False).stdout.split()
            if len(left) <= stays and (process.poll() is not None or any(text in said.read_text() for text in said_by)):
                break
            process.poll()
        for number in left:
            os.kill(int(number), signal.SIGKILL)
        assert any(text in said.read_text() for text in said_by)
        assert len(left) == stays, "a rank lives on"
        assert process.wait() != 0
    if how == "raise":
        assert "this rank has had enough" in said.read_text()
    assert not list((tmp_path / "ranks-2").glob("results-*"))
    memory = EditMemory.open(Store.open(tmp_path / "ranks-2" / "book"))
    assert len(memory.edits) in (6, 9)  # whole batches


_RETRIEVE = (
    _HEAD
    + """
class Echo(L.LightningModule):
    def __init__(self, vlm):
        super().__init__()
        self.vlm = vlm
        self.model = vlm.model
    def predict_step(self, batch, batch_idx):
        return [p[:3] for p in batch["prompts"]]

batches = [  # three batches on two ranks: one rank has twice as much, and rel is asked on one rank only
    {{"images": [picture(0)], "prompts": ["What is number 0?"], "targets": ["the"], "groups": ["rel"], "ids": ["a"]}},
    {{"images": [picture(50)], "prompts": ["Who?"], "targets": ["who"], "groups": ["loc"], "ids": ["b"]}},
    {{"images": [picture(1), picture(60)], "prompts": ["What is number 1?", "Why?"], "targets": ["the", "no"],
      "groups": ["rel", "loc"], "ids": ["c", "d"]}},
]
metrics = EditingMetrics()
trainer = L.Trainer(
    accelerator="cpu", devices=2, strategy="ddp",
    callbacks=[Retriever({book}, k=1, percentile=5), metrics, PredictionWriter(out + "/p.parquet")], **quiet,
)
vlm = VLMModule({model!r}, dtype="float32").vlm
trainer.predict(Echo(vlm), DataLoader(batches, batch_size=None, collate_fn=dict))
open(out + f"/results-{{trainer.global_rank}}.json", "w").write(json.dumps(metrics.results))
"""
)


@pytest.mark.slow  # ranks that share are checked above, a module of one's own in test_trainer, metrics in test_metrics
def test_two_ranks_share_a_codebook_and_agree_on_the_metrics(tiny_folder, tmp_path, hash_encoder):
    editor = ReasonEditor.from_pretrained(str(tiny_folder), design(), dtype="float32")
    for i in range(3):
        editor.edit(picture(i), f"What is number {i}?", answer=f"thing {i}", reasoning=f"Number {i} is round.")
    editor.save(tmp_path / "book")
    code, said = run(tmp_path, _RETRIEVE, 2, model=str(tiny_folder), book=repr(str(tmp_path / "book")))
    assert code == 0, said[-2000:]
    out = tmp_path / "ranks-2"
    results = [json.loads((out / f"results-{r}.json").read_text()) for r in range(2)]
    assert results[0] == results[1]
    assert results[0]["rel"] == [1.0, 2]  # "The answer to …" was put before both
    assert results[0]["loc"][1] == 2
    assert sorted(r["id"] for r in pq.read_table(out / "p.parquet").to_pylist()) == ["a", "b", "c", "d"]


_ANOTHER = (
    _HEAD
    + """
callbacks = [Codebook.load({book}), Retriever()]
trainer = L.Trainer(accelerator="cpu", devices=2, strategy="ddp", callbacks=callbacks, **quiet)
stream = EditStream(ToySource(2))
try:
    trainer.predict(VLMModule({model!r}, dtype="float32"), datamodule=stream, return_predictions=False)
except ValueError as error:
    open(out + f"/said-{{trainer.global_rank}}", "w").write(f"{{type(error).__name__}}: {{error}}")
"""
)


@pytest.mark.slow
def test_all_ranks_refuse_the_codebook_of_another_vlm(tiny_vlm, tmp_path, hash_encoder):
    ReasonEditor(tiny_vlm, design()).save(tmp_path / "book")  # there is no edit in it yet, but statistics
    other = save_tiny_llava(tmp_path / "other", tower="clip")
    code, said = run(tmp_path, _ANOTHER, 2, model=str(other), book=repr(str(tmp_path / "book")))
    assert code == 0, said[-2000:]
    for rank in range(2):
        told = (tmp_path / "ranks-2" / f"said-{rank}").read_text()
        assert told.startswith("MismatchError: The codebook in")
        assert "was made with another model or setting" in told


class FakeTrainer(SimpleNamespace):
    """Unlike a plain namespace, it can be referred to weakly, as a callback refers to its trainer."""


def test_edits_of_a_loader_that_is_not_in_step_are_refused():
    batch = {"prompts": ["What?"], "edits": [Edit(picture(0), "What?", "a boat", ["It is round."])]}
    with pytest.raises(ReasonEditError, match="in steps that all ranks take together: use an EditStream"):
        Codebook().on_predict_batch_end(SimpleNamespace(world_size=2), None, ["a drum"], batch, 0)
    with pytest.raises(ReasonEditError, match="IKE edits on one device only: use devices=1"):
        IKE().setup(FakeTrainer(world_size=2), None, "predict")


def test_a_model_that_is_spread_out_takes_one_process(tiny_vlm, monkeypatch):
    module = VLMModule(tiny_vlm)
    module._trainer = SimpleNamespace(world_size=2, precision_plugin=Precision())
    module.setup("predict")
    monkeypatch.setattr(tiny_vlm.model, "hf_device_map", {"a": 0, "b": 1}, raising=False)
    with pytest.raises(ReasonEditError, match="spread over 2 devices by device_map, which takes one process"):
        module.setup("predict")
    module._trainer = SimpleNamespace(world_size=1)
    module.setup("predict")


def test_edits_as_bytes_are_the_same_edits():
    drafts = [Draft.of(*make_edit(number)) for number in range(4)]
    drafts.append(Draft.of(make_edit(9)[0], []))
    found = unpack_drafts(pack_drafts(drafts, [{"place": i} for i in range(5)]))
    assert [told for _, told in found] == [{"place": i} for i in range(5)]
    for (one, _), other in zip(found, drafts, strict=True):
        assert one.edit == other.edit
        assert [(e.radius, e.fact, e.key.tolist()) for e in one.entries] == [
            (e.radius, e.fact, e.key.tolist()) for e in other.entries
        ]
        assert {n: p.tobytes() for n, p in one.pictures.items()} == {n: p.tobytes() for n, p in other.pictures.items()}
    assert unpack_drafts(pack_drafts([], [])) == []
    assert unpack_drafts(pack_drafts(drafts[:1], [{}]), pictures=False)[0][0].pictures == {}


_LAUNCH = (
    _HEAD
    + """
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.connectors import accelerator_connector
from reasonedit import ReasonEditError
from reasonedit.callbacks import QueryTimer
from reasonedit.callbacks.baselines import IKE

class Theirs(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.cannot_be_pickled = lambda: None
    def predict_step(self, batch, batch_idx):
        return batch["prompts"]
    test_step = predict_step

def data():
    return DataLoader([{{"prompts": ["What?"]}}], batch_size=None)

def launch(strategy, callbacks, ours, function="predict", devices=2, **options):
    trainer = L.Trainer(accelerator="cpu", devices=devices, strategy=strategy, callbacks=callbacks, **quiet)
    if ours:
        trainer.predict(VLMModule({model!r}), datamodule=EditStream(ToySource(2)), **options)
    else:
        getattr(trainer, function)(Theirs(), data(), **options)

if __name__ == "__main__":
    writer = PredictionWriter(out + "/p.parquet")
    made = lambda: [Codebook(out + "/book", design()), Retriever(), EditingMetrics(), writer]
    cases = {{}}
    for name in ("ddp_spawn", "ddp_fork", "ddp_notebook", "ddp_notebook_find_unused_parameters_true"):
        cases[name, "stream"] = lambda name=name: launch(name, made(), True, return_predictions=False)
        cases[name, "module"] = lambda name=name: launch(name, [QueryTimer()], False)
        cases[name, "editor"] = lambda name=name: launch(name, [IKE()], False)
        cases[name, "test"] = lambda name=name: launch(name, [EditingMetrics()], False, "test")
        cases[name, "alone"] = lambda name=name: launch(name, [QueryTimer()], False, devices=1)
        cases[name, "returned"] = lambda name=name: launch(name, [QueryTimer()], False, return_predictions=True)
    for method in ("spawn", "fork"):
        strategy = DDPStrategy(start_method=method)
        cases["an object", method] = lambda strategy=strategy: launch(strategy, [EditingMetrics()], False)
    cases["ddp_spawn", "no callbacks"] = lambda: launch("ddp_spawn", [], True)
    cases["auto", "in a notebook"] = lambda: launch("auto", made(), True)
    said = {{}}
    for case, call in cases.items():
        accelerator_connector._IS_INTERACTIVE = case[1] == "in a notebook"
        try:
            said[" ".join(case)] = call()
        except ReasonEditError as error:
            said[" ".join(case)] = str(error)
    open(out + "/said.json", "w").write(json.dumps(said))
"""
)


@pytest.mark.slow
def test_processes_that_are_forked_or_spawned_are_refused_where_they_were_asked_for(tiny_folder, tmp_path):
    code, printed = run(tmp_path, _LAUNCH, 1, model=str(tiny_folder))
    assert code == 0, printed[-3000:]
    said = json.loads((tmp_path / "ranks-1" / "said.json").read_text())
    assert len(said) == 28
    for case, sentence in said.items():
        assert sentence, f"{case}: not refused"
        assert "use strategy='ddp' from a script, or devices=1 with strategy='auto' (in a notebook)" in sentence, case
        assert "\n" not in sentence
    assert not list((tmp_path / "ranks-1").glob("book*"))
    assert not list((tmp_path / "ranks-1").glob("p*"))


@pytest.mark.parametrize("name", ["FSDPStrategy", "ModelParallelStrategy"])
def test_a_vlm_is_not_cut_into_parts(tiny_vlm, name):
    import lightning.pytorch.strategies as strategies

    trainer = SimpleNamespace(strategy=getattr(strategies, name)(), world_size=2)
    with pytest.raises(
        ReasonEditError, match=f"{name} cuts the model .* into parts, and it must be whole: use strategy="
    ):
        refuse_parts(trainer, "a VLM")
    module = VLMModule(tiny_vlm)
    module._trainer = trainer
    with pytest.raises(ReasonEditError, match=f"{name} cuts the model"):
        module.setup("predict")
