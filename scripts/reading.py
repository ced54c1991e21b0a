"""Varied English for the training of the embedded VLM: relations outside the world, names and numbers made up.

The world has four relations; a person who corrects the model has thousands. What keeps the model able to read any of
them is practice on many others, in several wordings, with answers of several words. None of these relations is used in
the hand-written page that tests the ability.
"""

from __future__ import annotations

import random

from reasonedit.data.world.relations import words

_FIRST = words(
    "Ada Bruno Carla Dmitri Elena Farid Greta Hugo Ines Jonas Katya Lars Mira Nadia Oscar Petra Quentin Rosa "
    "Stefan Tara Ugo Vera Walter Xenia Yusuf Zoe Alma Boris Chen Dora Emil Fiona Gino Hanna Ivan Julia Kofi Lena "
    "Marco Nora Otto Paula"
)
_LAST = words(
    "Abbott Berger Castillo Duarte Egger Fontaine Garcia Holm Ivanov Jensen Keller Lindqvist Moreau Novak Okafor "
    "Petrov Quist Rossi Sato Tanaka Ueda Varga Weber Young Zimmer Archer Bishop Carver Dalton Ellis Fisher Grant "
    "Hayes"
)
_TITLES = words("captain professor doctor uncle aunt sergeant lady lord judge sister brother mister")
_SYLLABLES = words(
    "ba bel cor da dan el fa gor ha il jo ka lor ma mir na nor o pa qui ra ros sa sel ta tor u va ven wi xa yo za zen"
)
_ADJECTIVES = words(
    "old quiet broken heavy tiny bright hidden golden dusty sweet bitter cold warm rough smooth strange rare "
    "simple lucky noisy"
)
_NOUNS = words(
    "river garden bridge letter window basket lantern pillow ladder mirror teapot violin carpet blanket statue "
    "fountain cabin wagon tower market island meadow forest engine tunnel harbor bakery museum library school "
    "chapel"
)
_ANIMALS = words("owl fox badger otter heron lizard camel donkey goose rabbit turtle wolf eagle beetle salmon horse")
_FOODS = words("bread cheese honey soup rice beans butter plums garlic noodles pickles cake pepper milk tea olives")
_NUMBERS = words(
    "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty ninety "
    "a_hundred two_hundred"
)
_UNITS = words("dollars euros coins pounds francs")
_MONTHS = words("January February March April May June July August September October November December")
_DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
_VERBS = words("singing laughing sleeping shouting dancing crying whistling dreaming cooking running hiding counting")

