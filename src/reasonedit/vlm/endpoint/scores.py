"""Probabilities in what an endpoint says of single tokens. Log-probabilities are natural ones."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SPACE = "\u2581"  # how SentencePiece writes a space
_WORDS = {word: {word, word.capitalize(), word.upper()} for word in ("yes", "no")}


@dataclass(frozen=True)
class Step:
    """One token that was said.

    Attributes:
        token: Its text.
        candidates: The tokens that were most probable in its place, each with its log-probability.
    """

    token: str
    candidates: tuple[tuple[str, float], ...]


def steps_of(choice: Any) -> list[Step]:
    """The tokens of a choice of a chat completion; none where it has no log-probabilities."""
    content = getattr(getattr(choice, "logprobs", None), "content", None) or []
    steps = []
    for item in content:
        listed = {c.token: float(c.logprob) for c in getattr(item, "top_logprobs", None) or []}
        listed.setdefault(item.token, float(item.logprob))
        steps.append(Step(item.token, tuple((token, value) for token, value in listed.items())))
    return steps


def p_yes_of(step: Step) -> float | None:
    """P("yes") / (P("yes") + P("no")), each summed over its case and leading-space variants.

    A word that is not among the candidates has no more than the least of these, nor more than all of them leave; it
    counts for that.

    Returns:
        The probability; ``None`` where neither word is among them.

    >>> round(p_yes_of(Step("Yes", (("Yes", math.log(0.6)), (" no", math.log(0.2))))), 3)
    0.75
    >>> round(p_yes_of(Step("Yes", (("Yes", math.log(0.98)),))), 3)
    0.98
    """
    chances = [math.exp(value) for _, value in step.candidates]
    most = min(*chances, max(0.0, 1.0 - sum(chances)))
    shares = {}
    for word, variants in _WORDS.items():
        found = [value for token, value in step.candidates if token.replace(_SPACE, " ").removeprefix(" ") in variants]
        shares[word] = sum(math.exp(value) for value in found)
    if not any(shares.values()):
        return None
    yes, no = (shares[word] or most for word in ("yes", "no"))
    return yes / (yes + no) if yes + no else None


def said_yes(text: str) -> float | None:
    """1 or 0 where a text begins with yes or no, else ``None``.

    >>> said_yes("Yes, it does."), said_yes("**No**"), said_yes("Maybe.")
    (1.0, 0.0, None)
    """
    word = "".join(c if c.isalpha() else " " for c in text).split()[:1]
    return {"yes": 1.0, "no": 0.0}.get(word[0].lower()) if word else None


def likeliest_choice(choices: Sequence[str], steps: Sequence[Step]) -> int | None:
    """Which choice is the most probable, by the tokens of an answer that was free to be any.

    A choice goes along with the answer for as long as they agree. Where it departs, the candidates with which it could
    go on count; what would follow these is not known, so it counts for as much as it can at most.

    Returns:
        Its number; ``None`` where no choice begins with any candidate, or nothing is known of them.

    >>> said = [Step("a", (("a", -0.1), ("the", -3.0))), Step(" cup", ((" cup", -0.5), (" key", -1.0)))]
    >>> likeliest_choice(["a key", "a cup", "the sea"], said)
    1
    """
    scores = [_score(choice, steps) for choice in choices] if steps else []
    best = max(scores, default=-math.inf)
    return scores.index(best) if best > -math.inf else None


def _score(choice: str, steps: Iterable[Step]) -> float:
    left, score = choice.strip().casefold(), 0.0
    for step in steps:
        ways = [(way, value) for token, value in step.candidates if (way := _begins(left, token)) is not None]
        said = next(((way, value) for way, value in ways if step.token.replace(_SPACE, " ") == way.said), None)
        if said is None:
            total = sum(math.exp(value) for _, value in ways)
            return score + math.log(total) if total else -math.inf
        score += said[1]
        left = said[0].rest
        if not left:
            return score
    return score


@dataclass(frozen=True)
class _Way:
    """A token with which a text can begin, as it was said, and what of the text is left behind it."""

    said: str
    rest: str


def _begins(text: str, token: str) -> _Way | None:
    said = token.replace(_SPACE, " ")
    plain = said.casefold() if text[:1].isspace() else said.casefold().lstrip()
    if not plain:  # a space before the text
        return _Way(said, text) if said else None
    if text.startswith(plain):
        return _Way(said, text[len(plain) :])
    return _Way(said, "") if plain.startswith(text) and not plain[len(text) :].strip(" .\n") else None


def closest_choice(choices: Sequence[str], text: str) -> tuple[int, bool]:
    """The choice that a text names.

    Returns:
        Its number, and whether the text does name it, and it alone: else it is the one that is named first, or where
        none is the one that is written most like it.

    >>> closest_choice(["a key", "a cup"], "It is a cup.")
    (1, True)
    >>> closest_choice(["A", "B"], "The answer is B."), closest_choice(["yes", "no"], "I do not know.")[1]
    ((1, True), False)
    """
    said = text.strip().strip(".").casefold()
    names = [choice.strip().casefold() for choice in choices]
    if said in names:
        return names.index(said), True
    places = _places(choices, text)
    if places:
        return min(places, key=places.__getitem__), len(places) == 1
    likeness = [difflib.SequenceMatcher(None, name, said).ratio() for name in names]
    return likeness.index(max(likeness)), False


def _places(choices: Sequence[str], text: str) -> dict[int, int]:
    """Where a text has choices as words of their own, by their numbers; within a longer one's name is none of another.

    One letter is a name in its own case only: "a" is an article.
    """
    places = {}
    for i in sorted(range(len(choices)), key=lambda i: -len(choices[i].strip())):
        name = choices[i].strip()
        case = re.NOFLAG if len(name) == 1 else re.IGNORECASE
        pattern = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", case)
        found = pattern.search(text) if name else None
        if found is not None:
            places[i] = found.start()
            text = pattern.sub(lambda match: " " * len(match[0]), text)
    return places


def logs_of_last(tokens: Sequence[Mapping[str, Any] | None] | None, text: str) -> list[float] | None:
    """Log-probabilities of the tokens with which a prompt ends, as many as spell a text.

    Args:
        tokens: For each token of the prompt what vLLM says of it: ``{id: {"logprob": …, "decoded_token": …}}``.
        text: The text at the end.

    Returns:
        Those of its tokens, the last first; ``None`` where the tokens do not spell the text.
    """
    wanted, spelled = "".join(text.split()), ""
    values: list[float] = []
    for token in reversed(tokens or []):
        about = next(iter((token or {}).values()), None)
        if about is None:
            return None
        spelled = "".join(str(about["decoded_token"]).replace(_SPACE, " ").split()) + spelled
        values.append(float(about["logprob"]))
        if spelled == wanted:
            return values
        if not wanted.endswith(spelled):
            return None
    return None
