"""A-OKVQA as its authors publish it (arXiv 2206.01718)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from reasonedit.errors import InputError
from reasonedit.matching import AGREED, matches, most_common_answer
from reasonedit.validation import split_reasoning

from .columns import pick_choice, read_text
from .pool import FilePool
from .rows import Row
from .sample import Sample

_log = logging.getLogger(__name__)


class AOKVQA(FilePool):
    """A-OKVQA: ``aokvqa_v1p0_{split}.json``, with images from a folder of COCO 2017.

    Args:
        root: Folder of the JSON files.
        coco: Folder that holds ``train2017``, ``val2017`` or ``test2017``; ``root`` when not given.
        split: ``"train"`` or ``"val"``; the answers of ``"test"`` are not published.
        multiple_choice: Whether questions are asked with their choices. Else what ten people answered directly is right
            as far as they agree (:func:`reasonedit.metrics.accuracy`), and an edit writes what most of them said.
            Questions marked ``difficult_direct_answer`` are left out, as in the authors' own evaluation; so are those
            where no three people agree, as no answer is right there.
        rationales: How many of the rationales of a sample are its reasoning; sentences that recur count once.
        **options: As for :class:`~reasonedit.data.pool.Pool`.

    Raises:
        InputError: An argument is out of range.
    """

    training: ClassVar[Mapping[str, Any]] = {"split": "train"}

    def __init__(
        self,
        root: str,
        coco: str | None = None,
        split: str = "val",
        multiple_choice: bool = True,
        rationales: int = 1,
        **options: Any,
    ) -> None:
        if split not in ("train", "val"):
            reason = "its answers are not published" if split == "test" else "there is none of that name"
            raise InputError(f"The split '{split}' of A-OKVQA cannot be used ({reason}): use train or val.")
        if rationales < 1:
            raise InputError(f"rationales must be 1 or more, not {rationales}.")
        self.path = Path(root).absolute() / f"aokvqa_v1p0_{split}.json"
        self.images = Path(coco or root).absolute() / f"{split}2017"
        self.multiple_choice, self.rationales = multiple_choice, rationales
        super().__init__(**options)

    def rows(self) -> Iterator[Row]:
        """Its rows; without choices only those of questions that have a right answer."""
        if self.multiple_choice:
            yield from super().rows()
            return
        difficult = disputed = 0
        for row in super().rows():
            if row.values.get("difficult_direct_answer") is True:
                difficult += 1
            elif _is_disputed(row):
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
            raise InputError("'image_id' is missing or not a number.")
        rationales = values.get("rationales") or []
        if not isinstance(rationales, list) or not rationales or not all(isinstance(t, str) for t in rationales):
            raise InputError("'rationales' is missing, or not a list of texts.")
        sentences = [s for text in rationales[: self.rationales] for s in split_reasoning(text)]
        choices: list[str] | None = None
        answers: list[str] = []
        if self.multiple_choice:
            choices, answer = pick_choice(values.get("choices"), values.get("correct_choice_idx"))
            if answer is None:
                raise InputError("'choices' or 'correct_choice_idx' is missing.")
        else:
            direct = _direct_answers(row)
            if direct is None:
                raise InputError("'direct_answers' is missing, or not a list of texts.")
            answers, answer = direct, most_common_answer(direct)
        return Sample(
            read_text(row, "question_id", numbers=True),
            self.images / f"{number:012}.jpg",
            read_text(row, "question"),
            answer,
            list(dict.fromkeys(sentences)),
            choices,
            answers=answers,
        )


def _direct_answers(row: Row) -> list[str] | None:
    """What people answered, one text per person; ``None`` where any is no text, as it counts how many they are."""
    answers = row.values.get("direct_answers")
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) and a.strip() for a in answers):
        return None
    return answers


def _is_disputed(row: Row) -> bool:
    answers = _direct_answers(row)
    return answers is not None and not matches(most_common_answer(answers), answers)
