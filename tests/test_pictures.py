"""Pictures as cameras, microscopes and other programs write them; names as other file systems spell them."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from helpers import datasets
from helpers.tiny import picture
from PIL import Image

from reasonedit import ReasonEditError
from reasonedit.data.editfile import EditFile
from reasonedit.data.fvqa import FVQA
from reasonedit.data.rationale_vqa import RationaleVQA
from reasonedit.images import check_unlinked, find_spelling, load_image, path_inside

RAMP = np.linspace(0, 65535, 300).astype(np.uint16).reshape(15, 20)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source) -> np.ndarray:
    return np.asarray(load_image(source))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of the EXIF
def test_exif_that_cannot_be_parsed_is_no_reason_to_fail():
    image = picture(0, 64).crop((0, 0, 40, 60))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    good = exif.tobytes()
    assert load_image(encoded(image, "JPEG", exif=good)).size == (60, 40)
    rng = random.Random(0)
    for i in range(200):
        bad = bytearray(good[: rng.randrange(6, len(good))] if i % 2 else good)
        for _ in range(3):
            bad[rng.randrange(min(6, len(bad) - 1), len(bad))] = rng.randrange(256)
        for kind in ("JPEG", "PNG", "WEBP"):
            assert sorted(load_image(encoded(image, kind, exif=bytes(bad))).size) == [40, 60]
    for bad in (b"Exif\0\0", b"Exif\0\0garbage", b"\xff" * 40):
        assert load_image(encoded(image, "JPEG", exif=bad)).size == (40, 60)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_that_of_pillow_and_counts_once(orientation):
    from PIL import ImageOps

    image = picture(3, 64).crop((0, 0, 40, 60))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, "PNG", exif=exif)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    seen = load_image(data)
    assert np.array_equal(np.asarray(seen), wanted)
    assert np.array_equal(pixels(seen), wanted)  # what was brought upright stays so
    assert np.array_equal(pixels(Image.open(io.BytesIO(data))), wanted)
    assert np.array_equal(pixels(encoded(image, "TIFF", tiffinfo={0x0112: orientation})), wanted)


def test_pixels_that_are_no_numbers_are_the_lowest():
    values = np.linspace(-3, 7, 300, dtype=np.float32).reshape(15, 20)
    clean = pixels(Image.fromarray(values))
    values[0, 5], values[0, 6], values[0, 7] = np.nan, np.inf, -np.inf
    for source in (Image.fromarray(values), encoded(Image.fromarray(values), "TIFF")):
        seen = pixels(source).copy()
        assert [int(seen[0, x, 0]) for x in (5, 6, 7)] == [0, 0, 0]
        seen[0, 5:8] = clean[0, 5:8]
        assert np.array_equal(seen, clean)
    values[:] = np.nan
    with pytest.raises(ReasonEditError, match="The given image has no pixel that is a finite number"):
        load_image(Image.fromarray(values))
    assert pixels(Image.fromarray(np.full((5, 5), 3.5, np.float32))).max() == 0  # one value alone


def test_sixteen_bits_are_the_same_in_every_format():
    wanted = np.repeat((RAMP / 257).round().astype(np.uint8)[..., None], 3, axis=2)
    for part, shown in ((RAMP, wanted), (RAMP // 2, None)):
        seen = [pixels(encoded(Image.fromarray(part), kind)) for kind in ("PNG", "TIFF", "PPM")]
        seen.append(pixels(Image.fromarray(part)))
        seen.append(pixels(Image.frombytes("I;16B", (20, 15), part.astype(">u2").tobytes())))
        assert all(np.array_equal(one, seen[0]) for one in seen)
        assert shown is None or np.array_equal(seen[0], shown)
    clear = encoded(Image.fromarray(RAMP), "PNG", transparency=int(RAMP[2, 3]))
    assert load_image(clear).getpixel((3, 2)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "RGBA", "LA", "P"])
def test_a_picture_converted_in_stripes_is_that_converted_at_once(mode, monkeypatch):
    rng = np.random.default_rng(0)
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        values = rng.integers(0, 60_000, (37, 23)).astype(kind)
        low, high = (0.0, 65535.0) if mode == "I;16" else (float(values.min()), float(values.max()))
        image = Image.fromarray(values)
        wanted = ((values.astype(np.float64) - low) * (255 / (high - low))).round().astype(np.uint8)
        wanted = np.repeat(wanted[..., None], 3, axis=2)
    else:
        image = Image.fromarray(rng.integers(0, 256, (37, 23, 4), dtype=np.uint8))
        image = image.convert("RGB").convert("P") if mode == "P" else image.convert(mode)
        if mode == "P":
            image.info["transparency"] = bytes(rng.integers(0, 256, 256, dtype=np.uint8))
        clear = image.convert("RGBA")
        wanted = np.asarray(Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB"))
    for pixels_at_once in (1, 23 * 5, 1 << 20):
        monkeypatch.setattr("reasonedit.images.rgb._STRIPE", pixels_at_once)
        assert np.array_equal(pixels(image), wanted)


PEAK = r"""
import struct, zlib
from reasonedit.images import load_image
pack = zlib.compressobj(9)
rows = b"".join(pack.compress(bytes(1 + 2 * 5000)) for _ in range(4000)) + pack.flush()
parts = ((b"IHDR", struct.pack(">IIBBBBB", 5000, 4000, 16, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
png = b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts
)
def peak():  # not ru_maxrss, which counts what the process was before it became this program
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
load_image(png)
print(len(png), peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
def test_a_small_file_of_sixteen_bits_takes_little_more_than_its_pixels():
    told = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True, timeout=100)
    size, peak = map(int, told.stdout.split())
    assert size < 50_000
    assert peak < 8 * 5000 * 4000  # 2 bytes a pixel of the file and 4 of the result; once 26


def test_arrays_are_refused_by_their_shape_before_anything_is_made_of_them():
    huge = np.broadcast_to(np.float32(0.5), (200_000, 100_000, 3))  # a few bytes, until it is copied
    with pytest.raises(ReasonEditError, match="The given image is 200000 x 100000 pixels: 100 million is the limit"):
        load_image(huge)
    with pytest.raises(ReasonEditError, match="100 million is the limit"):
        load_image(huge.transpose(2, 0, 1)[:1])


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(ReasonEditError, match=f"{name}' is a pipe or a device, not a file"):
            load_image(tmp_path / name)
    with pytest.raises(ReasonEditError, match="is a folder: name a file"):
        load_image(tmp_path)


@pytest.mark.parametrize(
    "mode",
    "1 L P PA La LA RGB RGBa RGBA RGBX CMYK YCbCr HSV LAB I F I;16 I;16B I;16L".split(),
)
def test_pictures_of_every_mode_are_shown(mode):
    assert load_image(Image.new(mode, (20, 20))).mode == "RGB"


def test_what_is_clear_is_white():
    colours = picture(1, 20)
    clear = colours.copy()
    clear.putalpha(0)
    assert pixels(clear).min() == 255
    assert pixels(clear.convert("RGBa")).min() == 255
    assert pixels(clear.convert("LA")).min() == 255
    assert pixels(clear.convert("LA").convert("La")).min() == 255
    half = colours.copy()
    half.putalpha(128)
    assert np.abs(pixels(half).astype(int) - pixels(half.convert("RGBa"))).max() <= 2
    palette = colours.convert("P")
    number = palette.getpixel((0, 0))
    for told in (number, bytes(0 if i == number else 255 for i in range(256))):
        assert load_image(encoded(palette, "PNG", transparency=told)).getpixel((0, 0)) == (255, 255, 255)


def test_other_colour_spaces_keep_their_colours():
    colours = Image.new("RGB", (20, 20), (200, 40, 90))
    for mode in ("CMYK", "YCbCr", "HSV"):
        assert np.abs(pixels(colours.convert(mode)).astype(int) - pixels(colours)).max() <= 5
    seen = pixels(encoded(colours.convert("CMYK"), "JPEG", quality=95)).astype(int)
    assert np.abs(seen - pixels(colours)).max() <= 8


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_used_and_that_is_said(kind, tmp_path, caplog):
    frames = [picture(i, 64).convert("P") for i in range(3)]
    (tmp_path / "x").write_bytes(encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True))
    assert np.abs(pixels(tmp_path / "x").astype(int) - pixels(frames[0])).max() <= 3
    assert f"The image '{tmp_path / 'x'}' has several frames: the first is used." in caplog.text
    caplog.clear()
    load_image(encoded(frames[0], kind))
    assert "frames" not in caplog.text


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_a_file_that_was_cut_short_is_refused(kind):
    data = encoded(picture(0, 200).convert("P") if kind == "GIF" else picture(0, 200), kind)
    for share in (0.02, 0.3, 0.6):
        with pytest.raises(ReasonEditError, match=r"The image given as bytes (is|cannot)"):
            load_image(data[: int(share * len(data))])


def test_the_given_picture_is_not_changed_and_words_are_right():
    image = picture(0, 64).convert("RGBA")
    before = image.tobytes()
    load_image(image)
    assert (image.mode, image.tobytes()) == ("RGBA", before)
    plain = picture(0, 64)
    seen = load_image(plain)
    seen.paste((0, 0, 0), (0, 0, 64, 64))
    assert plain.tobytes() == picture(0, 64).tobytes()
    closed = Image.open(io.BytesIO(encoded(picture(0), "PNG")))
    closed.close()
    for source, said in (
        (closed, "The given image is damaged"),
        (Image.new("La", (2, 20)), "The given image is 2 x 20"),
    ):
        with pytest.raises(ReasonEditError, match=said):
            load_image(source)


# ---- names

NAME = "café größe Å.png"


@pytest.mark.parametrize(("there", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_is_found_in_another_unicode_form(there, asked, tmp_path):
    folder, name = (unicodedata.normalize(there, text) for text in ("Bücher", NAME))
    row = {**datasets.samples()[0], "image": f"{folder}/{name}"}
    datasets.pictures(tmp_path, [row["image"]])
    wanted = unicodedata.normalize(asked, row["image"])
    assert wanted != row["image"]
    assert not (tmp_path / wanted).exists()
    assert load_image(tmp_path / wanted).tobytes() == picture(0, 64).tobytes()
    assert load_image(str(tmp_path / wanted)).size == (64, 64)
    assert path_inside(tmp_path, wanted) == tmp_path / row["image"]
    (tmp_path / "rows.jsonl").write_text(json.dumps({**row, "image": wanted}))
    assert next(iter(EditFile(str(tmp_path / "rows.jsonl")).candidates())).image.size == (64, 64)
    release = {"a": {"question": "What?", "answer": "x", "img_file": wanted, "fact_surface": "[[A]] is [[B]]"}}
    (tmp_path / "all_qs_dict_release.json").write_text(json.dumps(release))
    assert len(FVQA(str(tmp_path), str(tmp_path)).samples) == 1
    (tmp_path / "FVQA").mkdir()
    sample = {"uid": "a", "image_path": f"data/{wanted}", "question": "What?", "answer": "x", "rationale": "It is."}
    (tmp_path / "FVQA" / "train.jsonl").write_text(json.dumps(sample))
    assert len(RationaleVQA("FVQA", str(tmp_path), str(tmp_path)).samples) == 1


def test_never_another_file(tmp_path):
    composed, apart = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    picture(1, 64).save(tmp_path / composed)
    assert find_spelling(tmp_path / apart) == tmp_path / composed
    picture(2, 64).save(tmp_path / apart)  # both are there: each name is its own file
    assert load_image(tmp_path / composed).tobytes() == picture(1, 64).tobytes()
    assert load_image(tmp_path / apart).tobytes() == picture(2, 64).tobytes()
    for name in ("e.png", "É.png", "è.png", "\uff45\u0301.png", "é.PNG", "ﬁ.png"):
        with pytest.raises(ReasonEditError, match="There is no image file"):
            load_image(tmp_path / name)
    # A third spelling of which two are there names neither of them.
    mixed = [unicodedata.normalize("NFC", "é") + unicodedata.normalize("NFD", "ü"), None, None]
    mixed[1] = unicodedata.normalize("NFD", "é") + unicodedata.normalize("NFC", "ü")
    mixed[2] = unicodedata.normalize("NFC", "éü")
    for i, name in enumerate(mixed[:2]):
        picture(i, 64).save(tmp_path / f"{name}.png")
    with pytest.raises(ReasonEditError, match="There is no image file"):
        load_image(tmp_path / f"{mixed[2]}.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link-é").symlink_to(tmp_path)
    linked = path_inside(tmp_path / "out", unicodedata.normalize("NFD", f"link-é/{composed}"))
    with pytest.raises(ReasonEditError, match="leads out of the folder"):
        check_unlinked(linked, tmp_path / "out")
    with pytest.raises(ReasonEditError, match="leads out of the folder"):
        path_inside(tmp_path / "out", f"link-é/../{composed}/../../x.png")


def test_a_picture_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(ReasonEditError) as raised:
        load_image(tmp_path / "none.png")
    assert str(raised.value) == f"There is no image file '{tmp_path / 'none.png'}': check the path."
