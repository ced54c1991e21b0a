"""The sample pictures: they come in pairs, are what the script draws, and a wrong name is told the right ones."""

import hashlib
import sys
from pathlib import Path

import pytest
from PIL import Image

from reasonedit.data import sample_picture
from reasonedit.data.sample_pictures import SAMPLES, list_samples
from reasonedit.errors import NotFoundError

ROOT = Path(__file__).parents[1]


def test_each_fact_has_two_pictures_with_a_question_each():
    listed = list_samples()
    assert [sample["name"] for sample in listed] == sorted(path.name for path in SAMPLES.glob("*.png"))
    facts = [sample["fact"] for sample in listed]
    assert facts[::2] == facts[1::2]
    assert len(set(facts)) == len(facts) / 2
    assert len({sample["question"] for sample in listed}) == len(listed)


def test_a_picture_is_found_by_its_name_and_by_its_file():
    with Image.open(sample_picture("clinic-1")) as picture:
        assert picture.mode == "RGB"
    assert sample_picture("clinic-1.png") == sample_picture("clinic-1")


def test_a_wrong_name_is_told_the_right_ones():
    with pytest.raises(NotFoundError, match=r"no sample picture 'photo.png': choose from clinic-1, clinic-2, "):
        sample_picture("photo.png")


def test_the_pictures_are_those_that_the_script_draws(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import draw_samples

    monkeypatch.setattr(draw_samples, "FOLDER", tmp_path)
    draw_samples.main()
    sys.modules.pop("draw_samples")
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in SAMPLES.iterdir()}
    for path in SAMPLES.glob("*.png"):
        with Image.open(path) as kept, Image.open(tmp_path / path.name) as drawn:
            assert hashlib.sha256(kept.tobytes()).digest() == hashlib.sha256(drawn.tobytes()).digest()
    assert (tmp_path / "samples.json").read_bytes() == (SAMPLES / "samples.json").read_bytes()
