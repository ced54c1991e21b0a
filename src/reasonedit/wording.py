"""One wording for answers that say the same, after the VQA evaluation (arXiv 1505.00468)."""

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
"""Those of the evaluation's table. It lists forms with an apostrophe or two missing; here all may be missing."""

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
"""Marks that NFKC leaves apart, or takes apart: quotes, Arabic separators, minus and slashes."""

_UNSEEN = re.compile("[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_SMALL = "[\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u208e\u2150-\u215f\u2189]"
_BESIDE_SMALL = re.compile(rf"(?<=\d)(?={_SMALL})|(?<=[\u00bc-\u00be\u2150-\u215f\u2189])(?=\d)")
"""Where a raised digit or a fraction touches a number: NFKC alone would make 11/2 of 1½, and 102 of 10²."""

_COMMA = re.compile(r"(?<=\d),(?=\d)")
_PERIOD = re.compile(r"\.(?!\d)")
_COLON = re.compile(r":(?!\d)|(?<!\d):")
_HYPHEN = re.compile(r"-(?![$\u00a2-\u00a5\u20a0-\u20c0]?\.?\d)|(?<=[\w.)])-")
_QUOTED = re.compile(r"(?<!\w)'([^']+)'(?!\w)")
_QUOTE = re.compile(r"(?<!\w)'|(?<![\W\d])'(?!\w)")
_STAR = re.compile(r"(?<!\w)\*+|\*+(?!\w)")
_MARKS, _KEPT = frozenset('=+<>/"'), frozenset("'.:-%&#*\u2030\u2031\u00a7")
"""Symbols that count as punctuation, and punctuation that is still there by now because it says something."""


def normalise(answer: str) -> str:
    """The wording by which an answer is compared.

    After the VQA evaluation: lower case; punctuation becomes a space, but the comma between two digits and every period
    that no digit follows just go; ``none`` and the words from zero to ten become digits; articles go; contractions get
    their apostrophes. Before that Unicode is made one (NFKC, case folding, digits of any script, typographic quotes and
    dashes), so that full-width and CJK punctuation counts too. Where the evaluation would take different things for
    the same, we do not follow: a minus before a number, a colon between digits, and a last word "A" stay.

    What nothing is left of ("?") stays as it is, so that it equals itself alone.

    >>> normalise(" The  Kitchen. ")
    'kitchen'
    >>> normalise("Two T-shirts, 1,000.50 dollars")
    '2 t shirts 1000.50 dollars'
    >>> normalise("It isnt 3 o\u2019clock")
    "it isn't 3 o'clock"
    >>> normalise("?")
    '?'
    """
    plain = _one_unicode(answer)
    text = _COMMA.sub("", plain)
    text = _PERIOD.sub("", text)
    text = _COLON.sub(" ", text)
    text = _HYPHEN.sub(" ", text)
    text = _QUOTE.sub("", _QUOTED.sub(r"\1", text))
    text = _STAR.sub(" ", text)
    words = "".join(" " if _is_mark(c) else c for c in text).split()
    # An article comes before something: the last word of "vitamin A" is none, nor is that of the answer "A".
    kept = [word for i, word in enumerate(words) if word not in _ARTICLES or i == len(words) - 1]
    return " ".join(_word(word) for word in kept) or " ".join(plain.split())


def _one_unicode(text: str) -> str:
    text = _BESIDE_SMALL.sub(" ", text.translate(_PLAIN))
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = _UNSEEN.sub("", text.translate(_PLAIN)).replace("i\u0307", "i")  # what the Turkish İ is folded to
    return text if text.isascii() else "".join(_plain(c) for c in text)


def _plain(character: str) -> str:
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    return "-" if unicodedata.category(character) == "Pd" else character


def _is_mark(character: str) -> bool:
    if character.isalnum() or character.isspace():
        return False
    return character in _MARKS or (unicodedata.category(character)[0] == "P" and character not in _KEPT)


def _word(word: str) -> str:
    word = _NUMBERS.get(word, word)
    return _CONTRACTIONS.get(word.replace("'", ""), word)
