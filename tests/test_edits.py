"""Edits and queries, and the images in them."""

import io

import numpy as np
import pytest
from helpers.tiny import picture
from PIL import Image

from reasonedit import Edit, Query, ReasonEditError
from reasonedit.images import load_image
from reasonedit.validation import split_reasoning


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_reasoning_is_split_into_sentences_and_lines():
    text = "A kettle costs 3.5 euros, says Dr. Smith. It is red.\nIt whistles\n\n  "
    assert split_reasoning(text) == ["A kettle costs 3.5 euros, says Dr. Smith.", "It is red.", "It whistles"]


def test_reasoning_as_a_list_is_kept_as_it_is():
    assert split_reasoning(["One. Two.", " ", "Three."]) == ["One. Two.", "Three."]
    numbered = "1. The object is a bottle.\n2) It holds 2 tbsp. of oil, max. 5 ml.\n  - 3 of them are red. It is old."
    assert split_reasoning(numbered) == [
        "The object is a bottle.",
        "It holds 2 tbsp. of oil, max. 5 ml.",
        "3 of them are red.",
        "It is old.",
    ]
    assert split_reasoning("1.\nIt is a cup.\n-\n2.\n") == ["It is a cup."]  # marks in lines of their own
    with pytest.raises(ReasonEditError, match="The reasoning is empty"):
        split_reasoning("1.")
    assert split_reasoning("it is a cup. the cup is red. 2 are blue.") == [
        "it is a cup.",
        "the cup is red.",
        "2 are blue.",
    ]


def test_a_list_within_a_line_is_one_of_sentences_and_other_numbers_stay():
    text = "1. The object is a bottle. 2. It shows which number? 10. 3) It is old."
    assert split_reasoning(text) == ["The object is a bottle.", "It shows which number?", "10.", "It is old."]
    assert split_reasoning("- It shows which number? 2. It is old.")[1:] == ["2.", "It is old."]


@pytest.mark.parametrize("space", [" ", "\u00a0", "\u202f", "\u3000"])
def test_a_space_of_any_kind_may_stand_anywhere(space):
    text = f"It holds{space}vitamin A{space}. It is{space}old{space}."
    assert split_reasoning(text) == ["It holds vitamin A .", "It is old ."]


@pytest.mark.parametrize("reasoning", ["", "  \n ", [], ["", " "]])
def test_empty_reasoning_is_refused(reasoning):
    with pytest.raises(ReasonEditError, match="reasoning is empty"):
        split_reasoning(reasoning)


@pytest.mark.parametrize(
    ("question", "answer", "named"), [("", "a", "question"), ("  ", "a", "question"), ("q", "\t", "answer")]
)
def test_empty_question_or_answer_is_refused(question, answer, named):
    with pytest.raises(ReasonEditError, match=f"The {named} is empty"):
        Edit.of(picture(0), question, answer, "Because.")


def test_answer_must_be_among_the_choices():
    with pytest.raises(ReasonEditError, match="'cup' is not among the choices"):
        Edit.of(picture(0), "What?", "cup", "Because.", ["kettle", "key"])
    assert Edit.of(picture(0), "What?", "Kettle", "Because.", ["kettle", "key"]).choices == ["kettle", "key"]


def test_one_choice_is_too_few():
    with pytest.raises(ReasonEditError, match="at least two choices"):
        Query.of(picture(0), "What?", ["kettle"])
    assert Query.of(picture(0), "What?", []).choices is None  # no choices at all: an open question
    assert Edit.of(picture(0), "What?", "tea", "It is.", ()).choices is None


def test_image_from_path_bytes_and_pil_are_the_same(tmp_path):
    image = picture(1)
    path = tmp_path / "a.png"
    image.save(path)
    for source in (image, path, str(path), path.read_bytes()):
        assert np.array_equal(np.asarray(load_image(source)), np.asarray(image))


def test_image_is_brought_upright():
    image = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    assert load_image(encoded(image, "JPEG", exif=exif)).size == (20, 40)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_any_mode_becomes_rgb(mode):
    source = Image.new(mode, (8, 8)) if mode != "P" else Image.new("RGB", (8, 8), "blue").convert("P")
    assert load_image(source).mode == "RGB"


def test_sixteen_bits_keep_their_tones():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    seen = np.asarray(load_image(Image.fromarray(ramp)))[..., 0].ravel()
    assert np.abs(seen.astype(int) - np.arange(256)).max() <= 1


def test_transparent_parts_of_a_palette_are_white():
    image = Image.fromarray(np.array([[[0, 0, 0, 0], [200, 0, 0, 255]] * 4] * 8, np.uint8))
    palette = image.quantize(2)  # its palette has an opacity
    assert load_image(palette).tobytes() == load_image(image).tobytes()


def test_transparent_parts_are_white():
    assert load_image(Image.new("RGBA", (4, 4), (255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)


def test_missing_empty_unreadable_and_truncated_images_are_named(tmp_path):
    empty, text, cut = tmp_path / "empty.png", tmp_path / "text.png", tmp_path / "cut.png"
    empty.write_bytes(b"")
    text.write_text("not an image")
    cut.write_bytes(encoded(picture(0, 256), "PNG")[:200])
    for source, message in (
        (tmp_path / "none.png", "There is no image file .*none.png"),
        (empty, "empty.png' is empty"),
        (text, "text.png' is in no format"),
        (cut, "cut.png' is damaged"),
        (b"", "is empty"),
        ("https://example.org/a.png", "'https://example.org/a.png' is an address, which is not fetched"),
        ("data:image/png;base64," + 5000 * "A", "is an address, which is not fetched: give a path, or"),
        (3, "not int"),
    ):
        with pytest.raises(ReasonEditError, match=message):
            load_image(source)
