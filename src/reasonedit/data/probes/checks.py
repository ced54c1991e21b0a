"""Checks that a text must pass before it becomes a probe."""

from __future__ import annotations

import json
import re
from typing import Any

_WORDS = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_QUOTED = re.compile(r"(?<!\w)[\"'\u2018\u201c]([^\"'\u2019\u201d]+)[\"'\u2019\u201d](?!\w)")
_BULLET = re.compile(r"^\s*(?:[-*\u2022]\s|\d+[.)])\s*")
_LABEL = re.compile(r"^\s*(?:rewritten |new |paraphrased )?(?:question|scene|description|answer)\s*:\s*", re.IGNORECASE)
_LONGEST = 60
_COMMON = frozenset(
    "about also another because been before being does doing each from have having here into more most much other "
    "over same some such than that their them then there these they this those used very were what when where which "
    "while will with would your picture image photo".split()
)


class Rejected(Exception):  # noqa: N818 - it is no error: another try may do better
    """What was made cannot be a probe; says why."""


def first_line_of(reply: str) -> str:
    """The first line of a reply that says something, without quotes and labels.

    Raises:
        Rejected: There is none, or it is too long.

    >>> first_line_of('Question: "What is it for?"')
    'What is it for?'
    """
    lines = [_BULLET.sub("", line).strip() for line in reply.splitlines()]
    lines = [line for line in lines if any(c.isalpha() for c in line)]
    # "Sure, here it is:" comes before what was asked for.
    line = next((x for x in lines if not x.endswith(":")), "")
    line = _LABEL.sub("", line.strip("\"'\u201c\u201d*` ")).strip("\"'\u201c\u201d*` ")
    if not line:
        raise Rejected("empty")
    if len(line.split()) > _LONGEST:
        raise Rejected(f"longer than {_LONGEST} words")
    return line


def check_question(text: str, original: str) -> str:
    """A question that is not the original one.

    Raises:
        Rejected: It is none, or the same.
    """
    if not text.endswith("?") or len(words(text)) < 3:
        raise Rejected("not a question")
    if words(text) == words(original):
        raise Rejected("identical")
    return text


def check_paraphrase(text: str, original: str) -> str:
    """A question that asks in other words, and of the same names and numbers.

    Raises:
        Rejected: It is no question, the same, or a name is lost.
    """
    check_question(text, original)
    lost = sorted(name for name in names_in(original) if name.casefold() not in text.casefold())
    if lost:
        raise Rejected(f"lost {', '.join(lost)}")
    return text


def names_in(text: str) -> set[str]:
    """Names and numbers in a text: what is quoted, has a digit, or is capitalised though it begins no sentence.

    >>> sorted(names_in("Which 2 rivers does 'Old Bob' cross in New York?"))
    ['2', 'New', 'Old Bob', 'York']
    """
    names = {quoted for quoted in _QUOTED.findall(text) if _WORDS.search(quoted)}
    within = " ".join(names)
    for sentence in re.split(r"(?<=[.?!])\s+", text):
        for i, word in enumerate(_WORDS.findall(sentence)):
            if any(c.isdigit() for c in word) or (word[0].isupper() and word != "I" and (i > 0 or word[1:].isupper())):
                names.add(word)
    return {name for name in names if " " in name or name not in within.split()}


def check_shared(text: str, other: str, what: str) -> str:
    """A text that has a content word in common with another.

    Raises:
        Rejected: It has none.
    """
    if not _content_words(text) & _content_words(other):
        raise Rejected(f"shares no word with the {what}")
    return text


def parse_json_object(reply: str, *keys: str) -> dict[str, str]:
    """The JSON object in a reply, whose values are texts.

    Raises:
        Rejected: There is none, or a key is missing.
    """
    decoder = json.JSONDecoder()
    for start in (m.start() for m in re.finditer(r"\{", reply)):
        try:
            values: Any = decoder.raw_decode(reply[start:])[0]
        except ValueError:
            continue
        if all(isinstance(values.get(k), str) and values[k].strip() for k in keys):
            return {k: " ".join(values[k].split()) for k in keys}
        raise Rejected(f"the JSON lacks one of {', '.join(keys)}")
    raise Rejected("no JSON")


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return [w.casefold() for w in _WORDS.findall(text)]


def _content_words(text: str) -> set[str]:
    # A plural and its singular count as one word.
    return {w.removesuffix("s") for w in words(text) if len(w) > 3 and w not in _COMMON}
