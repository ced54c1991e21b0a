"""Logs every answer, so that a run that was cut short can go on."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import lightning as L

from reasonedit.errors import InputError, MismatchError, UnavailableError
from reasonedit.ranks import exchange
from reasonedit.retrieval import Retrieval
from reasonedit.types import Hit

from .base import RunCallback
from .batch import answers_of, in_steps
from .codebook import Codebook
from .editor import Editor
from .lookup import find_callback
from .resume_check import check_resumable
from .retriever import Retriever

_EXTRAS = ("thoughts", "finish_reasons")
"""What is logged beside an answer."""

_RENAMED = {"entry": "kind", "sight": "visual_match"}
"""Fields of a hit by their names in the logs of earlier versions."""

_ROW = {"place", "phase", "edit", "question", "prompt", "answer", "edits", "codebook", "found"}


class RunLog(RunCallback):
    """Writes every answer to disk before it leads to an edit, and gives it again when the run is resumed.

    Put it before the editor and the retriever in the list of callbacks. It logs what an
    :class:`~reasonedit.EditStream` asks. A question with a logged answer is not asked again: its batch gets
    ``answers``, with the prompts and facts from the log, and metrics, writer and codebook work on those.

    Args:
        path: Each rank writes a file ``PATH.RANK.jsonl``; the files of all ranks are read.
        resume: Whether to go on with a log that is there; it is overwritten otherwise.
        run: The name of the run, known to rank 0 at least. The log of another run is refused.

    Example:
        >>> log = RunLog("run/log", resume=True)  # doctest: +SKIP
        >>> L.Trainer(callbacks=[log, Codebook.load("run/codebook"), Retriever()])  # doctest: +SKIP
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
        """Read the logs of all ranks.

        Args:
            codebook: The run's codebook, as it is now.

        Raises:
            MismatchError: The log is that of another run, or the codebook is not as the run left it.
            InputError: A line of the log is damaged.
        """
        rows: list[dict[str, Any]] = []
        for path in sorted(self.path.parent.glob(f"{self.path.name}.*.jsonl")):
            run, rows_of_rank = _read_log(path)
            self.run = self.run or run
            if run not in ("", self.run):  # a rank that wrote nothing yet left a log without a name
                raise MismatchError(f"The log '{path}' is that of another run: begin a new one.")
            rows += rows_of_rank
        if codebook is not None and self.run:
            check_resumable(rows, codebook, self.path.parent)
        self._known = {row["place"]: row for row in rows}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the log of a run that goes on, and open this rank's own.

        Raises:
            UnavailableError: The log cannot be written.
            InputError: The callback stands behind an editor or a retriever.
            ReasonEditError: As for :meth:`read` and :meth:`RunCallback.setup`.
        """
        super().setup(trainer, pl_module, stage)
        self.must_precede(trainer, Editor, Retriever)
        if stage not in self.works_in:
            return
        log = self.path.with_name(f"{self.path.name}.{trainer.global_rank}.jsonl")
        self.run = exchange(trainer, self.run.encode())[0].decode()
        if self.resume:
            self.read(find_callback(trainer, Codebook))
        if not self.run:
            self.run = exchange(trainer, uuid.uuid4().hex.encode())[0].decode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.resume and log.exists():
                os.truncate(log, _whole_rows(log))
            self._file = log.open("ab" if self.resume else "wb")
            if not self._file.tell():
                self._write([{"run": self.run}])
        except OSError as error:
            raise UnavailableError(f"The log '{log}' cannot be written ({error.strerror}).") from error

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put the logged answers into the batch, if all of its questions have one.

        Raises:
            MismatchError: The log is that of another stream.
        """
        if not in_steps(batch):
            self.say_once(
                trainer, "RunLog only logs the batches of an EditStream: others are asked again when a run is resumed."
            )
            return
        editor = find_callback(trainer, Editor)  # type: ignore[type-abstract]
        self._questions, self._before = list(batch["prompts"]), editor.edits if editor is not None else 0
        self._state = editor.state if isinstance(editor, Codebook) else ("", 0, 0)
        known = [self._known[place] for place in batch["positions"] if place in self._known]
        if not known or len(known) < len(batch["positions"]):
            return
        for row, question, edit in zip(known, self._questions, batch["edit_ids"], strict=True):
            if (row["question"], row["edit"]) != (question, edit):
                raise MismatchError(
                    f"The run logged in '{self.path.parent}' asked '{row['question']}' where '{question}' comes now: "
                    "the data or the model's answers have changed since. Run it again, without --resume."
                )
        batch["answers"] = [row["answer"] for row in known]
        batch["prompts"] = [row["prompt"] for row in known]
        for name in _EXTRAS:
            batch[name] = [row.get(name) for row in known]
        batch["edits_before"] = known[0]["edits"]
        if all(row["found"] is not None for row in known):
            batch["retrieved"] = [_retrieval_of(row["found"]) for row in known]

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log the answers, before the codebook is edited by them."""
        if self._file is None or not in_steps(batch) or "answers" in batch:
            return
        retrieved = batch.get("retrieved") or [None] * len(self._questions)
        columns = (batch["positions"], batch["edit_ids"], self._questions, batch["prompts"])
        rows = [
            {
                "place": place,
                "phase": batch["phase"],
                "edit": edit,
                "question": question,
                "prompt": prompt,
                "answer": answer,
                **{name: batch[name][i] for name in _EXTRAS if batch.get(name) is not None},
                "edits": self._before,
                "codebook": self._state,
                "found": None if retrieval is None else asdict(retrieval),
            }
            for i, (place, edit, question, prompt, answer, retrieval) in enumerate(
                zip(*columns, answers_of(outputs), retrieved, strict=True)
            )
        ]
        try:
            self._write(rows)
        except OSError as error:
            raise UnavailableError(
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


def _read_log(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """The name of the run, and the rows of its log; a last row that was cut short does not count.

    Raises:
        InputError: A line is not what was written.
    """
    parsed = [_parse_row(line) for line in path.read_bytes()[: _whole_rows(path)].splitlines()]
    for number, row in enumerate(parsed, 1):
        if row is None or ("run" in row) != (number == 1):
            raise InputError(f"Line {number} of the log '{path}' is not what a run wrote there: begin a new run.")
    rows = [row for row in parsed if row is not None]
    return (rows[0]["run"], rows[1:]) if rows else ("", [])


def _whole_rows(path: Path) -> int:
    """How many bytes of a log are whole rows: a power cut may leave something else behind them."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    start = data.rfind(b"\n", 0, max(0, end - 1)) + 1
    return end if _parse_row(data[start:end]) is not None else start


def _parse_row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and (row.keys() == {"run"} or row.keys() >= _ROW) else None


def _retrieval_of(values: dict[str, Any]) -> Retrieval:
    hits, left_out = ([_hit_of(hit) for hit in values[name]] for name in ("hits", "left_out"))
    return Retrieval(hits, values["nearest"], values["threshold"], left_out)


def _hit_of(values: dict[str, Any]) -> Hit:
    return Hit(**{_RENAMED.get(name, name): value for name, value in values.items()})
