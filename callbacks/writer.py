"""Writes predictions, and what was retrieved for them, to Parquet."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from reasonedit.errors import InputError, ReasonEditError, UnavailableError, needed
from reasonedit.metrics import COMPARISON, accuracy, contains, exact_match, most_common_answer
from reasonedit.ranks import exchange
from reasonedit.retrieval import Retrieval

from .base import Evaluates
from .batch import in_steps, is_list, of_length
from .editor import Editor
from .lookup import find_callback
from .targets import targets_of, text_of, texts_of

_log = logging.getLogger(__name__)


class PredictionWriter(Evaluates):
    """Writes one row per sample when the run ends, is interrupted or fails.

    Columns: ``id``, ``edit`` (the one it belongs to), ``phase``, ``group``, ``edits`` (how many there were by then),
    ``round`` (of probes, 1 for the first; of an edit the one that follows), ``question`` (without facts), ``prompt``
    (with the facts), ``choices``, ``before`` (the answer of the unedited model), ``answer``, ``thought`` (what a
    reasoning VLM wrote before it), ``finish_reason`` (``length`` where ``max_new_tokens`` cut it off), ``target`` (of
    several, the one that most people gave), ``targets`` (all of them), ``accuracy``, ``right`` (an accuracy of 1),
    ``exact_match``, ``contains`` (the answer contains a right one, which need not make it right), ``facts``,
    ``distances``, ``fact_edits``, ``left_out`` (facts that were retrieved but not used), ``nearest``, ``threshold``;
    and ``token_accuracy``, the share of the right answer's tokens, behind a
    :class:`~reasonedit.callbacks.TokenShares`. What a batch does not carry is null. ``accuracy``, ``exact_match`` and
    ``contains`` are the functions of these names in :mod:`reasonedit.metrics`; the file's metadata name the comparison
    as well.

    On several ranks rank 0 writes the rows of all, in the order of the stream; of a loader of your own the rows of rank
    0 come first, then those of rank 1, and so on, so that only ``ids`` say which sample each is. If a run fails, each
    rank writes its own file, with its rank before the extension.

    A further run replaces the file, but not one of another function of the trainer: such a run is refused.

    Args:
        path: The file; ``predictions.parquet`` in the trainer's ``default_root_dir`` when not given.
        prompt_key: Key of the questions in a batch.

    Raises:
        InputError: The path is that of a folder.
        UnavailableError: ``pyarrow`` is not installed.

    Example:
        >>> trainer = L.Trainer(callbacks=[PredictionWriter("predictions.parquet")])  # doctest: +SKIP
        >>> trainer.predict(their_module, their_loader)  # doctest: +SKIP
        >>> pandas.read_parquet("predictions.parquet")  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, prompt_key: str = "prompts") -> None:
        needed("pyarrow", "runs")  # here, not when hours of answers are to be written
        self.path = Path(path).absolute() if path is not None else None
        if self.path is not None and self.path.is_dir():
            raise InputError(f"'{self.path}' is a folder: name the file that the predictions are written to.")
        self.prompt_key = prompt_key
        self.rows: list[dict[str, Any]] = []
        self._folder = Path()
        self._edits: int | None = None
        self._written: dict[Path, str] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start from zero.

        Raises:
            InputError: The run would replace what this writer wrote in another function of the trainer.
            ReasonEditError: As for :meth:`RunCallback.setup`.
        """
        super().setup(trainer, pl_module, stage)
        if stage in self.works_in:
            self.rows = []
            self._folder = Path(trainer.default_root_dir).absolute()
            path, function = self._path(), TrainerFn(stage).value
            if (before := self._written.get(path, function)) != function and path.exists():
                raise InputError(
                    f"The predictions of trainer.{function} would replace those of trainer.{before} in '{path}': set "
                    "'path' of the PredictionWriter to another file, or move that one."
                )

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count the edits."""
        editor = find_callback(trainer, Editor)  # type: ignore[type-abstract]
        self._edits = editor.edits if editor is not None else None

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the rows of one batch.

        Raises:
            InputError: The prediction has no answers, or a column of the batch has another length.
        """
        fields = batch if isinstance(batch, dict) else {}
        answers = self.answers_in(trainer, outputs)
        if not answers:
            return

        def of(key: str, i: int) -> Any:
            values = fields.get(key)
            if not is_list(values):  # one value for all samples could mean anything
                return None
            of_length(values, len(answers), key, "answers")
            return values[i]

        edits = fields.get("edits_before", self._edits) if in_steps(batch) else self._edits  # of a run that goes on
        all_targets = targets_of(fields, len(answers), self)
        for i, (answer, targets) in enumerate(zip(answers, all_targets, strict=True)):
            retrieval = found if isinstance(found := of("retrieved", i), Retrieval) else None
            share = accuracy(answer, targets) if targets else None
            self.rows.append(
                {
                    "place": of("positions", i) if in_steps(batch) else None,
                    "id": text_of(of("ids", i)),
                    "edit": text_of(of("edit_ids", i)),
                    "phase": text_of(fields.get("phase")),
                    "group": text_of(of("groups", i)),
                    "edits": edits,
                    "round": fields.get("round") if in_steps(batch) else None,
                    "question": text_of(of("bare_prompts", i)),
                    "prompt": text_of(of(self.prompt_key, i)),
                    "choices": texts_of(of("choices", i)) or None,
                    "before": text_of(of("before", i)),
                    "answer": answer,
                    "thought": text_of(of("thoughts", i)),
                    "finish_reason": text_of(of("finish_reasons", i)),
                    "target": most_common_answer(targets) if targets else None,
                    "targets": targets or None,
                    "accuracy": share,
                    "right": None if share is None else share == 1,
                    "exact_match": exact_match(answer, targets) if targets else None,
                    "contains": contains(answer, targets) if targets else None,
                    **_columns_of(retrieval),
                    **({"token_accuracy": of("token_shares", i)} if "token_shares" in fields else {}),
                }
            )

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write."""
        self._written[self._path()] = TrainerFn(trainer.state.fn).value
        rows = self.rows
        if trainer.world_size > 1:
            messages = exchange(trainer, json.dumps(rows).encode())
            if not trainer.is_global_zero:
                return
            rows = [row for message in messages for row in json.loads(message)]
        in_stream = {row["place"]: row for row in rows if row["place"] is not None}  # the last batch may repeat some
        others = [row for row in rows if row["place"] is None]
        self._write(self._path(), [in_stream[place] for place in sorted(in_stream)] + others)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Write the rows so far; raises as :meth:`RunCallback.on_exception` does."""
        super().on_exception(trainer, pl_module, exception)
        if self.rows and trainer.state.fn in self.works_in:
            path = self._path()
            if trainer.world_size > 1:
                path = path.with_suffix(f".{trainer.global_rank}{path.suffix}")
            try:
                self._write(path, self.rows)
            except ReasonEditError as error:  # the other callbacks still have work to do
                _log.error("The run stopped early. %s", error)

    def _path(self) -> Path:
        return self.path or self._folder / "predictions.parquet"

    def _write(self, path: Path, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text, number, texts = pa.string(), pa.float64(), pa.list_(pa.string())
        schema = pa.schema(
            {
                "id": text,
                "edit": text,
                "phase": text,
                "group": text,
                "edits": pa.int64(),
                "round": pa.int64(),
                "question": text,
                "prompt": text,
                "choices": texts,
                "before": text,
                "answer": text,
                "thought": text,
                "finish_reason": text,
                "target": text,
                "targets": texts,
                "accuracy": number,
                "right": pa.bool_(),
                "exact_match": pa.bool_(),
                "contains": pa.bool_(),
                "facts": texts,
                "distances": pa.list_(number),
                "fact_edits": texts,
                "left_out": texts,
                "nearest": number,
                "threshold": number,
            },
            metadata={"comparison": COMPARISON},
        )
        if any("token_accuracy" in row for row in rows):
            schema = schema.append(pa.field("token_accuracy", number))
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows, schema), part)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UnavailableError(
                f"The predictions cannot be written to '{path}' ({error.strerror or error}): "
                "free some space or name another file."
            ) from error


def _columns_of(retrieval: Retrieval | None) -> dict[str, Any]:
    """What was retrieved for one question."""
    hits = retrieval.hits if retrieval else []
    return {
        "facts": [h.fact for h in hits],
        "distances": [h.distance for h in hits],
        "fact_edits": [h.edit_id for h in hits],
        "left_out": [h.fact for h in retrieval.left_out] if retrieval else [],
        "nearest": retrieval.nearest if retrieval else None,
        "threshold": retrieval.threshold if retrieval else None,
    }
