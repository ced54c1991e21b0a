"""One wording for answers that mean the same, after the VQA evaluation (arXiv 1505.00468)."""

from __future__ import annotations

import re
import unicodedata

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
} | {"none": "0"}
_CONTRACTIONS = {
    word.replace("'", ""): word
    for word in """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's i'd've i'm i've isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't
    needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd somebody'd've
    somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's
    there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't
    what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
    """.split()
}
"""The evaluation's contractions. It knows them with one or two apostrophes missing; here all may be missing."""

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u02bb\u00b4`\u2032", "'"),
        **dict.fromkeys("\u2033\u02ba", '"'),
        "\u066b": ".",
        "\u066c": ",",
        "\u2212": "-",
        "\u2044": "/",
        "\u2215": "/",
    }
)
"""Marks that NFKC does not bring to one form: quotes, Arabic separators, minus and slashes."""

_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_RAISED = "[\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u208e\u2150-\u215f\u2189]"
_BESIDE_RAISED = re.compile(rf"(?<=\d)(?={_RAISED})|(?<=[\u00bc-\u00be\u2150-\u215f\u2189])(?=\d)")
"""Where a raised digit or a fraction touches a number: NFKC alone would turn 1½ into 11/2, and 10² into 102."""

_COMMA = re.compile(r"(?<=\d),(?=\d)")
_PERIOD = re.compile(r"\.(?!\d)")
_COLON = re.compile(r":(?!\d)|(?<!\d):")
_HYPHEN = re.compile(r"-(?![$\u00a2-\u00a5\u20a0-\u20c0]?\.?\d)|(?<=[\w.)])-")
_QUOTED = re.compile(r"(?<!\w)'([^']+)'(?!\w)")
_QUOTE = re.compile(r"(?<!\w)'|(?<![\W\d])'(?!\w)")
_STAR = re.compile(r"(?<!\w)\*+|\*+(?!\w)")
_SYMBOLS, _MEANINGFUL = frozenset('=+<>/"'), frozenset("'.:-%&#*\u2030\u2031\u00a7")
"""Symbols that count as punctuation; and punctuation that means something where it is still there."""


def normalise(answer: str) -> str:
    """The wording by which an answer is compared.

    First Unicode is brought to one form (NFKC, case folding, digits of any script, typographic quotes and dashes), so
    that full-width and CJK punctuation counts too. Then, after the VQA evaluation: lower case; punctuation becomes a
    space, except that the comma between two digits and every period that no digit follows are dropped; ``none`` and the
    words from zero to ten become digits; articles are dropped; contractions get their apostrophes. We depart from the
    evaluation where it would take different answers for the same: a minus before a number, a colon between digits, and
    a last word "A" stay.

    An answer of which nothing would be left ("?") stays as it is, so that it equals only itself.

    >>> normalise(" The  Kitchen. ")
    'kitchen'
    >>> normalise("Two T-shirts, 1,000.50 dollars")
    '2 t shirts 1000.50 dollars'
    >>> normalise("It isnt 3 o\u2019clock")
    "it isn't 3 o'clock"
    >>> normalise("?")
    '?'
    """
    plain = _unify_unicode(answer)
    text = _COMMA.sub("", plain)
    text = _PERIOD.sub("", text)
    text = _COLON.sub(" ", text)
    text = _HYPHEN.sub(" ", text)
    text = _QUOTE.sub("", _QUOTED.sub(r"\1", text))
    text = _STAR.sub(" ", text)
    words = "".join(" " if _is_mark(c) else c for c in text).split()
    # A last word is no article: not in "vitamin A", nor in the answer "A".
    content = [word for i, word in enumerate(words) if word not in _ARTICLES or i == len(words) - 1]
    return " ".join(_normalise_word(word) for word in content) or " ".join(plain.split())


def _unify_unicode(text: str) -> str:
    text = _BESIDE_RAISED.sub(" ", text.translate(_PLAIN))
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = _INVISIBLE.sub("", text.translate(_PLAIN)).replace("i\u0307", "i")  # to which the Turkish İ is folded
    return text if text.isascii() else "".join(_unify_character(c) for c in text)


def _unify_character(character: str) -> str:
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    return "-" if unicodedata.category(character) == "Pd" else character


def _is_mark(character: str) -> bool:
    if character.isalnum() or character.isspace():
        return False
    return character in _SYMBOLS or (unicodedata.category(character)[0] == "P" and character not in _MEANINGFUL)


def _normalise_word(word: str) -> str:
    word = _NUMBERS.get(word, word)
    return _CONTRACTIONS.get(word.replace("'", ""), word)
