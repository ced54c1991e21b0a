"""The kinds of keys in a codebook (section 3 of the method; arXiv 2602.02408)."""

from __future__ import annotations

from enum import Enum


class KeyKind(str, Enum):
    """What a key is made of. Its value is its name in files: ``KeyKind("answer")``.

    Attributes:
        help: What its vision half and its sentence half are made of.
        picture: The picture that it shows: the ``"whole"`` image, a ``"region"`` of it, or none (``""``).
        verifiable: Whether the VLM can tell if another image shows its fact, because it affirmed the fact of the edit's
            own image. It cannot tell where a person pointed at the region, or where it only guessed.
    """

    ANSWER = "answer", "the whole image and the question", "whole", False
    IMAGE = "image", "the whole image and a text", "whole", False
    PATCH = "patch", "a region that the VLM affirmed and a text", "region", True
    GIVEN = "given", "a region that a person gave or the VLM guessed, and a text", "region", False
    TEXT = "text", "a text alone", "", False

    help: str
    picture: str
    verifiable: bool

    def __new__(cls, value: str, help: str = "", picture: str = "", verifiable: bool = False) -> KeyKind:
        """Make a member with its attributes."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.help, member.picture, member.verifiable = help, picture, verifiable
        return member

    @property
    def shows_fact(self) -> bool:
        """Whether the picture of the key shows what its fact says; an answer need not be seen in the image."""
        return bool(self.picture) and self is not KeyKind.ANSWER

    @property
    def number(self) -> int:
        """Its place among the kinds, by which tables of keys store it."""
        return KINDS.index(self)

    def __str__(self) -> str:
        """Its name in files."""
        return str(self.value)

    def __format__(self, spec: str) -> str:
        """Its name in files, formatted."""
        return format(str(self), spec)


KINDS = tuple(KeyKind)
"""All kinds by their numbers."""
