"""What sentences speak of: content words and named places, against words and places that were marked by hand."""

import pytest

from reasonedit.sentences import content_words, named_place

MIDDLES = (1 / 6, 1 / 2, 5 / 6)
ACROSS = {"left": MIDDLES[0], "right": MIDDLES[2]}
DOWN = {"top": MIDDLES[0], "upper": MIDDLES[0], "bottom": MIDDLES[2], "lower": MIDDLES[2]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The garden lies in the east.", {"garden", "lies", "east"}),
        ("It is what the one in the other is.", set()),
        ("The Zither's strings: a ZITHER!", {"zither", "strings"}),
        ("The thing at the top left of the image, the object in the middle of this photo.", set()),
        ("Le jardin est à côté.", {"le", "jardin", "est", "côté"}),
        ("Le jardin est a\u0300 co\u0302te\u0301.", {"le", "jardin", "est", "côté"}),
        ("पानी की बोतल।", {"पानी", "की", "बोतल"}),
        ("هَذِهِ زُجَاجَة", {"هَذِهِ", "زُجَاجَة"}),
        ("水壶用于Qwen。", {"水壶", "壶用", "用于", "qwen"}),
        ("これは猫、", {"これ", "れは", "は猫"}),
        ("猫。", {"猫"}),
        ("한국어 문장", {"한국어", "문장"}),
        ("แมว", {"แมว"}),
        ("สวน สี", {"สวน", "สี"}),
        ("ในสวน", {"ในส", "นสว", "สวน"}),
        ("", set()),
    ],
)
def test_content_words_are_no_function_words_and_no_places(text, words):
    assert content_words(text) == words


@pytest.mark.parametrize("across", [None, *ACROSS])
@pytest.mark.parametrize("down", [None, *DOWN])
def test_a_place_is_the_middle_of_its_third(down, across):
    if down is None and across is None:
        return
    place = " ".join(word for word in (down, across) if word)
    expected = (ACROSS[across] if across else 0.5, DOWN[down] if down else 0.5)
    for sentence in (
        f"The object at the {place} is a zither.",
        f"The {place.upper()} object belongs to the sailor.",
        f"In the {place} corner of the picture stands a thing out of an old house.",
    ):
        assert named_place(sentence) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sentence", "place"),
    [
        ("The object in the center is a zither.", (1, 1)),
        ("The thing to the left is one of the zithers.", (0, 1)),
        ("The object at the bottom of this image, on the right, is a lute.", (2, 2)),
        ("What is in the middle on the left is a lute.", (0, 1)),
    ],
)
def test_other_ways_to_name_a_place(sentence, place):
    assert named_place(sentence) == pytest.approx(tuple(MIDDLES[i] for i in place))


@pytest.mark.parametrize(
    "sentence",
    [
        "A zither is found in the harbor.",
        "The object left of the tree is a zither.",
        "The thing to the right of it is a lute.",
        "The object on the left side of a road is a lute.",
        "It stands next to the tree on the left.",
        "The lamp is beside the left door.",
        "It lies at the bottom of the sea.",
        "The road leads from the left to the right.",
        "It reaches from the top to the bottom.",
        "An upright object.",
        "",
    ],
)
def test_what_names_no_place_or_only_one_beside_another_thing(sentence):
    assert named_place(sentence) is None
