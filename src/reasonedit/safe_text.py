r"""Text that somebody else wrote, made safe for a terminal.

A stored question, a name or a model's answer may hold characters that a terminal obeys: escape sequences set its title,
clear it or write to the clipboard, and marks of direction show a text in another order than it is read in. Such
characters are shown as Python writes them, ``\x1b`` and ``\u202e``: in ASCII, which every terminal can show.
"""

from __future__ import annotations

import unicodedata

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of Unicode: controls, formats, halves of surrogate pairs, separators of lines and of paragraphs."""

_VISIBLE_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
"""Signs before numbers, which Unicode counts among the formats although they are visible."""

_JOINERS = "\u200c\u200d"
_BEFORE_JOINERS = ("Lo", "Mn", "Mc", "So", "Sk")
"""What a joiner may follow: emoji, and letters of scripts in which it changes how words are written."""


def to_safe_text(text: str, *, lines: bool = False) -> str:
    r"""Replace all that a terminal obeys or hides; letters of any script stay as they are.

    Args:
        text: The text.
        lines: Whether line breaks and tabs stay, as in an answer of several lines. Else they are shown as ``\n`` and
            ``\t``, so that a text cannot be taken for two.

    >>> to_safe_text("\x1b]0;title\x07 \u202eabc\n")
    '\\x1b]0;title\\x07 \\u202eabc\\n'
    >>> to_safe_text("👨\u200d👩\u200d👧") == "👨\u200d👩\u200d👧"
    True
    """
    if text.isprintable():
        return text
    characters, before = [], ""
    for character in text:
        characters.append(character if _is_harmless(character, before, lines) else _escape(character))
        before = character
    return "".join(characters)


def _is_harmless(character: str, before: str, lines: bool) -> bool:
    if unicodedata.category(character) not in _OBEYED or character in _VISIBLE_FORMATS:
        return True
    if character in _JOINERS:
        return bool(before) and unicodedata.category(before) in _BEFORE_JOINERS
    return lines and character in "\n\t"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
