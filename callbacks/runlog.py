"""Logs every answer, so that a run that was cut short can go on."""

from __future__ import annotations

import glob
import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import lightning as L

from reasonedit.errors import InputError, MismatchError, UnavailableError
from reasonedit.ranks import exchange
from reasonedit.retrieval import Retrieval
from reasonedit.types import Hit

from .base import RunCallback
from .batch import answered_already, answers_of, in_steps
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
_SHARE = {"place", "token_share"}
"""What a row has that says how much of the right answer to a logged question is said."""


class RunLog(RunCallback):
    """Writes every answer to disk before it leads to an edit, and gives it again when the run is resumed.

    Put it before the editor and the retriever in the list of callbacks. It logs what an
    :class:`~reasonedit.EditStream` asks. A question with a logged answer is not asked again: its batch gets
    ``answers``, with the prompts and facts from the log, and metrics, writer and codebook work on those. A
    :class:`~reasonedit.callbacks.TokenShares` keeps its shares here as well.

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
        self._shares: dict[int, float | None] = {}
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
        for path in sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.*.jsonl")):
            run, rows_of_rank = _read_log(path)
            self.run = self.run or run
            if run not in ("", self.run):  # a rank that wrote nothing yet left a log without a name
                raise MismatchError(f"The log '{path}' is that of another run: begin a new one.")
            rows += rows_of_rank
        answers = [row for row in rows if row.keys() >= _ROW]
        if codebook is not None and self.run:
            check_resumable(answers, codebook, self.path.parent)
        self._known = {row["place"]: row for row in answers}
        self._shares = {row["place"]: row["token_share"] for row in rows if row.keys() == _SHARE}

    @property
    def edits(self) -> set[str]:
        """The edits that were asked about before the run was cut short."""
        return {row["edit"] for row in self._known.values() if row["phase"] == "edit"}

    def shares_of(self, batch: dict[str, Any]) -> list[float | None] | None:
        """The token shares of a batch that were kept before the run was cut short; ``None`` if it has to be asked.

        Args:
            batch: A batch that has ``answers`` from this log.
        """
        places = batch["positions"] if answered_already(batch) is not None else []
        kept = [self._shares[place] for place in places if place in self._shares]
        return kept if places and len(kept) == len(places) else None

    def keep_shares(self, batch: dict[str, Any], shares: Sequence[float | None]) -> None:
        """Keep the token shares of a batch, for a run that goes on.

        Args:
            batch: A batch whose answers are logged.
            shares: One share, or ``None``, for each of its questions.

        Raises:
            UnavailableError: The log cannot be written.
        """
        if self._file is not None and in_steps(batch):
            of_places = zip(batch["positions"], shares, strict=True)
            self._write([{"place": place, "token_share": share} for place, share in of_places])

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
                "found": None if retrieval is None else _to_dict(retrieval),
            }
            for i, (place, edit, question, prompt, answer, retrieval) in enumerate(
                zip(*columns, answers_of(outputs), retrieved, strict=True)
            )
        ]
        self._write(rows)
        self._warn_of_mixing(trainer, retrieved)

    def _warn_of_mixing(self, trainer: L.Trainer, retrieved: Sequence[Retrieval | None]) -> None:
        """Say where a log of an earlier version lacks what is counted from now on."""
        looked_at = any(retrieval is not None and retrieval.in_range is not None for retrieval in retrieved)
        logged = [row["found"] for row in self._known.values() if row["found"] is not None]
        if looked_at and not all("in_range" in found for found in logged):
            self.say_once(
                trainer,
                f"The log in '{self.path.parent}' was begun by an earlier version, which did not note which pictures "
                "are unlike those of the calibration: 'edit/out_of_range' counts only what is asked from now on.",
            )

    def _write(self, rows: list[dict[str, Any]]) -> None:
        """Write rows so that they are there when the power goes.

        Raises:
            UnavailableError: They cannot be written.
        """
        assert self._file is not None
        try:
            self._file.write("".join(f"{json.dumps(row)}\n" for row in rows).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UnavailableError(
                f"The log '{self.path}' cannot be written ({error.strerror}): free some space, then --resume."
            ) from error

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
    known = isinstance(row, dict) and (row.keys() in ({"run"}, _SHARE) or row.keys() >= _ROW)
    return row if known else None


def _to_dict(retrieval: Retrieval) -> dict[str, Any]:
    """What a row needs of a retrieval once its facts are chosen."""
    hits, left_out = ([asdict(hit) for hit in hits] for hits in (retrieval.hits, retrieval.left_out))
    numbers = {"nearest": retrieval.nearest, "threshold": retrieval.threshold, "in_range": retrieval.in_range}
    return {"hits": hits, "left_out": left_out, **numbers}


def _retrieval_of(values: dict[str, Any]) -> Retrieval:
    hits, left_out = ([_hit_of(hit) for hit in values[name]] for name in ("hits", "left_out"))
    return Retrieval(hits, values["nearest"], values["threshold"], left_out, values.get("in_range"))


def _hit_of(values: dict[str, Any]) -> Hit:
    return Hit(**{_RENAMED.get(name, name): value for name, value in values.items()})
