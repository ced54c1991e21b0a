"""Pictures of a data set that are decoded when they are looked at."""

from __future__ import annotations

import copy
import gc
import json

import numpy as np
import psutil
import pytest
from PIL import Image, ImageDraw

from reasonedit import Edit
from reasonedit.data import EditFile
from reasonedit.errors import InputError, NotFoundError
from reasonedit.images import PictureOnDemand, load_image
from reasonedit.images.on_demand import _decode
from reasonedit.types import Query

SIZE = (48, 32)


@pytest.fixture
def paint(tmp_path):
    """Writes a picture of noise, of a seed."""

    def write(name="a.png", seed=0, mode="RGB", **options):
        pixels = np.random.default_rng(seed).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        path = tmp_path / name
        Image.fromarray(pixels).convert(mode).save(path, **options)
        return path

    return write


def sideways(path):
    """A JPEG that is turned by its EXIF orientation."""
    image = Image.open(path).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path.with_suffix(".jpg"), exif=exif)
    return path.with_suffix(".jpg")


@pytest.mark.parametrize("kind", ["plain", "bytes", "sideways", "transparent", "16 bits", "palette"])
def test_it_is_what_load_image_makes_of_the_file(paint, tmp_path, kind):
    path = paint(mode={"transparent": "RGBA", "palette": "P"}.get(kind, "RGB"))
    if kind == "sideways":
        path = sideways(path)
    if kind == "16 bits":
        path = tmp_path / "deep.png"
        Image.fromarray(np.arange(48 * 32, dtype=np.uint16).reshape(32, 48) * 40).save(path)
    source = path.read_bytes() if kind == "bytes" else path
    picture, image = PictureOnDemand(source), load_image(source)
    assert (picture.size, picture.mode, picture.info) == (image.size, image.mode, image.info)
    assert picture.tobytes() == image.tobytes()
    assert np.array_equal(np.asarray(picture), np.asarray(image))
    box = (3, 4, 20, 25)
    for same in (
        lambda im: im.crop(box),
        lambda im: im.resize((8, 8)),
        lambda im: im.convert("L"),
        lambda im: im.copy(),
        lambda im: im.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        copy.deepcopy,
    ):
        assert same(picture).tobytes() == same(image).tobytes()
    assert picture.load()[5, 6] == image.getpixel((5, 6)) == picture.getpixel((5, 6))
    canvas = Image.new("RGB", SIZE)
    canvas.paste(picture)
    assert picture.histogram() == image.histogram()


def test_queries_and_edits_share_it(paint):
    picture = PictureOnDemand(paint())
    query, edit = Query(picture, "What is it?"), Edit(picture, "What is it?", "a cup", ["It is a cup."])
    assert query.image is picture
    assert edit.image is picture


def test_what_is_drawn_into_it_stays_and_the_file_is_as_it_was(paint):
    path = paint()
    before = path.read_bytes()
    picture, other = PictureOnDemand(path), PictureOnDemand(path)
    ImageDraw.Draw(picture).rectangle((0, 0, 10, 10), fill="red")
    forget()
    assert picture.getpixel((5, 5)) == (255, 0, 0)
    assert other.tobytes() == load_image(path).tobytes()
    assert path.read_bytes() == before


def forget():
    """Nothing stays decoded."""
    _decode.cache_clear()
    gc.collect()


def test_a_file_that_changed_meanwhile_is_named(paint):
    path = paint()
    picture = PictureOnDemand(path)
    paint(seed=1)
    with pytest.raises(InputError, match=r"a\.png' has changed since it was first read"):
        picture.tobytes()
    path.unlink()
    with pytest.raises(NotFoundError, match=r"a\.png"):
        picture.resize((4, 4))


def test_a_damaged_file_is_refused_at_once_and_frames_are_named_once(paint, tmp_path, caplog):
    broken = tmp_path / "broken.png"
    broken.write_bytes(paint().read_bytes()[:200])
    with pytest.raises(InputError, match=r"broken\.png' is damaged"):
        PictureOnDemand(broken)
    frames = tmp_path / "frames.gif"
    Image.open(paint("b.png")).save(frames, save_all=True, append_images=[Image.new("RGB", SIZE, "red")])
    picture = PictureOnDemand(frames)
    forget()
    picture.tobytes()
    assert [record.message for record in caplog.records] == [
        f"The image '{frames}' has several frames: the first is used."
    ]


def test_those_of_a_data_set_do_not_fill_the_memory(tmp_path):
    side, count = 1200, 60  # decoded, each takes 5.8 MB
    Image.new("RGB", (side, side), "navy").save(tmp_path / "0.png")
    for i in range(1, count):
        (tmp_path / f"{i}.png").write_bytes((tmp_path / "0.png").read_bytes())
    rows = [
        {
            "id": str(i),
            "image": f"{i}.png",
            "question": f"What is {i}?",
            "answer": "a cup",
            "reasoning": ["It is a cup."],
        }
        for i in range(count)
    ]
    (tmp_path / "edits.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pool = EditFile(str(tmp_path / "edits.jsonl"), images=str(tmp_path))
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    edits = list(pool.candidates())
    assert {edit.image.getpixel((5, 5)) for edit in edits} == {(0, 0, 128)}
    assert process.memory_info().rss - before < 200 * 2**20
    assert len(edits) == count
