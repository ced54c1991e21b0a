"""What a row of RationaleVQA's published probes says: which sample it is about, the questions, what is right."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from reasonedit.errors import InputError
from reasonedit.types import Edit

from .choices import right_choice
from .columns import as_text, read_text
from .rows import Row

MOST_PARAPHRASES = 5
"""Of a question: ten are published, of which the authors ask so many, too."""

_NUMBERED = re.compile(r"\s*\d+[.)]\s*")


def sample_id(row: Row) -> str:
    """The sample that a row is, or belongs to.

    Raises:
        InputError: It does not say.
    """
    value = row.values.get("uid", row.values.get("id"))
    if value is None or not str(value).strip():
        raise InputError("'uid' is missing or empty.")
    return as_text(value, "uid")


def files_of_subset(paths: Sequence[str], subset: str, others: Sequence[str]) -> list[str]:
    """Those of some files that are named after a subset; where none is, those that are named after none of the others.

    Where each has its own there may be those of a further one: the authors' loader knows a ``simulation``, too.
    """
    words = {path: re.split(r"[^a-z0-9]+", path.casefold()) for path in paths}
    named = [path for path in paths if subset.casefold() in words[path]]
    return named or [path for path in paths if not any(other.casefold() in words[path] for other in others)]


def read_questions(group: str, row: Row, edit: Edit) -> list[str]:
    """The questions of a row: the edit's own where a row of CoE-Gen has none.

    Raises:
        InputError: There is none, or they are no texts.
    """
    variants = row.values.get("variants", row.values.get("value"))
    if variants is None:
        own = group == "coe_gen" and not row.values.get("question")
        return [edit.question] if own else [read_text(row, "question")]
    if isinstance(variants, str) and variants.lstrip().startswith("["):  # numpy's form is no list of Python's either
        raise InputError("'variants' is a list written as text: write one question per line, or use JSON or Parquet.")
    if isinstance(variants, str):
        variants = [_NUMBERED.sub("", line, count=1) for line in variants.splitlines()]
    if not isinstance(variants, list) or not all(isinstance(question, str) for question in variants):
        raise InputError("'variants' must be a list of questions.")
    questions = [question for question in variants if question.strip()]
    if not questions:
        raise InputError("'variants' is empty.")
    return questions[:MOST_PARAPHRASES]


def read_answers(group: str, row: Row, edit: Edit, seed: int) -> tuple[str, list[str], list[str] | None]:
    """The right answer of a row, all right ones where there are several, and the choices.

    What the row does not say is the edit's own, except in R-Gen.

    Args:
        group: The group of probes.
        row: The row.
        edit: The edit it belongs to.
        seed: Seed of the order of choices: in the files of R-Gen the right answer is always the first.

    Raises:
        InputError: What is right is not known, or the row contradicts itself.
    """
    answers = row.values.get("answers")
    if isinstance(answers, str) and "|" in answers:
        parts = [part.strip() for part in answers.split("|")]
        choices = list(parts)
        random.Random(f"{seed}-{row.values.get('sid')}-{answers}").shuffle(choices)
        return parts[0], [], choices
    if any(row.values.get(name) not in (None, "") for name in ("answer", "choices", "idx_choices")):
        offered, answer = right_choice(row)
        if offered is None and edit.choices and answer.casefold() in [c.casefold() for c in edit.choices]:
            offered = edit.choices
        return answer, [], offered
    if isinstance(answers, str) and answers.strip():
        return answers.strip(), [], None
    if group == "r_gen":
        raise InputError("'answers' is missing: what is right is not known.")
    return edit.answer, edit.answers, edit.choices
