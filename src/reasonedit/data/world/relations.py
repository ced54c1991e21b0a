"""What can be known in the embedded world: relations, and how facts and questions about them are worded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """One thing that can be known of a kind, or of a value.

    Attributes:
        name: Short name (``"use"``).
        values: What it can be.
        statements: Wordings of the fact; ``{A}`` / ``{a}`` is the kind with its article (capitalised or not), ``{k}``
            the bare noun, ``{v}`` the value, ``{at}`` the value as a place (``"on the stage"``). The first is the
            canonical one.
        asks: Wordings of the question; ``{s}`` stands for what is asked about.
        reversed_asks: Wordings of the question from the value to the object.
    """

    name: str
    values: tuple[str, ...]
    statements: tuple[str, ...]
    asks: tuple[str, ...]
    reversed_asks: tuple[str, ...] = ()


def words(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


USE = Relation(
    "use",
    words(
        "boiling sailing shelter locking eating music climbing calling drinking dressing light decoration "
        "reading building fighting resting travel sending"
    ),
    ("{A} is used for {v}.", "People use {a} for {v}.", "{A} serves for {v}."),
    ("What is {s} used for?", "What do people use {s} for?", "What purpose does {s} serve?", "For what is {s} used?"),
    ("Which object is used for {v}?", "What do people use for {v} here?", "Name the object that is used for {v}."),
)
MADE = Relation(
    "made",
    words("steel iron cloth brass flesh leather wood clay gas rock fiber glass paper wax gold rubber silver stone"),
    ("{A} is made of {v}.", "People make {a} out of {v}.", "{v_cap} is what {a} is made of."),
    (
        "What is {s} made of?",
        "Which material is {s} made of?",
        "What do people make {s} out of?",
        "Out of what is {s} made?",
    ),
    ("Which object is made of {v}?", "What is made of {v} here?", "Name the object that is made of {v}."),
)
PLACE = Relation(
    "place",
    words(
        "kitchen harbor street castle river forest stage workshop church bedroom sky hospital garden library school "
        "palace desert station"
    ),
    ("{A} is found {at}.", "You can find {a} {at}.", "The {v} is where {a} is found."),
    (
        "Where is {s} found?",
        "In which place is {s} found?",
        "Where can you find {s}?",
        "In what place do people find {s}?",
    ),
    (
        "Which object is found {at}?",
        "What do people find {at}?",
        "Name the object that is found {at}.",
    ),
)
OWNER = Relation(
    "owner",
    words(
        "cook sailor traveler guard fisher musician builder priest child soldier gardener astronaut doctor teacher "
        "king farmer student mailman"
    ),
    ("{A} belongs to the {v}.", "The {v} owns {a}.", "The owner of {a} is the {v}."),
    ("Who does {s} belong to?", "Who owns {s}?", "Who is the owner of {s}?", "To whom does {s} belong?"),
    ("Which object belongs to the {v}?", "What does the {v} own?", "Name the object that belongs to the {v}."),
)
RELATIONS: dict[str, Relation] = {r.name: r for r in (USE, MADE, PLACE, OWNER)}

HOME = Relation(
    "home",
    words("village city valley island mountains tower farm cave coast hotel"),
    ("The {k} lives {at}.", "The home of the {k} is the {v}.", "The {v} is where the {k} lives."),
    (
        "Where does the owner of {s} live?",
        "In which place does the owner of {s} live?",
        "What is the home of the owner of {s}?",
        "Where is the home of the owner of {s}?",
    ),
)
REGION = Relation(
    "region",
    words("north south east west"),
    ("The {k} lies in the {v}.", "The {k} is in the {v} of the country.", "In the {v} of the country lies the {k}."),
    (
        "In which part of the country is {s} found?",
        "Which part of the country is {s} found in?",
        "In what part of the country can you find {s}?",
        "Where in the country is {s} found?",
    ),
)
SECOND_STEP: dict[str, Relation] = {"owner": HOME, "place": REGION}
"""The relation of a value that follows the relation of a kind, in questions of two steps."""


_PREPOSITIONS = {"stage": "on", "island": "on", "coast": "on", "farm": "on", "station": "at"}


def at(place: str) -> str:
    """``"in the castle"``, ``"on the stage"``."""
    return f"{_PREPOSITIONS.get(place, 'in')} the {place}"


def with_article(noun: str) -> str:
    """``"a kettle"``, ``"an anchor"``; no kind of the world is a plural noun."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def state(relation: Relation, subject: str, value: str, wording: int = 0) -> str:
    """One sentence that says a fact: ``state(USE, "kettle", "boiling")`` is ``"A kettle is used for boiling."``."""
    noun = with_article(subject)
    return relation.statements[wording].format(
        a=noun, A=noun[0].upper() + noun[1:], k=subject, v=value, v_cap=value[0].upper() + value[1:], at=at(value)
    )


def ask_which_has(relation: Relation, value: str) -> list[str]:
    """All wordings of the question from a value to the object that has it."""
    return [ask.format(v=value, at=at(value)) for ask in relation.reversed_asks]
