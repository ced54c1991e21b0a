"""The VLM's own reasons for an answer, sentence by sentence, as a start for those of a person (ours).

Nothing here is an explanation of what happened inside the model: it is what the model says when it is asked, and may be
wrong even where the answer is right. That is why each sentence carries a confidence, and why a person decides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reasonedit.errors import NotServedError
from reasonedit.matching import UNSPACED
from reasonedit.prompts import DESCRIBE, verification_question
from reasonedit.types import Query
from reasonedit.validation import segment_text
from reasonedit.vlm import VLM, Generation, Vision

THOUGHT, SAID, ASKED, DESCRIBED = "thought", "said", "asked", "described"

WHY = "{question} The answer is {answer}. Why? Give each reason as one short sentence."
_LONGEST, _MOST = 256, 24
"""Tokens of a chain of reasons, and sentences that are kept of it."""
_FEWEST_WORDS = 3
"""A reply of fewer words is no sentence, as what VLMs say that were trained on short answers."""
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
"""A word, or a character of a script that puts no spaces between words."""

UNNAMED = re.compile(
    r"\bthe (?:\w+ ){0,2}(?:object|thing|item|animal|vehicle|tool)\b"
    r"(?: next to the \w+| (?:at|in|on) the (?:(?:top|bottom|upper|lower) )?"
    r"(?:left|right|top|bottom|cent(?:er|re)|middle|image|picture|photo)\b)?",
    re.IGNORECASE,
)
"""A thing that a question speaks of without its name."""
_TWO_STEPS = re.compile(r"\b(live|lives|home|country)\b", re.IGNORECASE)
"""Of a question with such a word the answer is not said of the thing itself, but of its owner or its place."""
_STATEMENTS = (
    (re.compile(r"\b(used?|uses|purpose)\b.*\bfor\b|\bfor\b.*\bused?\b|\bpurpose\b", re.IGNORECASE), "is used for {v}"),
    (re.compile(r"\b(made|make|material)\b", re.IGNORECASE), "is made of {v}"),
    (re.compile(r"\b(owns?|owner|belongs?)\b", re.IGNORECASE), "belongs to the {v}"),
    (re.compile(r"\b(where|place|found|find)\b", re.IGNORECASE), "is found in the {v}"),
)
"""What a question asks of a thing, and how the answer is said of it."""


@dataclass(frozen=True)
class OwnSentence:
    """A sentence, and how sure the VLM is of it.

    Attributes:
        text: The sentence.
        confidence: From 0 to 1; see :func:`reason_for`. ``None`` where the sentence is too long to be asked about.
    """

    text: str
    confidence: float | None


@dataclass(frozen=True)
class OwnReasoning:
    """The VLM's own reasons.

    Attributes:
        answer: The answer that they are for.
        sentences: The reasons.
        source: ``"thought"``, ``"said"``, ``"asked"`` or ``"described"``; see :func:`reason_for`.
        left_out: How many sentences more there were: the first 24 are kept.
    """

    answer: str
    sentences: list[OwnSentence]
    source: str
    left_out: int = 0


@dataclass
class _Told:
    """Sentences, and for those that a question brought that question and its answer."""

    texts: list[str] = field(default_factory=list)
    replies: dict[str, tuple[str, str]] = field(default_factory=dict)


def reason_for(vlm: VLM, query: Query, answer: str = "", generation: Generation | None = None) -> OwnReasoning:
    """Have a VLM give its reasons for an answer, without any codebook.

    The reasons come from the first of these that gives any:

    - ``thought``: what a reasoning VLM thought before its answer (only of its own answer, not of one that is given);
    - ``said``: what it says to "Why?", where that is more than one sentence;
    - ``asked``: the embedded VLM, and others that were trained on short answers, cannot say why: they give a word, or a
      fragment that may be beside the point. They are asked what they can answer: what the thing is that the question
      speaks of without its name, and the same question about a thing of that name. The answers are put into sentences
      ("The red object is a kettle. A kettle is used for boiling."), for questions in English about use, material, owner
      or place; of others, and of those that take two steps, the name alone;
    - ``said`` again, the one sentence, or ``described``, what it sees, where the question speaks of no such thing.

    The confidence of a sentence is the VLM's ``p_yes`` of it for the picture; of one that a question brought, the mean
    probability per token of the reply to that question where that is lower (an endpoint may not give it). On 330 true
    and false sentences of the embedded world (development seeds) the area under the ROC curve is 0.996 for the lower of
    the two, 0.82 for ``p_yes`` alone and 0.90 for the reply alone: ``p_yes`` tells what the picture does not show
    (0.99), but hardly a wrong use or owner of what it shows (0.62), which the reply tells (1.00). So the confidence of
    what was only said or thought speaks of the picture alone. And whatever the measure: what has changed since the VLM
    was trained it says with confidence, and wrongly.

    Args:
        vlm: The VLM.
        query: The question.
        answer: The answer that is to be reasoned for; the VLM's own when not given.
        generation: How the VLM's own answer is made; the length of the reasons is not bound by it.

    Raises:
        ReasonEditError: A prompt is longer than the model reads, or the model's numbers are not finite.
    """
    generation = generation or Generation()
    vision, thought = vlm.see([query.image]), ""
    if not answer:
        reply = vlm.reply(vision, [query.question], [query.choices], generation)[0]
        if reply.thought and not reply.text:  # the thought was longer than an answer may be
            longer = generation.but(max(generation.max_new_tokens, _LONGEST))
            reply = vlm.reply(vision, [query.question], [query.choices], longer)[0]
        answer, thought = reply.text, reply.thought
    source, found = _find_reasons(vlm, vision, query.question, answer, thought)
    kept = found.texts[:_MOST]
    sentences = [OwnSentence(*pair) for pair in zip(kept, _rate(vlm, vision, kept, found), strict=True)]
    return OwnReasoning(answer, sentences, source, len(found.texts) - len(kept))


def _find_reasons(vlm: VLM, vision: Vision, question: str, answer: str, thought: str) -> tuple[str, _Told]:
    """The first sentences that there are, and where they come from."""
    if texts := _split(thought):
        return THOUGHT, _Told(texts)
    said = _split(_ask(vlm, vision, WHY.format(question=question, answer=answer)))
    if len(said) > 1:
        return SAID, _Told(said)
    told = _interview(lambda asked, longest: _ask(vlm, vision, asked, longest), question)
    if told.texts:
        return ASKED, told
    return (SAID, _Told(said)) if said else (DESCRIBED, _Told(_split(_ask(vlm, vision, DESCRIBE))))


def _ask(vlm: VLM, vision: Vision, question: str, longest: int = _LONGEST) -> str:
    return vlm.reply(vision, [question], generation=Generation(longest))[0].text


def _split(text: str) -> list[str]:
    """The sentences of a text, each once."""
    sentences = (" ".join(part.split()) for part in segment_text(text))
    return list(dict.fromkeys(s for s in sentences if len(_WORD.findall(s)) >= _FEWEST_WORDS))


def interview(ask: Callable[[str, int], str], question: str) -> list[str]:
    """Reasons from what is answered to questions that take one word; see ``asked`` of :func:`reason_for`.

    Args:
        ask: Answers a question about the picture in so many tokens; a VLM with a codebook gives its reasons as edited.
        question: The question that the reasons are for.

    Returns:
        The sentences; none where the question speaks of no thing without its name.
    """
    return _interview(ask, question).texts


def _interview(ask: Callable[[str, int], str], question: str) -> _Told:
    unnamed = UNNAMED.search(question)
    if unnamed is None:
        return _Told()
    thing = unnamed[0]
    asked = f"What is {thing}?"
    name = ask(asked, 8).strip(" .")
    if not name:
        return _Told()
    named = (
        name if re.match(r"(a|an|the|some)\b", name, re.IGNORECASE) else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    )
    told = _Told()
    _add(told, f"{thing} is {named}.", asked, name)
    known = next((said for pattern, said in _STATEMENTS if pattern.search(question)), None)
    if known is not None and not _TWO_STEPS.search(question):
        asked = question.replace(thing, named)
        value = ask(asked, 8).strip(" .")
        if value:
            article = re.match(r"(a|an|the)\s+", value, re.IGNORECASE) if "the {v}" in known else None
            said = known.format(v=value[article.end() :] if article else value)
            _add(told, f"{named} {said}.", asked, value)
    return told


def _add(told: _Told, sentence: str, question: str, reply: str) -> None:
    sentence = sentence[0].upper() + sentence[1:]
    told.texts.append(sentence)
    told.replies[sentence] = question, reply


def _rate(vlm: VLM, vision: Vision, sentences: Sequence[str], told: _Told) -> list[float | None]:
    """How sure the VLM is of sentences; see :func:`reason_for`."""
    questions = [verification_question(sentence) for sentence in sentences]
    fits = [vlm.has_room(vision.images[0], vlm.prompt(question)) for question in questions]
    asked = [question for question, room in zip(questions, fits, strict=True) if room]
    affirmed = iter(vlm.p_yes(vision, [asked])[0].tolist() if asked else [])
    rated = [next(affirmed) if room else None for room in fits]
    for i, sentence in enumerate(sentences):
        value = rated[i]
        if value is not None and sentence in told.replies:
            rated[i] = min(value, _rate_reply(vlm, vision, *told.replies[sentence]))
    return rated


def _rate_reply(vlm: VLM, vision: Vision, question: str, reply: str) -> float:
    """The mean probability per token of a reply; 1 where it is not given."""
    try:
        nll = vlm.sentence_nll(vision, question, [[reply]])[0]
    except NotServedError:
        return 1.0
    return math.exp(-float(nll[0]))
