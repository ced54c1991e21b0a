"""Keeps what was answered, so that a run that was cut short can go on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import lightning as L

from reasonedit.edits import Hit
from reasonedit.errors import ReasonEditError
from reasonedit.retrieval import Retrieval

from .base import RunCallback
from .batch import answers_of, in_steps
from .beside import beside
from .editor import Editor
from .retriever import Retriever

_BESIDE = ("thoughts", "finish_reasons")
"""What is kept beside an answer."""


class RunLog(RunCallback):
    """Writes every answer to disk before anything is learnt from it, and gives it again when the run is resumed.

    It stands before editor and retriever in the list of callbacks, and keeps what an
    :class:`~reasonedit.EditStream` asks. What was answered already is not asked again: the batch comes with
    ``answers`` (and with the prompts and facts of then), from which metrics, writer and codebook do what they did.

    Args:
        path: The log is a file ``PATH.RANK.jsonl`` for each rank; those of all ranks are read.
        resume: Whether what is there already counts; else it is dropped.
    """

    def __init__(self, path: str | os.PathLike[str], resume: bool = False) -> None:
        self.path = Path(path).absolute()
        self.resume = resume
        self._known: dict[int, dict[str, Any]] = {}
        self._file: IO[bytes] | None = None
        self._questions: list[str] = []
        self._before = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read what is there.

        Raises:
            ReasonEditError: The log cannot be written, or the callback stands behind an editor or a retriever; or as
                for :meth:`RunCallback.setup`.
        """
        super().setup(trainer, pl_module, stage)
        self.must_precede(trainer, Editor, Retriever)
        if stage not in self.works_in:
            return
        mine = self.path.with_name(f"{self.path.name}.{trainer.global_rank}.jsonl")
        if self.resume:
            for path in sorted(self.path.parent.glob(f"{self.path.name}.*.jsonl")):
                self._known |= {row["place"]: row for row in _rows(path, cut=path == mine)}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = mine.open("ab" if self.resume else "wb")
        except OSError as error:
            raise ReasonEditError(f"The log '{mine}' cannot be written ({error.strerror}).") from error

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put the answers of then into the batch, where all are known.

        Raises:
            ReasonEditError: The log is that of another stream.
        """
        if not in_steps(batch):
            self.say_once(
                trainer, "RunLog keeps nothing of batches that are not those of an EditStream: they are asked anew."
            )
            return
        editor = beside(trainer, Editor)  # type: ignore[type-abstract]
        self._questions, self._before = list(batch["prompts"]), editor.edits if editor is not None else 0
        rows = [self._known.get(place) for place in batch["positions"]]
        known = [row for row in rows if row is not None]
        if not known or len(known) < len(rows):
            return
        for row, question, edit in zip(known, self._questions, batch["edit_ids"], strict=True):
            if (row["question"], row["edit"]) != (question, edit):
                raise ReasonEditError(
                    f"The run logged in '{self.path.parent}' asked '{row['question']}' where '{question}' comes now: "
                    "the data or the model's answers have changed since. Run it anew, without --resume."
                )
        batch["answers"] = [row["answer"] for row in known]
        batch["prompts"] = [row["prompt"] for row in known]
        for name in _BESIDE:
            batch[name] = [row.get(name) for row in known]
        batch["edits_before"] = known[0]["edits"]
        if all(row["found"] is not None for row in known):
            batch["retrieved"] = [_found(row["found"]) for row in known]

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the answers down, before the codebook learns from them."""
        if self._file is None or not in_steps(batch) or "answers" in batch:
            return
        found = batch.get("retrieved") or [None] * len(self._questions)
        lines = [
            json.dumps(
                {
                    "place": place,
                    "edit": edit,
                    "question": question,
                    "prompt": prompt,
                    "answer": answer,
                    **{name: batch[name][i] for name in _BESIDE if batch.get(name) is not None},
                    "edits": self._before,
                    "found": None if mine is None else asdict(mine),
                }
            )
            for i, (place, edit, question, prompt, answer, mine) in enumerate(
                zip(
                    batch["positions"],
                    batch["edit_ids"],
                    self._questions,
                    batch["prompts"],
                    answers_of(outputs),
                    found,
                    strict=True,
                )
            )
        ]
        try:
            self._file.write("".join(f"{line}\n" for line in lines).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ReasonEditError(
                f"The log '{self.path}' cannot be written ({error.strerror}): free some space, then --resume."
            ) from error

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _rows(path: Path, *, cut: bool) -> list[dict[str, Any]]:
    """The rows of a log; one that was cut short is none, and goes where the log is written on."""
    rows, good = [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            row = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            row = None
        if not isinstance(row, dict) or "place" not in row:
            break
        rows.append(row)
        good += len(line)
    if cut:
        os.truncate(path, good)
    return rows


def _found(values: dict[str, Any]) -> Retrieval:
    hits, out = ([Hit(**hit) for hit in values[name]] for name in ("hits", "left_out"))
    return Retrieval(hits, values["nearest"], values["threshold"], out)
