"""A-OKVQA as its authors publish it (arXiv 2206.01718)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from reasonedit.edits import split_reasoning
from reasonedit.errors import ReasonEditError

from .pool import FilePool, Sample, chosen, text_of
from .rows import Row


class AOKVQA(FilePool):
    """A-OKVQA: ``aokvqa_v1p0_{split}.json``, with images from a folder of COCO 2017.

    Args:
        root: Folder of the JSON files.
        coco: Folder that holds ``train2017``, ``val2017`` or ``test2017``.
        split: ``"train"`` or ``"val"``; the answers of ``"test"`` are not published.
        multiple_choice: Whether questions are asked with their choices; else their most frequent direct answer is the
            right one.
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
        self.path = Path(root) / f"aokvqa_v1p0_{split}.json"
        self.images = Path(coco) / f"{split}2017"
        self.multiple_choice, self.rationales = multiple_choice, rationales
        super().__init__(**options)

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
        if self.multiple_choice:
            choices, answer = chosen(values.get("choices"), values.get("correct_choice_idx"))
            if answer is None:
                raise ReasonEditError("'choices' or 'correct_choice_idx' is missing.")
        else:
            said = Counter(a for a in values.get("direct_answers") or [] if isinstance(a, str) and a.strip())
            if not said:
                raise ReasonEditError("'direct_answers' is missing or empty.")
            choices, answer = None, said.most_common(1)[0][0]
        return Sample(
            text_of(row, "question_id"),
            self.images / f"{number:012}.jpg",
            text_of(row, "question"),
            answer,
            list(dict.fromkeys(sentences)),
            choices,
        )
