"""Pictures of a cell for the report: edits with their evidence, queries with what was fetched for them."""

from __future__ import annotations

import base64
import io
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from reasonedit.callbacks import Codebook, Editor
from reasonedit.data.stream import EditStream
from reasonedit.groups import GENERALITIES, LOCALITIES
from reasonedit.metrics import matches
from reasonedit.rounds import Row, final_probes
from reasonedit.types import Edit

NOTHING, WRONG, IGNORED, SWAYED = "nothing retrieved", "wrong fact retrieved", "right fact ignored", "swayed by a fact"
CAUSES = {
    NOTHING: "No fact passed the gate: the question was answered as before.",
    WRONG: "Facts were fetched, but none from the edit that the question belongs to.",
    IGNORED: "A fact of the edit stood before the question, and the VLM did not use it.",
    SWAYED: "An unrelated question that was answered rightly before: a fact about another thing changed the answer.",
}
_EDITS, _PUT_RIGHT, _FAILURES = 6, 6, 4  # how many are shown, of failures for each cause
_WIDEST = 512
_FARTHEST = ("r_gen", "coe_gen", "i_gen", "t_gen")
_COLUMNS = (
    *("id", "edit", "group", "choices", "before", "answer", "target", "right", "facts", "distances"),
    *("fact_edits", "left_out", "nearest", "threshold"),
)


def cause_of(row: Row) -> str | None:
    """Why a probe was answered wrongly; ``None`` where it was not.

    Args:
        row: A row of the predictions.
    """
    if row["right"] or row["phase"] != "probe":
        return None
    if row["group"] in LOCALITIES:
        return SWAYED
    if not row["facts"]:
        return NOTHING
    return IGNORED if row["edit"] in row["fact_edits"] else WRONG


def credit_edits(rows: Sequence[Row], sentences: Mapping[str, Collection[str]]) -> list[Row]:
    """The predictions with each fact named after the edit that its question belongs to, where that says it.

    What several edits say alike is one fact, and the predictions name the edit whose key was nearest.

    Args:
        rows: The predictions.
        sentences: What each edit says, by its id, its answer among it.
    """

    def credited(row: Row) -> Row:
        own, facts = sentences.get(row["edit"], ()), row["facts"] or ()
        named = zip(facts, row["fact_edits"] or (), strict=False)
        return {**row, "fact_edits": [row["edit"] if fact in own else edit for fact, edit in named]}

    return [credited(row) for row in rows]


def write_gallery(path: Path, stream: EditStream, editor: Editor, rows: Sequence[Row], *, made: str = "") -> None:
    """Write some edits and queries of a finished run, with their pictures.

    Args:
        path: A JSON file.
        stream: The stream that ran.
        editor: The editor.
        rows: The predictions.
        made: When their cell was made: the report shows them beside this cell only.
    """
    assert stream.base is not None
    queries = {p.query.id: (p.query.image, p.query.question) for p in stream.base.probes}
    probes = credit_edits(
        final_probes(rows), {edit.id: [edit.answer_fact, *edit.reasoning] for edit in stream.base.edits}
    )

    def show(row: Row) -> dict[str, Any]:
        image, question = queries[row["id"]]
        return {"image": to_data_uri(image), "question": question, **{name: row[name] for name in _COLUMNS}}

    content = {
        "made": made,
        "edits": _edits(stream.base.edits, editor, probes),
        "put_right": [show(row) for row in _put_right(probes)],
        "failures": {
            cause: {
                "count": len(failures),
                "by_group": {g: sum(r["group"] == g for r in failures) for g in sorted({r["group"] for r in failures})},
                "shown": [show(row) for row in _spread(failures, _FAILURES)],
            }
            for cause, failures in _by_cause(probes).items()
        },
        "probes": len(probes),
    }
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    part.replace(path)


def _edits(edits: Sequence[Edit], editor: Editor, probes: Sequence[Row]) -> list[dict[str, Any]]:
    """Some edits with their evidence, and what the unedited model answered, and the edited one after all edits."""
    asked = {row["edit"]: row for row in probes if row["group"] == "rel"}
    evidence = editor.evidence if isinstance(editor, Codebook) else {}
    shown = []
    for edit in [e for e in edits if e.id in asked][:_EDITS]:
        marked = [[list(r) for r in given or () if isinstance(r, tuple)] for given in edit.evidence]
        windows = [e.boxes for e in evidence.get(edit.id, [])] or [[] for _ in marked]
        sentences = [
            {"text": sentence, "boxes": [list(box) for box in (given or boxes)]}
            for sentence, given, boxes in zip(edit.reasoning, marked, windows, strict=True)
        ]
        shown.append(
            {
                "id": edit.id,
                "image": to_data_uri(edit.image),
                "question": edit.question,
                "answer": edit.answer,
                "sentences": sentences,
                "before": asked[edit.id]["before"],
                "after": asked[edit.id]["answer"],
                "right": matches(asked[edit.id]["answer"], edit.targets),
            }
        )
    return shown


def _put_right(probes: Sequence[Row]) -> list[Row]:
    """Queries that an edit put right by a fact of its own: one of each edit, that which shares least with it."""
    rows = [
        row
        for row in probes
        if row["right"]
        and row["group"] in GENERALITIES
        and row["edit"] in row["fact_edits"]
        and not matches(row["before"], row["targets"])
    ]
    rows.sort(key=lambda row: _FARTHEST.index(row["group"]) if row["group"] in _FARTHEST else len(_FARTHEST))
    one_of_each_edit = list({row["edit"]: row for row in reversed(rows)}.values())[::-1]
    return one_of_each_edit[:_PUT_RIGHT]


def _by_cause(probes: Sequence[Row]) -> dict[str, list[Row]]:
    failures: dict[str, list[Row]] = defaultdict(list)
    for row in probes:
        if (cause := cause_of(row)) is not None:
            failures[cause].append(row)
    return failures


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    if len(rows) <= count:
        return list(rows)
    return [rows[i * len(rows) // count] for i in range(count)]


def to_data_uri(image: Image.Image) -> str:
    """A picture as a data URI, no larger than it is looked at."""
    small = image.copy()
    small.thumbnail((_WIDEST, _WIDEST))
    buffer = io.BytesIO()
    small.save(buffer, "PNG" if max(small.size) <= 128 else "WEBP")
    kind = "png" if max(small.size) <= 128 else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