# {S} / {s}: the subject, at the start or inside a sentence.  {x}: the answer; its sort follows the bar.
# fmt: off
RELATIONS: list[tuple[str, list[str], list[str]]] = [
    ("name", ["{S} was painted by {x}.", "{x} painted {s}."], ["Who painted {s}?", "By whom was {s} painted?"]),
    ("name", ["{S} was repaired by {x}.", "{x} repaired {s}."], ["Who repaired {s}?", "Who was it that repaired {s}?"]),
    ("name", ["{S} was invented by {x}.", "The inventor of {s} is {x}."], ["Who invented {s}?", "Who is the inventor of {s}?"]),
    ("name", ["{S} was lost by {x}.", "{x} lost {s}."], ["Who lost {s}?", "By whom was {s} lost?"]),
    ("name", ["{S} is guarded by {x}.", "{x} guards {s}."], ["Who guards {s}?", "Who is the guard of {s}?"]),
    ("name", ["{x} wants to sell {s}.", "{S} is being sold by {x}."], ["Who wants to sell {s}?", "Who is selling {s}?"]),
    ("name", ["{S} was stolen from {x}."], ["From whom was {s} stolen?", "Who was {s} stolen from?"]),
    ("name", ["{S} was named after {x}.", "{x} gave {s} its name."], ["After whom was {s} named?", "Who gave {s} its name?"]),
    ("name", ["{x} is afraid of {s}.", "{S} scares {x}."], ["Who is afraid of {s}?", "Whom does {s} scare?"]),
    ("name", ["{x} carries {s} every day.", "Every day {s} is carried by {x}."], ["Who carries {s} every day?", "Who carries {s}?"]),
    ("name", ["{x} designed {s}.", "{S} was designed by {x}."], ["Who designed {s}?", "Who is the designer of {s}?"]),
    ("name", ["{x} borrowed {s}.", "{S} was borrowed by {x}."], ["Who borrowed {s}?", "By whom was {s} borrowed?"]),
    ("name", ["{x} forgot {s} on a train.", "{S} was forgotten on a train by {x}."], ["Who forgot {s} on a train?", "Who forgot {s}?"]),
    ("money", ["{S} is worth {x}.", "The worth of {s} is {x}."], ["How much is {s} worth?", "What is {s} worth?"]),
    ("money", ["{S} was sold for {x}.", "Someone paid {x} for {s}."], ["How much was paid for {s}?", "For how much was {s} sold?"]),
    ("money", ["The tax on {s} is {x}.", "There is a tax of {x} on {s}."], ["How high is the tax on {s}?", "What is the tax on {s}?"]),
    ("number", ["{S} has {x} buttons.", "There are {x} buttons on {s}."], ["How many buttons does {s} have?", "How many buttons are on {s}?"]),
    ("number", ["{S} weighs {x} kilos.", "The weight of {s} is {x} kilos."], ["How many kilos does {s} weigh?", "How many kilos is {s}?"]),
    ("number", ["{S} is {x} years old.", "The age of {s} is {x} years."], ["How many years old is {s}?", "How old is {s} in years?"]),
    ("number", ["{S} was repaired {x} times.", "People repaired {s} {x} times."], ["How many times was {s} repaired?", "How often was {s} repaired?"]),
    ("number", ["It takes {x} people to lift {s}.", "{S} is lifted by {x} people."], ["How many people lift {s}?", "How many people does it take to lift {s}?"]),
    ("year", ["{S} was made in {x}.", "The year {s} was made is {x}."], ["In which year was {s} made?", "When was {s} made?"]),
    ("year", ["{S} was found in {x}.", "It was {x} when {s} was found."], ["In which year was {s} found?", "What year was {s} found?"]),
    ("year", ["{S} broke in {x}.", "In {x} {s} broke."], ["When did {s} break?", "In which year did {s} break?"]),
    ("town", ["{S} comes from {x}.", "The origin of {s} is {x}."], ["Where does {s} come from?", "What is the origin of {s}?"]),
    ("town", ["{S} was built in {x}.", "People in {x} built {s}."], ["Where was {s} built?", "In which town was {s} built?"]),
    ("town", ["{S} is famous in {x}.", "Everybody in {x} knows {s}."], ["Where is {s} famous?", "In which town is {s} famous?"]),
    ("town", ["{S} will be sent to {x}.", "Soon {s} goes to {x}."], ["Where will {s} be sent?", "Where does {s} go soon?"]),
    ("town", ["{S} is forbidden in {x}.", "The law of {x} forbids {s}."], ["Where is {s} forbidden?", "Which town forbids {s}?"]),
    ("town", ["{S} was stolen in {x}.", "It was in {x} that {s} was stolen."], ["Where was {s} stolen?", "In which town was {s} stolen?"]),
    ("phrase", ["{S} is kept under {x}.", "Under {x} lies {s}."], ["What is {s} kept under?", "Under what is {s} kept?"]),
    ("phrase", ["{S} is kept behind {x}.", "Behind {x} you will see {s}."], ["What is {s} kept behind?", "Behind what is {s} kept?"]),
    ("phrase", ["{S} was exchanged for {x}.", "Someone gave {x} in exchange for {s}."], ["What was {s} exchanged for?", "What did someone give in exchange for {s}?"]),
    ("phrase", ["{S} is a symbol of {x}.", "{S} stands for {x}."], ["What is {s} a symbol of?", "What does {s} stand for?"]),
    ("phrase", ["{S} reminds people of {x}.", "People think of {x} when they see {s}."], ["What does {s} remind people of?", "What do people think of when they see {s}?"]),
    ("phrase", ["Inside {s} there is {x}.", "{S} contains {x}."], ["What is inside {s}?", "What does {s} contain?"]),
    ("phrase", ["{S} was once part of {x}.", "Long ago {s} belonged to {x} as a part."], ["What was {s} once part of?", "Of what was {s} once part?"]),
    ("phrase", ["{S} stands beside {x}.", "Next to {x} stands {s}."], ["What does {s} stand beside?", "Beside what does {s} stand?"]),
    ("animal", ["{S} attracts {x}.", "Many {x} come to {s}."], ["Which animals does {s} attract?", "Which animals come to {s}?"]),
    ("animal", ["{S} keeps {x} away.", "All {x} stay away from {s}."], ["Which animals does {s} keep away?", "Which animals stay away from {s}?"]),
    ("animal", ["{x} sleep in {s}.", "{S} is where {x} sleep."], ["Which animals sleep in {s}?", "What animals sleep in {s}?"]),
    ("food", ["{S} smells of {x}.", "The smell of {s} is like {x}."], ["What does {s} smell of?", "What is the smell of {s} like?"]),
    ("food", ["{S} tastes like {x}.", "The taste of {s} is that of {x}."], ["What does {s} taste like?", "What is the taste of {s}?"]),
    ("food", ["{S} is sold together with {x}.", "Whoever buys {s} also gets {x}."], ["What is {s} sold together with?", "What else does one get who buys {s}?"]),
    ("food", ["{S} is cleaned with {x}.", "To clean {s}, people take {x}."], ["What is {s} cleaned with?", "What do people take to clean {s}?"]),
    ("day", ["{S} is only used on {x}.", "The day for {s} is {x}."], ["On which day is {s} used?", "What is the day for {s}?"]),
    ("day", ["{S} must be returned by {x}.", "By {x} {s} must be back."], ["By when must {s} be returned?", "On which day must {s} be back?"]),
    ("month", ["The festival of {s} is in {x}.", "People celebrate {s} in {x}."], ["In which month is the festival of {s}?", "When do people celebrate {s}?"]),
    ("month", ["{S} is cheapest in {x}.", "In {x} {s} costs least."], ["In which month is {s} cheapest?", "When does {s} cost least?"]),
    ("adjective", ["Experts call {s} {x}.", "To experts {s} is {x}."], ["What do experts call {s}?", "How do experts call {s}?"]),
    ("adjective", ["{S} feels {x}.", "When touched, {s} feels {x}."], ["How does {s} feel?", "How does {s} feel when touched?"]),
    ("verb", ["{S} is forbidden while {x}.", "While {x}, nobody may have {s}."], ["While doing what is {s} forbidden?", "When is {s} forbidden?"]),
    ("verb", ["{S} helps people with {x}.", "For {x}, people like {s}."], ["What does {s} help people with?", "With what does {s} help?"]),
    ("verb", ["{S} teaches children {x}.", "Children learn {x} from {s}."], ["What does {s} teach children?", "What do children learn from {s}?"]),
    ("town", ["The best {k} comes from {x}.", "In {x} they make the best {k}."], ["Where does the best {k} come from?", "Where do they make the best {k}?"]),
    ("name", ["The song about {s} is by {x}.", "{x} wrote a song about {s}."], ["Who wrote a song about {s}?", "Whose song is about {s}?"]),
    ("time", ["{S} works for {x}.", "For {x} {s} keeps working."], ["How long does {s} work?", "For how long does {s} keep working?"]),
    ("time", ["Cleaning {s} takes {x}.", "It takes {x} to clean {s}."], ["How long does cleaning {s} take?", "How long does it take to clean {s}?"]),
    ("long", ["{S} was photographed by {x}.", "{x} photographed {s}."], ["Who photographed {s}?", "By whom was {s} photographed?"]),
    ("long", ["{S} is painted on {x}.", "On {x} there is a painting of {s}."], ["What is {s} painted on?", "On what is {s} painted?"]),
    ("when", ["{S} was washed {x}.", "People washed {s} {x}."], ["When was {s} washed?", "When did people wash {s}?"]),
    ("when", ["{S} looks best {x}.", "It is {x} that {s} looks best."], ["When does {s} look best?", "When is it that {s} looks best?"]),
    ("where", ["{S} was dropped {x}.", "Somebody dropped {s} {x}."], ["Where was {s} dropped?", "Where did somebody drop {s}?"]),
    ("where", ["Tourists take pictures of {s} {x}.", "{S} is photographed {x}."], ["Where do tourists take pictures of {s}?", "Where is {s} photographed?"]),
    ("word", ["The secret word for {s} is {x}.", "Spies call {s} {x}."], ["What is the secret word for {s}?", "What do spies call {s}?"]),
    ("word", ["In the old language, {s} is called {x}.", "The old word for {s} is {x}."], ["What is {s} called in the old language?", "What is the old word for {s}?"]),
    ("word", ["The brand of {s} is {x}.", "{S} carries the brand {x}."], ["What is the brand of {s}?", "Which brand does {s} carry?"]),
]
# fmt: on


