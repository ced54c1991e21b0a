"""CCKEB as its authors publish it (arXiv 2510.25798).

Files by the README of github.com/MemEIC/MemEIC: ``CCKEB_train.json`` and ``CCKEB_eval.json``, with images in
``CCKEB_images/mmkb_images``. Rows are those of VLKEB with a ``textual_edit`` (``src``, ``pred``, ``alt``, ``rephrase``,
``loc``, ``loc_ans``; ``alt`` is a text, or a list of parts) and, in ``port_new``, a question of the ``port_type``
``comp``. Their loader (``CompositionalDataset`` in ``easyeditor/dataset/coco_caption.py``) takes ``alt`` of the textual
edit for the right answer to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from reasonedit.errors import InputError

from ..columns import as_text, read_text
from ..rows import Row
from ..sample import Sample
from .places import find_file, find_images
from .rows import Planned, state_answer, without_mark
from .vlkeb import VLKEB, port_probe, ports_in

_COMPOSITION = "comp"
_SPLITS = ("train", "eval")


class CCKEB(VLKEB):
    """CCKEB: which entity a picture shows, and what became of that entity.

    As :class:`VLKEB`, with compositions (``comp``: a question about the picture that takes both edits). The textual
    edit is the second fact of the visual one. Its own question and rephrase have no picture, by which facts are found:
    they are not asked. Its locality is a second probe of text Loc.

    Args:
        root: Folder of the JSON files.
        images: Folder that the images' paths start from; ``CCKEB_images/mmkb_images`` or ``CCKEB_images`` in ``root``
            when not given.
        split: ``"train"`` or ``"eval"``.
        **options: As for :class:`~reasonedit.data.pool.Pool`.

    Raises:
        InputError: An argument is out of range.
        NotFoundError: The file is not there.
    """

    def __init__(self, root: str, images: str | None = None, split: str = "eval", **options: Any) -> None:
        if split not in _SPLITS:
            raise InputError(f"There is no split '{split}' of CCKEB: use {' or '.join(_SPLITS)}.")
        self.path = find_file(root, [f"CCKEB_{split}.json"])
        self.images = find_images(root, images, ["CCKEB_images/mmkb_images", "CCKEB_images"])
        super(VLKEB, self).__init__(**options)

    def reasoning(self, row: Row, question: str, answer: str) -> list[str]:
        """The visual answer, and what the textual edit says."""
        facts = super().reasoning(row, question, answer)
        if _textual(row):
            facts.append(state_answer(read_text(_textual_row(row), "src"), _textual_answer(row)))
        return facts

    def ports_of(self, row: Row) -> Iterator[Planned]:
        """Compositions, and portability by steps where there is any."""
        for port in ports_in(row):
            if port.get("port_type") == _COMPOSITION:
                yield replace(
                    port_probe(port, "comp_gen", [_COMPOSITION]),
                    answer=lambda: _textual_answer(row),
                )
        others = [port for port in ports_in(row) if port.get("port_type") != _COMPOSITION]
        yield from super().ports_of(Row(row.number, {"port_new": others}))

    def locality_of(self, row: Row) -> Iterator[Planned]:
        """That of the visual edit, and that of the textual one."""
        yield from super().locality_of(row)
        if _textual(row):
            textual = _textual_row(row)
            yield Planned(
                "text_loc",
                lambda: without_mark(read_text(textual, "loc")),
                lambda: read_text(textual, "loc_ans", numbers=True),
                None,
            )

    def remarks(self, samples: Mapping[str, Sample]) -> list[str]:
        """That there is no reasoning, and what is not asked."""
        count = sum(len(sample.reasoning) > 1 for sample in samples.values())
        return [
            f"{self.name} has no reasoning: the facts of each of its {len(samples)} edits are the answer and, in "
            f"{count} of them, what the textual edit says. The textual edits' own questions have no picture, by which "
            "facts are found: they are not asked."
        ]


def _textual(row: Row) -> bool:
    return row.values.get("textual_edit") is not None


def _textual_row(row: Row) -> Row:
    values = row.values.get("textual_edit")
    if not isinstance(values, dict):
        raise InputError(f"'textual_edit' must be an object, not {type(values).__name__}.")
    return Row(row.number, values)


def _textual_answer(row: Row) -> str:
    """The answer of the textual edit; of a list its parts, as the authors join them."""
    value = _textual_row(row).values.get("alt")
    if isinstance(value, list) and value:
        return " ".join(as_text(part, "alt") for part in value)
    return read_text(_textual_row(row), "alt", numbers=True)
