"""Reads the columns of somebody's batch, and says what is wrong with them.

The keys are in :mod:`reasonedit.callbacks.batch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, TypeGuard

from PIL import Image

from reasonedit.errors import InputError, ReasonEditError
from reasonedit.images import is_array, load_image
from reasonedit.vlm import VLM, Vision

PHASES = ("edit", "check", "probe")
"""What a batch of a stream may be for."""

Choices = list[list[str] | None]


def column(batch: Any, key: str, owner: object) -> list[Any]:
    """The list under a key.

    Args:
        batch: The batch.
        key: The key.
        owner: The callback or module that reads it, for messages.

    Raises:
        InputError: The batch is no dict, has no such key, or no list under it.
    """
    name = type(owner).__name__
    if not isinstance(batch, dict):
        raise InputError(
            f"{name} needs batches that are dicts, not {type(batch).__name__}: let the loader's collate_fn make one."
        )
    if key not in batch:
        raise InputError(
            f"{name} finds no '{key}' in the batch, which has {sorted(map(str, batch))}: "
            "call it so in the batch, or tell the callback its key."
        )
    values = batch[key]
    if not is_list(values):
        raise InputError(
            f"{name} finds under '{key}' {_describe(values)}, where a list with one value per sample is needed."
        )
    return list(values)


def questions(batch: Any, key: str, owner: object) -> list[str]:
    """The texts under a key; arguments as for :func:`column`.

    Raises:
        InputError: There are none, or one is no text.
    """
    texts = column(batch, key, owner)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            _refuse(batch, row, key, f"is {_describe(text)}, where a text is needed")
    return texts


def pictures(batch: Any, key: str, owner: object, samples: int) -> list[Image.Image]:
    """The images under a key, upright and in RGB. The batch keeps its own.

    Args:
        batch: The batch.
        key: The key.
        owner: The callback or module that reads them, for messages.
        samples: How many there must be.

    Raises:
        InputError: One cannot be used, or their number is another; names the sample.
    """
    values = column(batch, key, owner)
    if is_array(batch[key]) and batch[key].ndim in (2, 3):  # one picture in colour, or several in grey
        raise InputError(
            f"The images under '{key}' are one array of {batch[key].ndim} dimensions: stacked images have four, "
            "samples and those of a picture with its channels."
        )
    of_length(values, samples, key)
    return [_picture(batch, row, key, values[row]) for row in range(samples)]


def _picture(batch: dict[str, Any], row: int, key: str, value: Any) -> Image.Image:
    if type(value) is Image.Image and value.mode == "RGB" and not value.info:  # as load_image leaves them
        return value
    if value is None:
        _refuse(batch, row, key, "has no image (None): leave the sample out, or give it one")
    try:
        return load_image(value)
    except ReasonEditError as error:
        raise InputError(f"{_sample(batch, row, key)} cannot be used: {error}") from error


def vision_of(batch: Any, vlm: VLM, owner: object, samples: int) -> Vision:
    """The vision pass of a batch's pictures: the one that somebody made already, or a new one.

    Args:
        batch: The batch.
        vlm: The VLM.
        owner: The callback or module that reads it, for messages.
        samples: Number of samples.

    Raises:
        InputError: As for :func:`pictures`.
    """
    vision = batch.get("vision")  # or something of the user's own
    if isinstance(vision, Vision) and len(vision) == samples:
        return vision
    return vlm.see(pictures(batch, "images", owner, samples))


def texts_alone(batch: Any, owner: object, samples: int) -> list[bool]:
    """Which questions of a batch are asked without a picture: its ``text_only``, if it has that.

    Raises:
        InputError: That is no list with ``True`` or ``False`` for each question.
    """
    if batch.get("text_only") is None:
        return [False] * samples
    values = column(batch, "text_only", owner)
    of_length(values, samples, "text_only")
    for row, value in enumerate(values):
        if not isinstance(value, bool):
            _refuse(batch, row, "text_only", f"has {_describe(value)}, where True or False is needed")
    return list(values)


def choices_of(batch: dict[str, Any], key: str, owner: object, samples: int) -> Choices | None:
    """The choices under a key, if there are any; arguments and errors as for :func:`pictures`.

    An empty list is as good as ``None``: the question is open.
    """
    if batch.get(key) is None:
        return None
    values = column(batch, key, owner)
    of_length(values, samples, key)
    all_choices: Choices = []
    for row, choices in enumerate(values):
        if choices is None:
            all_choices.append(None)
            continue
        several = isinstance(choices, (list, tuple))
        if not several or not all(isinstance(choice, str) for choice in choices):
            wrong = next((c for c in choices if not isinstance(c, str)), None) if several else choices
            _refuse(batch, row, key, f"has {_describe(wrong)}, where each question has a list of texts, or None")
        if len(choices) == 1:
            _refuse(batch, row, key, "has one choice: give two or more, or None for an open question")
        all_choices.append(list(choices) or None)
    return all_choices


def of_length(values: Sequence[Any], samples: int, key: str, of: str = "questions") -> None:
    """Refuse a column that has another length than the questions, or the answers.

    Raises:
        InputError: It has.
    """
    if len(values) != samples:
        raise InputError(
            f"The batch has {len(values)} values under '{key}' for {samples} {of}: each sample needs one of each."
        )


def is_list(values: Any) -> TypeGuard[Sequence[Any]]:
    """Whether something is a list of values, one per sample, as far as can be seen."""
    return isinstance(values, (list, tuple)) or (is_array(values) and values.ndim > 0)


def in_steps(batch: Any) -> bool:
    """Whether a batch is one of an :class:`~reasonedit.EditStream`: all ranks take such steps together."""
    keys = isinstance(batch, dict) and {"step", "positions"} <= batch.keys()
    return keys and isinstance(batch.get("phase"), str) and batch["phase"] in PHASES


def answered_already(batch: Any) -> list[str] | None:
    """The answers that a resumed run has logged for a batch of a stream; ``None`` if it has to be asked.

    In any other batch ``answers`` are something else, such as the right answers of a data set.
    """
    return list(batch["answers"]) if in_steps(batch) and "answers" in batch else None


def _refuse(batch: dict[str, Any], row: int, key: str, why: str) -> NoReturn:
    raise InputError(f"{_sample(batch, row, key)} {why}.")


def _sample(batch: dict[str, Any], row: int, key: str) -> str:
    ids = batch.get("ids")
    name = f" ('{ids[row]}')" if isinstance(ids, (list, tuple)) and row < len(ids) else ""
    return f"Sample {row}{name} of the batch, under '{key}',"


def _describe(value: Any) -> str:
    """A value in a few words."""
    if value is None:
        return "nothing (None)"
    if isinstance(value, str):
        return f"the text '{value[:40]}{'…' if len(value) > 40 else ''}'"
    return f"a value of type {type(value).__name__}"
