"""What the folder of a run holds: its figures, its answers, its edits."""

from __future__ import annotations

import base64
import io
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasonedit.codebook import EditMemory, Store
from reasonedit.errors import NotFoundError, ReasonEditError, UnavailableError, needed
from reasonedit.experiments.gallery import credit_edits
from reasonedit.traces import read_picture, read_shown
from reasonedit.types import answer_as_fact
from reasonedit.util.boundedyaml import bounded_yaml

Row = Mapping[str, Any]

CODEBOOK, PREDICTIONS = "codebook", "predictions.parquet"
_WIDEST = 384


@dataclass
class RunData:
    """A run as its folder has it.

    Attributes:
        folder: The results folder.
        figures: The rows of its table, as in ``metrics.json``; empty where the run did not come to its end.
        config: Its config.
        versions: What it was made with.
        rows: Its predictions, in their order.
        edits: What is known of each edit, by its id, in the order in which they came.
        questions: The questions that were answered wrongly, with the names of their pictures, by their ids.
        memory: Its codebook, where that lies in the folder and can be read.
    """

    folder: Path
    figures: dict[str, dict[str, Any]]
    config: dict[str, Any]
    versions: dict[str, Any]
    rows: list[Row]
    edits: dict[str, Row] = field(default_factory=dict)
    questions: dict[str, Row] = field(default_factory=dict)
    memory: EditMemory | None = None

    @classmethod
    def read(cls, folder: Path) -> RunData:
        """Read the folder of a run.

        Raises:
            NotFoundError: The run has not answered anything yet.
            ReasonEditError: A file cannot be read.
        """
        figures, rows = _read_json(folder / "metrics.json"), read_predictions(folder)
        if not figures and not rows:
            raise NotFoundError(
                f"The run in '{folder}' has no results yet: go on with it "
                f"(reasonedit run --resume {shlex.quote(str(folder))})."
            )
        run = cls(folder, figures, _read_config(folder), _read_json(folder / "versions.json"), rows)
        run.memory = _open_codebook(folder / CODEBOOK)
        shown = {row["id"]: row for row in read_shown(folder, "edits")}
        stored = _rows_of(run.memory) if run.memory is not None else {}
        asked = {row["edit"]: _row_of_answer(row) for row in rows if row["phase"] == "edit" and row["edit"]}
        run.edits = {name: shown.get(name) or stored.get(name) or asked[name] for name in {**asked, **stored, **shown}}
        run.rows = credit_edits(rows, {name: _facts_of(edit) for name, edit in run.edits.items()})
        run.questions = {row["id"]: row for row in read_shown(folder, "questions")}
        return run

    def picture(self, name: str) -> str:
        """A picture as a data URI; empty where it is not kept."""
        if not name:
            return ""
        content = read_picture(self.folder, name)
        if content is None and self.memory is not None:
            content = _read_of_codebook(self.memory, name)
        return "" if content is None else f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def read_predictions(folder: Path) -> list[Row]:
    """The predictions of a run; none where it wrote none into its folder.

    Raises:
        UnavailableError: They are damaged.
    """
    path = folder / PREDICTIONS
    if not path.is_file():
        return []
    pa, pq = needed("pyarrow", "runs"), needed("pyarrow.parquet", "runs")
    try:
        rows: list[Row] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UnavailableError(f"The predictions in '{path}' cannot be read ({error}).") from error
    return rows


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnavailableError(f"'{path}' cannot be read ({error}).") from error
    return content if isinstance(content, dict) else {}


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = bounded_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnavailableError(f"'{folder / 'config.yaml'}' cannot be read ({error}).") from error
    return config if isinstance(config, dict) else {}


def _open_codebook(folder: Path) -> EditMemory | None:
    """The codebook, without which a page is made, too: what is wrong with it, ``codebook verify`` says."""
    try:
        return EditMemory.open(Store.open(folder)) if Store.exists(folder) else None
    except ReasonEditError:
        return None


def _rows_of(memory: EditMemory) -> dict[str, Row]:
    return {
        edit.id: {
            "id": edit.id,
            "edit": edit.id,
            "question": edit.question,
            "choices": edit.choices,
            "answer": edit.answer,
            "reasoning": edit.reasoning,
            "boxes": [
                [list(r) for r in given if not isinstance(r, str)] or found
                for given, found in zip(
                    edit.given or [[] for _ in edit.reasoning], edit.found or [[] for _ in edit.reasoning], strict=False
                )
            ],
            "given": [bool(given) for given in edit.given],
            "crops": [sum(isinstance(r, str) for r in given) for given in edit.given],
            "guessed": edit.guessed,
            "picture": edit.image,
        }
        for edit in memory.edits.values()
    }


def _facts_of(edit: Row) -> list[str]:
    return [answer_as_fact(edit["question"], edit["answer"]), *edit["reasoning"]]


def _row_of_answer(row: Row) -> Row:
    """What the predictions alone say of an edit."""
    nothing: dict[str, Any] = {"reasoning": [], "boxes": [], "given": [], "crops": [], "guessed": [], "picture": ""}
    known = {"id": row["edit"], "edit": row["edit"], "question": row.get("question") or row["prompt"]}
    return known | {"choices": row["choices"], "answer": row["target"]} | nothing


def _read_of_codebook(memory: EditMemory, name: str) -> bytes | None:
    try:
        image = memory.picture(name).copy()
    except ReasonEditError:
        return None
    image.thumbnail((_WIDEST, _WIDEST))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82)
    return buffer.getvalue()
