"""Keeps what was answered, so that a run that was cut short can go on."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import lightning as L

from reasonedit.errors import ReasonEditError
from reasonedit.ranks import exchange
from reasonedit.retrieval import Retrieval
from reasonedit.types import Hit

from .base import RunCallback
from .batch import answers_of, in_steps
from .codebook import Codebook
from .editor import Editor
from .learnt import check
from .lookup import find_callback
from .retriever import Retriever

_BESIDE = ("thoughts", "finish_reasons")
"""What is kept beside an answer."""
_FORMER = {"entry": "kind", "sight": "visual_match"}
"""What fields of a hit were called in the logs of earlier versions."""
_ROW = {"place", "phase", "edit", "question", "prompt", "answer", "edits", "codebook", "found"}


class RunLog(RunCallback):
    """Writes every answer to disk before anything is learnt from it, and gives it again when the run is resumed.

    It stands before editor and retriever in the list of callbacks, and keeps what an
    :class:`~reasonedit.EditStream` asks. What was answered already is not asked again: the batch comes with
    ``answers`` (and with the prompts and facts of then), from which metrics, writer and codebook do what they did.

    Args:
        path: The log is a file ``PATH.RANK.jsonl`` for each rank; those of all ranks are read.
        resume: Whether what is there already counts; else it is dropped.
        run: The name of the run, the same on all ranks or known to rank 0: the log of another one is refused.
    """

    def __init__(self, path: str | os.PathLike[str], resume: bool = False, run: str = "") -> None:
        self.path = Path(path).absolute()
        self.resume = resume
        self.run = run
        self._known: dict[int, dict[str, Any]] = {}
        self._file: IO[bytes] | None = None
        self._questions: list[str] = []
        self._before, self._state = 0, ("", 0, 0)

    def read(self, codebook: Codebook | None) -> None:
        """Read what is there.

        Args:
            codebook: The run's codebook, as it is now.

        Raises:
            ReasonEditError: The log is damaged or that of another run; or the codebook is not as the run left it.
        """
        rows: list[dict[str, Any]] = []
        for path in sorted(self.path.parent.glob(f"{self.path.name}.*.jsonl")):
            run, theirs = _read(path)
            self.run = self.run or run
            if run not in ("", self.run):  # one without a name is that of a rank that wrote nothing yet
                raise ReasonEditError(f"The log '{path}' is that of another run: begin a new one.")
            rows += theirs
        if codebook is not None and self.run:
            check(rows, codebook, self.path.parent)
        self._known = {row["place"]: row for row in rows}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read what is there.

        Raises:
            ReasonEditError: The log cannot be written, or the callback stands behind an editor or a retriever; or as
                for :meth:`read` and :meth:`RunCallback.setup`.
        """
        super().setup(trainer, pl_module, stage)
        self.must_precede(trainer, Editor, Retriever)
        if stage not in self.works_in:
            return
        mine = self.path.with_name(f"{self.path.name}.{trainer.global_rank}.jsonl")
        self.run = exchange(trainer, self.run.encode())[0].decode()
        if self.resume:
            self.read(find_callback(trainer, Codebook))
        if not self.run:
            self.run = exchange(trainer, uuid.uuid4().hex.encode())[0].decode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.resume and mine.exists():
                os.truncate(mine, _whole(mine))
            self._file = mine.open("ab" if self.resume else "wb")
            if not self._file.tell():
                self._write([{"run": self.run}])
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
        editor = find_callback(trainer, Editor)  # type: ignore[type-abstract]
        self._questions, self._before = list(batch["prompts"]), editor.edits if editor is not None else 0
        self._state = editor.state if isinstance(editor, Codebook) else ("", 0, 0)
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
        asked = (batch["positions"], batch["edit_ids"], self._questions, batch["prompts"], answers_of(outputs), found)
        rows = [
            {
                "place": place,
                "phase": batch["phase"],
                "edit": edit,
                "question": question,
                "prompt": prompt,
                "answer": answer,
                **{name: batch[name][i] for name in _BESIDE if batch.get(name) is not None},
                "edits": self._before,
                "codebook": self._state,
                "found": None if mine is None else asdict(mine),
            }
            for i, (place, edit, question, prompt, answer, mine) in enumerate(zip(*asked, strict=True))
        ]
        try:
            self._write(rows)
        except OSError as error:
            raise ReasonEditError(
                f"The log '{self.path}' cannot be written ({error.strerror}): free some space, then --resume."
            ) from error

    def _write(self, rows: list[dict[str, Any]]) -> None:
        assert self._file is not None
        self._file.write("".join(f"{json.dumps(row)}\n" for row in rows).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _read(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """The name of the run that a log is of, and its rows; a last one that was cut short is none.

    Raises:
        ReasonEditError: A line is not what was written.
    """
    parsed = [_parsed(line) for line in path.read_bytes()[: _whole(path)].splitlines()]
    for number, row in enumerate(parsed, 1):
        if row is None or ("run" in row) != (number == 1):
            raise ReasonEditError(f"Line {number} of the log '{path}' is not what a run wrote there: begin a new run.")
    rows = [row for row in parsed if row is not None]
    return (rows[0]["run"], rows[1:]) if rows else ("", [])


def _whole(path: Path) -> int:
    """How many bytes of a log are whole rows; what a power cut left behind them is none."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    start = data.rfind(b"\n", 0, max(0, end - 1)) + 1
    return end if _parsed(data[start:end]) is not None else start


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and (row.keys() == {"run"} or row.keys() >= _ROW) else None


def _found(values: dict[str, Any]) -> Retrieval:
    hits, out = (
        [Hit(**{_FORMER.get(name, name): value for name, value in hit.items()}) for hit in values[name_of]]
        for name_of in ("hits", "left_out")
    )
    return Retrieval(hits, values["nearest"], values["threshold"], out)
