"""The callbacks in a real run of two processes under Lightning's ddp."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from helpers.tiny import design, picture

from reasonedit import ReasonEditor

_SCRIPT = """
import json, os, sys
sys.path[:0] = [{tests!r}]
import lightning as L
from helpers.tiny import HashEncoder, picture
from torch.utils.data import DataLoader
from reasonedit import VLMModule
from reasonedit.callbacks import Codebook, EditingMetrics, PredictionWriter, Retriever
from reasonedit.embedding import SentenceEncoder
SentenceEncoder.from_pretrained = classmethod(lambda cls, name="hash", device=None: HashEncoder())

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
quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
trainer = L.Trainer(
    accelerator="cpu", devices=2, strategy="ddp",
    callbacks=[{extra}Retriever({book!r}, k=1, percentile=5), metrics, PredictionWriter({out!r} + "/p.parquet")],
    **quiet,
)
vlm = VLMModule({model!r}, dtype="float32").vlm
trainer.predict(Echo(vlm), DataLoader(batches, batch_size=None, collate_fn=dict))
open({out!r} + f"/results-{{trainer.global_rank}}.json", "w").write(json.dumps(metrics.results))
"""


@pytest.fixture
def script(tiny_folder, tmp_path, hash_encoder):
    from pathlib import Path

    editor = ReasonEditor.from_pretrained(str(tiny_folder), design(), dtype="float32")
    for i in range(3):
        editor.edit(picture(i), f"What is number {i}?", answer=f"thing {i}", reasoning=f"Number {i} is round.")
    editor.save(tmp_path / "book")

    def write(extra=""):
        values = {"book": str(tmp_path / "book"), "out": str(tmp_path), "model": str(tiny_folder)}
        made = tmp_path / "run.py"
        made.write_text(_SCRIPT.format(tests=str(Path(__file__).parent), extra=extra, **values))
        return subprocess.run([sys.executable, made], capture_output=True, text=True, timeout=240, check=False)

    return write


def test_two_ranks_share_a_codebook_and_agree_on_the_metrics(script, tmp_path):
    done = script()
    assert done.returncode == 0, done.stderr[-2000:]
    results = [json.loads((tmp_path / f"results-{r}.json").read_text()) for r in range(2)]
    assert results[0] == results[1]
    assert results[0]["rel"] == [1.0, 2]  # "The answer to …" was put before both
    assert results[0]["loc"][1] == 2
    rows = [r for rank in range(2) for r in pq.read_table(tmp_path / f"p.{rank}.parquet").to_pylist()]
    assert sorted(r["id"] for r in rows) == ["a", "b", "c", "d"]


def test_editing_on_two_ranks_is_refused(script):
    done = script(extra="Codebook(), ")
    assert done.returncode != 0
    assert "Edits can be written on one device only for now" in done.stderr
