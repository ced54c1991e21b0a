"""What the callbacks look for in a batch and in a prediction.

A batch is a dict. The keys that hold images and prompts may be named otherwise; all others are optional:

================  ==================================================================================================
``images``        list of images (PIL, paths, bytes, arrays, tensors), or stacked ones; the callbacks see them upright
                  and in RGB, and leave them as they are in the batch
``prompts``       list of questions; the retriever puts facts before them, in place
``bare_prompts``  the same without facts, for who writes or shows the questions
``choices``       list with a list of two or more choices, or ``None`` (an open question), per question
``text_only``     list with ``True`` for each question that is asked without a picture: its image is a blank, not shown
``edits``         list with an :class:`~reasonedit.Edit`, or ``None``, per sample: what to write if the answer is wrong
``targets``       list of right answers: for each sample a text, or a list of texts where several are right
``groups``        list with the group of probes of each sample (``rel``, ``t_gen``, …; empty: of none)
``ids``           list of the samples' names
``edit_ids``      list with the name of the edit that each sample is or belongs to
``before``        list of what the unedited model answered
``step``          number of the step that all ranks take together; on several devices edits come in such steps only
``positions``     list of the samples' places in the stream
``answers``       in a stream: what was answered already, before a run was cut short; it is not asked again
``alone``         in a stream: whether each edit is taken back before the next one is asked
``phase``         what the batch is for (``edit``; ``check``, an edit that is asked again; ``probe``)
``round``         in a stream: the round of probes that it is of, or comes before; 1 for the first
``vision``        the images as the VLM's vision part saw them; put there by whoever needs them first
``token_shares``  how much of each right answer is said; put there by :class:`~reasonedit.callbacks.TokenShares`
``retrieved``     what the retriever found, one :class:`~reasonedit.retrieval.Retrieval` per sample; put there by it
================  ==================================================================================================

A prediction is a list of answers, or a dict with such a list under ``answers``.
"""

from __future__ import annotations

from typing import Any

from reasonedit.batches import (
    answered_already,
    choices_of,
    column,
    in_steps,
    is_list,
    of_length,
    pictures,
    questions,
    texts_alone,
    vision_of,
)
from reasonedit.errors import InputError
from reasonedit.types import Edit

__all__ = [
    "answered_already",
    "answers_of",
    "choices_of",
    "column",
    "edits_in",
    "in_steps",
    "is_list",
    "of_length",
    "pictures",
    "questions",
    "texts_alone",
    "vision_of",
]


TEXTS = (str, int, float)
"""What counts as an answer. What a pipeline of transformers or ``generate`` returns holds the answer, and is none."""


def answers_of(outputs: Any) -> list[str]:
    """The answers in a prediction.

    Raises:
        InputError: The prediction is neither a list nor a dict with ``answers``, or one of them is no text.
    """
    if isinstance(outputs, dict) and "answers" in outputs:
        outputs = outputs["answers"]
    if not isinstance(outputs, (list, tuple)):
        raise InputError(
            f"A prediction must be a list of answers or a dict with 'answers', not {type(outputs).__name__}."
        )
    for row, answer in enumerate(outputs):
        if not isinstance(answer, TEXTS):
            raise InputError(
                f"Answer {row} of the prediction is of type {type(answer).__name__}, where a text is needed: have the "
                "step return a list of texts, or a dict with such a list under 'answers'."
            )
    return [str(a) for a in outputs]


def edits_in(batch: Any) -> list[Edit]:
    """The edits that a batch carries; what somebody else has under that name is none."""
    values = batch.get("edits") if isinstance(batch, dict) else None
    return [value for value in values if isinstance(value, Edit)] if is_list(values) else []
