"""A run that was cut short goes on: no edit twice, nothing asked twice, and the same metrics as an undisturbed one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pyarrow.parquet as pq
import pytest
from helpers import datasets
from helpers.families import FAMILIES
from helpers.tiny import design
from helpers.toy import ToySource
from helpers.waiting import wait_until
from test_store import the_same

from reasonedit import EditStream, ReasonEditError, VLMModule
from reasonedit.callbacks import Codebook, EditingMetrics, PredictionWriter, Retriever, RunLog
from reasonedit.cli import main
from reasonedit.codebook import EditMemory, Store

DESIGN = design(keys="both", merge=True)
pytestmark = pytest.mark.usefixtures("hash_encoder")
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


class Asked(VLMModule):
    """Counts what the VLM was asked."""

    def predict_step(self, batch, batch_idx=0, dataloader_idx=0):
        self.asked = getattr(self, "asked", 0) + (0 if "answers" in batch else len(batch["prompts"]))
        return super().predict_step(batch, batch_idx, dataloader_idx)


class Stop(L.Callback):
    """Ends the run like a power cut: nothing that others do on an exception is done."""

    def __init__(self, at: int, written: bool) -> None:
        self.at, self.written = at, written

    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if batch_idx == self.at:
            trainer.callbacks = [c for c in trainer.callbacks if isinstance(c, Codebook)]  # which lets go of its lock
            raise RuntimeError("cut short")


def run(tiny_vlm, folder: Path, stop: Stop | None = None, resume: bool = False, source=None):
    module = Asked(tiny_vlm, max_new_tokens=2)
    book, metrics = Codebook(folder / "book", DESIGN), EditingMetrics()
    if resume and Store.there(folder / "book"):
        book.go_on(Store.open(folder / "book"))
    parts = [RunLog(folder / "answers", resume), book, Retriever(k=3, percentile=60), metrics]
    parts.append(PredictionWriter(folder / "p.parquet"))
    if stop is not None:
        parts.insert(1 if not stop.written else len(parts), stop)
    trainer = L.Trainer(accelerator="cpu", devices=1, callbacks=parts, **QUIET)
    trainer.predict(module, datamodule=EditStream(source or ToySource(5), batch_size=2, interleave=3))
    return module, book, metrics


@pytest.mark.parametrize("written", [False, True], ids=["before the edits", "after the edits"])
@pytest.mark.parametrize("at", [0, 1, 2, 4, 5])
def test_cut_short_anywhere_it_ends_as_if_it_had_not_been(tiny_vlm, tmp_path, at, written):
    whole, _, metrics = run(tiny_vlm, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="cut short"):
        run(tiny_vlm, tmp_path / "cut", Stop(at, written))
    assert not (tmp_path / "cut" / "p.parquet").exists()
    rest, book, resumed = run(tiny_vlm, tmp_path / "cut", resume=True)
    assert 0 < rest.asked < whole.asked  # what was answered is not asked again
    assert resumed.results == metrics.results
    assert resumed.history == metrics.history
    tables = [pq.read_table(tmp_path / name / "p.parquet").to_pylist() for name in ("whole", "cut")]
    assert tables[0] == tables[1]
    memories = [EditMemory.open(Store.open(tmp_path / name / "book")) for name in ("whole", "cut")]
    assert list(memories[1].edits) == list(memories[0].edits)
    assert memories[1].keys.tolist() == memories[0].keys.tolist()
    assert memories[1].entries == memories[0].entries
    the_same(book.memory, memories[1])


def test_a_log_of_another_stream_is_refused(tiny_vlm, tmp_path):
    with pytest.raises(RuntimeError, match="cut short"):
        run(tiny_vlm, tmp_path, Stop(1, True))

    class Other(ToySource):
        def candidates(self):
            yield from list(super().candidates())[1:]

    with pytest.raises(ReasonEditError, match=r"asked 'What is number 0\?' where 'What is number 1\?' comes now"):
        run(tiny_vlm, tmp_path, resume=True, source=Other(5))


def test_a_row_that_was_cut_in_two_is_asked_again(tiny_vlm, tmp_path):
    with pytest.raises(RuntimeError, match="cut short"):
        run(tiny_vlm, tmp_path / "cut", Stop(2, True))
    log = tmp_path / "cut" / "answers.0.jsonl"
    log.write_bytes(log.read_bytes()[:-30])
    run(tiny_vlm, tmp_path / "whole")
    run(tiny_vlm, tmp_path / "cut", resume=True)
    tables = [pq.read_table(tmp_path / name / "p.parquet").to_pylist() for name in ("whole", "cut")]
    assert tables[0] == tables[1]


def test_a_killed_command_goes_on(tmp_path, hash_encoder, capsys):
    model, data = FAMILIES["llava"](tmp_path / "model"), datasets.own(tmp_path / "data")
    config = tmp_path / "run.yaml"
    config.write_text(
        json.dumps(
            {
                "seed_everything": 0,
                "model": {
                    "class_path": "reasonedit.VLMModule",
                    "init_args": {"model": str(model), "max_new_tokens": 3, "dtype": "float32"},
                },
                "data": {
                    "class_path": "reasonedit.EditStream",
                    "init_args": {
                        "source": {"class_path": "reasonedit.data.EditFile", "init_args": {"path": str(data)}},
                        "batch_size": 1,
                    },
                },
                "trainer": {
                    "accelerator": "cpu",
                    "callbacks": [
                        {
                            "class_path": "reasonedit.callbacks.Codebook",
                            "init_args": {"design": {"embedding": {"encoder": "hash", "text_weight": 1.0}}},
                        },
                        {"class_path": "reasonedit.callbacks.Retriever"},
                        {"class_path": "reasonedit.callbacks.EditingMetrics"},
                        {"class_path": "reasonedit.callbacks.PredictionWriter"},
                        {"class_path": "helpers.waiting.Holds"},
                    ],
                },
            }
        )
    )
    assert main(["run", "--config", str(config), "--out", str(tmp_path / "whole")]) == 0
    code = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]\n"
        "from helpers.tiny import HashEncoder; from reasonedit.embedding import SentenceEncoder\n"
        "SentenceEncoder.from_pretrained = classmethod(lambda cls, name='hash', device=None: HashEncoder())\n"
        "from reasonedit.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    call = [sys.executable, "-c", code, "run", "--config", str(config), "--out", str(tmp_path / "cut")]
    held = tmp_path / "held"
    environment = {**os.environ, "HOLD": str(held)}
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=said, env=environment) as process,
    ):
        wait_until(held.exists, process)
        process.kill()
    assert (tmp_path / "cut" / "codebook" / "journal.jsonl").read_bytes().count(b"\n") > 1
    assert not (tmp_path / "cut" / "metrics.json").exists()
    capsys.readouterr()
    assert main(["run", "--resume", str(tmp_path / "cut")]) == 0
    tables = [pq.read_table(tmp_path / name / "predictions.parquet").to_pylist() for name in ("whole", "cut")]
    assert tables[0] == tables[1]
    found = [json.loads((tmp_path / name / "metrics.json").read_text())["reasonedit"] for name in ("whole", "cut")]
    for one in found:
        del one["seconds_per_edit"], one["ms_per_query"]
    assert found[0] == found[1]
    assert not (tmp_path / "cut" / "log").exists()
    assert main(["run", "--resume", str(tmp_path / "cut")]) == 1
    assert "is finished" in capsys.readouterr().err
    assert main(["run", "--resume", str(tmp_path / "none")]) == 1
    assert "There is no run to go on with" in capsys.readouterr().err
