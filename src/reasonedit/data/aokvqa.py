"""A-OKVQA as its authors publish it (arXiv 2206.01718)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError
from reasonedit.matching import AGREED, matches, most_common_answer
from reasonedit.validation import split_reasoning

from .pool import FilePool, Sample, chosen, text_of
from .rows import Row

_log = logging.getLogger(__name__)


class AOKVQA(FilePool):
    """A-OKVQA: ``aokvqa_v1p0_{split}.json``, with images from a folder of COCO 2017.

    Args:
        root: Folder of the JSON files.
        coco: Folder that holds ``train2017``, ``val2017`` or ``test2017``.
        split: ``"train"`` or ``"val"``; the answers of ``"test"`` are not published.
        multiple_choice: Whether questions are asked with their choices. Else what ten people answered directly is right
            as far as they agree (:func:`reasonedit.metrics.accuracy`), and what most of them said is what an edit
            writes. Questions marked ``difficult_direct_answer`` are left out, as the authors' own evaluation leaves
            them out; so are those where no three people agree, as no answer is right there.
        rationales: How many of the rationales of a sample are its reasoning; sentences that recur count once.
        **options: As for :class:`~reasonedit.data.pool.Pool`.

    Raises:
        ReasonEditError: An argument is out of range.
    """

    def __init__(
        self,
        root: str,
        coco: str,
        split: str = "val",
        multiple_choice: bool = True,
        rationales: int = 1,
        **options: Any,
    ) -> None:
        if split not in ("train", "val"):
            reason = "its answers are not published" if split == "test" else "there is none of that name"
            raise ReasonEditError(f"The split '{split}' of A-OKVQA cannot be used ({reason}): use train or val.")
        if rationales < 1:
            raise ReasonEditError(f"rationales must be 1 or more, not {rationales}.")
        self.path = Path(root).absolute() / f"aokvqa_v1p0_{split}.json"
        self.images = Path(coco).absolute() / f"{split}2017"
        self.multiple_choice, self.rationales = multiple_choice, rationales
        super().__init__(**options)

    def rows(self) -> Iterator[Row]:
        """Its rows; asked directly, those of the questions that have a right answer."""
        if self.multiple_choice:
            yield from super().rows()
            return
        difficult = disputed = 0
        for row in super().rows():
            if row.values.get("difficult_direct_answer") is True:
                difficult += 1
            elif _disputed(row):
                disputed += 1
            else:
                yield row
        if difficult or disputed:
            _log.warning(
                "%d questions of %s are left out: %d are marked as difficult to answer directly, on %d no %d people "
                "agree.",
                difficult + disputed, self.name, difficult, disputed, AGREED,
            )  # fmt: skip

    def sample(self, row: Row) -> Sample:
        """One question."""
        values = row.values
        number = values.get("image_id")
        if not isinstance(number, int):
            raise ReasonEditError("'image_id' is missing or no number.")
        told = values.get("rationales") or []
        if not isinstance(told, list) or not told or not all(isinstance(t, str) for t in told):
            raise ReasonEditError("'rationales' is missing or no list of texts.")
        sentences = [s for text in told[: self.rationales] for s in split_reasoning(text)]
        choices: list[str] | None = None
        answers: list[str] = []
        if self.multiple_choice:
            choices, answer = chosen(values.get("choices"), values.get("correct_choice_idx"))
            if answer is None:
                raise ReasonEditError("'choices' or 'correct_choice_idx' is missing.")
        else:
            found = _direct(row)
            if found is None:
                raise ReasonEditError("'direct_answers' is missing, or no list of texts.")
            answers, answer = found, most_common_answer(found)
        return Sample(
            text_of(row, "question_id", numbers=True),
            self.images / f"{number:012}.jpg",
            text_of(row, "question"),
            answer,
            list(dict.fromkeys(sentences)),
            choices,
            answers=answers,
        )


def _direct(row: Row) -> list[str] | None:
    """What people answered, each as often as they did: all of it, or nothing, as it counts how many they are."""
    said = row.values.get("direct_answers")
    if not isinstance(said, list) or not said or not all(isinstance(a, str) and a.strip() for a in said):
        return None
    return said


def _disputed(row: Row) -> bool:
    said = _direct(row)
    return said is not None and not matches(most_common_answer(said), said)
