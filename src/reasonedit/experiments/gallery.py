"""Pictures of a cell for the report: edits with their evidence, queries with what was fetched for them."""

from __future__ import annotations

import base64
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from reasonedit.callbacks import Codebook, Editor
from reasonedit.data.stream import EditStream
from reasonedit.groups import GENERALITIES, LOCALITIES
from reasonedit.metrics import matches

NOTHING, WRONG, IGNORED, SWAYED = "nothing retrieved", "wrong fact retrieved", "right fact ignored", "swayed by a fact"
CAUSES = {
    NOTHING: "No fact passed the gate: the question was answered as before.",
    WRONG: "Facts were fetched, but none of the edit that the question belongs to.",
    IGNORED: "A fact of the edit stood before the question, and the VLM did not make use of it.",
    SWAYED: "An unrelated question that was answered rightly before: a fact of another thing was taken for an answer.",
}
_SHOWN = {"edits": 6, "put right": 6, "failures of a cause": 4}
_WIDEST = 512
_FARTHEST = ("r_gen", "coe_gen", "i_gen", "t_gen")


def cause_of(row: Mapping[str, Any]) -> str | None:
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


def write_gallery(
    path: Path, stream: EditStream, editor: Editor, rows: Sequence[Mapping[str, Any]], *, made: str = ""
) -> None:
    """Write some edits and queries of a finished run, with their pictures.

    Args:
        path: A JSON file.
        stream: The stream that ran.
        editor: The editor.
        rows: The predictions.
        made: When the cell was made that they are of: no other shows them.
    """
    assert stream.base is not None
    images = {p.query.id: (p.query.image, p.query.question) for p in stream.base.probes}
    last = max((r["edits"] for r in rows), default=0)
    probes = [r for r in rows if r["phase"] == "probe" and r["edits"] == last]
    first = {r["edit"]: r["answer"] for r in reversed(rows) if r["phase"] == "edit"}
    after = {r["edit"]: r["answer"] for r in probes if r["group"] == "rel"}
    found = editor.evidence if isinstance(editor, Codebook) else {}
    edits = []
    for edit in [e for e in stream.base.edits if e.id in after][: _SHOWN["edits"]]:
        marked = [[list(r) for r in given or () if isinstance(r, tuple)] for given in edit.evidence]
        sought = [e.boxes for e in found.get(edit.id, [])] or [[] for _ in marked]
        sentences = [
            {"text": s, "boxes": [list(b) for b in (given or boxes)]}
            for s, given, boxes in zip(edit.reasoning, marked, sought, strict=True)
        ]
        edits.append(
            {
                "id": edit.id,
                "image": as_data(edit.image),
                "question": edit.question,
                "answer": edit.answer,
                "sentences": sentences,
                "before": first.get(edit.id),
                "after": after[edit.id],
                "right": matches(after[edit.id], edit.targets),
            }
        )

    def shown(row: Mapping[str, Any]) -> dict[str, Any]:
        image, question = images[row["id"]]
        kept = ("id", "edit", "group", "choices", "before", "answer", "target", "right", "facts", "distances")
        more = ("fact_edits", "left_out", "nearest", "threshold")
        return {"image": as_data(image), "question": question, **{k: row[k] for k in (*kept, *more)}}

    def generality(row: Mapping[str, Any]) -> bool:
        return row["group"] in GENERALITIES and row["edit"] in row["fact_edits"]

    put_right = [r for r in probes if r["right"] and generality(r) and not matches(r["before"], r["targets"])]
    # Those that share least with the edit come first, and one of each edit.
    put_right.sort(key=lambda r: _FARTHEST.index(r["group"]) if r["group"] in _FARTHEST else len(_FARTHEST))
    unique = list({r["edit"]: r for r in reversed(put_right)}.values())[::-1]
    failures: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in probes:
        if (cause := cause_of(row)) is not None:
            failures[cause].append(row)
    content = {
        "made": made,
        "edits": edits,
        "put_right": [shown(r) for r in unique[: _SHOWN["put right"]]],
        "failures": {
            cause: {
                "count": len(mine),
                "by_group": {g: sum(r["group"] == g for r in mine) for g in sorted({r["group"] for r in mine})},
                "shown": [shown(r) for r in _spread(mine, _SHOWN["failures of a cause"])],
            }
            for cause, mine in failures.items()
        },
        "probes": len(probes),
    }
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    part.replace(path)


def _spread(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    if len(rows) <= count:
        return list(rows)
    return [rows[i * len(rows) // count] for i in range(count)]


def as_data(image: Image.Image) -> str:
    """A picture as a data URI, no larger than it is looked at."""
    small = image.copy()
    small.thumbnail((_WIDEST, _WIDEST))
    buffer = io.BytesIO()
    small.save(buffer, "PNG" if max(small.size) <= 128 else "WEBP")
    kind = "png" if max(small.size) <= 128 else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
