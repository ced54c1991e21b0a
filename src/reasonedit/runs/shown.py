"""Keeps what the page of a run shows, while the pictures are still at hand."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from reasonedit.boxes import Box
from reasonedit.codebook import StoredEdit
from reasonedit.codebook.stored_edit import picture_name
from reasonedit.data.base_pass import BasePass
from reasonedit.errors import UnavailableError
from reasonedit.traces import write_shown
from reasonedit.types import Edit

_WIDEST = 384
_MOST_BYTES = 8 * 2**20
"""Of all pictures together: what did not go well comes first."""


def keep_shown(
    run: Path, base: BasePass, rows: Sequence[Mapping[str, Any]], stored: Mapping[str, StoredEdit] | None = None
) -> None:
    """Keep the edits of a stream and the probes that were answered wrongly, with small copies of their pictures.

    Edits that are not asked about in the rows are left out: they were erased meanwhile.

    Args:
        run: The results folder.
        base: What the stream was made of.
        rows: The predictions.
        stored: The edits as the codebook keeps them, by their ids: they know the evidence that was found.

    Raises:
        UnavailableError: They cannot be written.
    """
    asked = {row["edit"] for row in rows if row["phase"] == "edit"}
    wrong = {row["id"] for row in rows if row["phase"] == "probe" and row["right"] is False}
    failed = {row["edit"] for row in rows if row["group"] == "rel" and row["id"] in wrong}
    edits = [edit for edit in base.edits if edit.id in asked]
    probes = [p for p in base.probes if p.query.id in wrong and p.group != "rel" and p.edit_id in asked]
    images: dict[str, Image.Image] = {}
    rows_of_edits, questions = [], []
    for edit in sorted(edits, key=lambda edit: edit.id not in failed):  # stable
        name = _take(images, edit.image)
        rows_of_edits.append({**_describe(edit, (stored or {}).get(edit.id)), "picture": name})
    first = {row["picture"] for row in rows_of_edits if row["id"] in failed}
    for probe in probes:
        row = {"id": probe.query.id, "edit": probe.edit_id, "question": probe.query.question}
        questions.append(row | {"picture": "" if probe.query.text_only else _take(images, probe.query.image)})
    ordered = [*first, *(row["picture"] for row in questions), *(row["picture"] for row in rows_of_edits)]
    try:
        write_shown(run, {"edits": rows_of_edits, "questions": questions}, _shrink(images, ordered))
    except OSError as error:
        raise UnavailableError(
            f"What the page shows cannot be written to '{run}' ({error.strerror or error}): free some space."
        ) from error


def _take(images: dict[str, Image.Image], image: Image.Image) -> str:
    """The name of a picture, which is taken in under it."""
    name = picture_name(image)
    images.setdefault(name, image)
    return name


def _describe(edit: Edit, stored: StoredEdit | None) -> dict[str, Any]:
    given = [[r for r in regions or () if isinstance(r, tuple)] for regions in edit.evidence]
    crops = [sum(not isinstance(r, tuple) for r in regions or ()) for regions in edit.evidence]
    nothing: list[list[Box]] = [[] for _ in edit.reasoning]
    found = stored.found if stored is not None and len(stored.found) == len(edit.reasoning) else nothing
    return {
        "id": edit.id,
        "edit": edit.id,
        "question": edit.question,
        "choices": edit.choices,
        "answer": edit.answer,
        "reasoning": edit.reasoning,
        "boxes": [own or boxes for own, boxes in zip(given or nothing, found, strict=True)],
        "given": [bool(own) for own in given or nothing],
        "crops": crops or [0] * len(edit.reasoning),
        "guessed": stored.guessed if stored is not None else [],
    }


def _shrink(images: Mapping[str, Image.Image], ordered: Sequence[str]) -> dict[str, bytes]:
    """Small copies of as many pictures as the bound allows, the first first."""
    copies: dict[str, bytes] = {}
    total = 0
    for name in dict.fromkeys(name for name in ordered if name):
        small = images[name].copy()
        small.thumbnail((_WIDEST, _WIDEST))
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=82)
        total += buffer.tell()
        if total > _MOST_BYTES:
            break
        copies[name] = buffer.getvalue()
    return copies