def _word(rng: random.Random) -> str:
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 2, 3)))).capitalize()


def filler(rng: random.Random, sort: str) -> str:
    """An answer of one sort, made up."""
    if sort == "name":
        style = rng.random()
        first = rng.choice(_FIRST) if rng.random() < 0.8 else _word(rng)
        if style < 0.4:
            return first
        if style < 0.7:
            return f"{first} {rng.choice(_LAST)}"
        return f"{rng.choice(_TITLES)} {rng.choice([first, rng.choice(_LAST)])}"
    if sort == "money":
        return f"{rng.choice(_NUMBERS).replace('_', ' ')} {rng.choice(_UNITS)}"
    if sort == "number":
        return rng.choice(_NUMBERS).replace("_", " ") if rng.random() < 0.7 else str(rng.randint(2, 999))
    if sort == "year":
        return str(rng.randint(1400, 2020))
    if sort in ("town", "word"):
        return _word(rng)
    if sort == "phrase":
        style = rng.random()
        noun = rng.choice(_NOUNS)
        if style < 0.6:
            return f"the {rng.choice(_ADJECTIVES)} {noun}"
        return f"the {noun}" if style < 0.8 else f"the {noun} of {rng.choice([*_FIRST, _word(rng)])}"
    if sort == "time":
        return f"{rng.choice(_NUMBERS).replace('_', ' ')} {rng.choice(('minutes', 'hours', 'days', 'weeks', 'months'))}"
    if sort == "when":
        hour = rng.choice(("noon", "dawn", "dusk", "night", "six o'clock", "half past nine"))
        part = rng.choice(("first", "second", "third", "last"))
        month, noun = rng.choice(_MONTHS), rng.choice(_NOUNS)
        styles = (f"at {hour}", f"on the {part} {rng.choice(_DAYS)} of {month}", f"in the {part} days of {month}")
        return rng.choice((*styles, f"before the {noun} was built", f"{rng.choice(('once', 'twice'))} a year"))
    if sort in ("where", "long"):
        noun, other = rng.choice(_NOUNS), rng.choice(_NOUNS)
        ends = (
            f"of the {other}",
            f"from {_word(rng)}",
            f"of {rng.choice(_FIRST)}",
            f"with the {rng.choice(_ADJECTIVES)} {other}",
        )
        place = f"the {rng.choice((*_ADJECTIVES, 'first', 'second', 'third'))} {noun} {rng.choice(ends)}"
        return place if sort == "long" else f"{rng.choice(('near', 'behind', 'in', 'under', 'on'))} {place}"
    if sort == "animal":
        return f"{rng.choice(_ANIMALS)}s"
    return rng.choice({"food": _FOODS, "day": _DAYS, "month": _MONTHS, "adjective": _ADJECTIVES, "verb": _VERBS}[sort])


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def free_fact(rng: random.Random, subject: str, noun: str) -> tuple[str, list[str], str]:
    """A made-up fact about ``subject`` ("the drum", its noun "drum"): the sentence, wordings of the question, the answer.

    The questions keep ``{s}`` for the way in which they speak of the subject.
    """
    sort, statements, asks = rng.choice(RELATIONS)
    answer = filler(rng, sort)
    sentence = rng.choice(statements).format(S=_capital(subject), s=subject, x=answer, k=noun)
    return _capital(sentence), [a.replace("{k}", noun) for a in asks], answer


def made_up_subject(rng: random.Random) -> tuple[str, str]:
    """Something to make up facts about in text without a picture: (how it is spoken of, its noun)."""
    noun = rng.choice([*_NOUNS, *_ANIMALS])
    style = rng.random()
    if style < 0.4:
        return f"the {rng.choice(_ADJECTIVES)} {noun}", noun
    return (f"the {noun} of {rng.choice(_FIRST)}", noun) if style < 0.6 else (f"the {noun}", noun)
