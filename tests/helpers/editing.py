"""Runs of an editor on a stream over a tiny VLM."""

from dataclasses import replace

import lightning as L

from helpers.toy import ToySource
from reasonedit import EditStream, VLMModule
from reasonedit.callbacks import EditingMetrics, PredictionWriter


class Letters(ToySource):
    """Toy edits whose answers are one letter each: so much a model of random weights can learn."""

    def candidates(self):
        for edit, letter in zip(super().candidates(), "qwxyzjkv", strict=False):
            yield replace(edit, answer=letter, id=f"edit-{letter}")


def run(vlm, *callbacks, edits=3, source=Letters, longest=2, stream=None, metrics=None, accelerator="cpu", **options):
    writer = PredictionWriter(options.pop("path"))
    stream = EditStream(source(edits), batch_size=2, check=True, **(stream or {}))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=1,
        logger=False,
        callbacks=[*callbacks, metrics or EditingMetrics(), writer],
        **quiet,
        **options,
    )
    trainer.predict(VLMModule(vlm, max_new_tokens=longest), datamodule=stream, return_predictions=False)
    return writer.rows


def at_once(rows):
    """Share of edits that are right when they are asked again right after they were written."""
    asked = [r["right"] for r in rows if r["phase"] == "check"]
    return sum(asked) / len(asked)
