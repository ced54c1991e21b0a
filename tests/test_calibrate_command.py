"""``reasonedit calibrate``, and codebooks that are begun with a calibration or calibrated later."""

import json
from dataclasses import replace

import pytest
from helpers.tiny import design, picture

from reasonedit import ReasonEditor
from reasonedit.calibration import Calibration
from reasonedit.cli import main
from reasonedit.embedding.layer_choice import score_layers
from reasonedit.images import load_image

pytestmark = pytest.mark.usefixtures("hash_encoder")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(18):
        picture(100 + number).save(tmp_path / "pictures" / f"{number:02}.png")
    (tmp_path / "pictures" / "torn.png").write_bytes(b"no picture")
    base = design(keys="grounded")
    chosen = replace(
        base,
        embedding=replace(base.embedding, transform="whitened"),
        retrieval=replace(base.retrieval, query_regions=True, false_alarms=0.01, out_of_range=0.02),
    )
    (tmp_path / "design.json").write_text(json.dumps(chosen.to_dict()))
    picture(0).save(tmp_path / "asked.png")
    return tmp_path


def calibrate(folder, tiny_folder, *more):
    given = [
        "--model",
        str(tiny_folder),
        "--pictures",
        str(folder / "pictures"),
        "--design",
        str(folder / "design.json"),
    ]
    return main(["calibrate", *given, "--output", str(folder / "mine"), *more])


def edit(folder, *more):
    return main(
        [
            *("edit", str(folder / "asked.png"), "What is it?", "--answer", "a stop", "--reasoning", "It is red."),
            *("--codebook", str(folder / "book"), *more),
        ]
    )


def found_by(vlm, folder, transform, pooling):
    """By layer the share of views that find each other."""
    images = [load_image(path) for path in sorted((folder / "pictures").glob("[0-9]*.png"))]
    scores = score_layers(vlm, images, transforms=(transform,), pooling=pooling)
    return {score.layer: score.found for score in scores}


def test_a_codebook_is_begun_with_a_calibration(folder, tiny_folder, capsys):
    assert calibrate(folder, tiny_folder) == 0
    shown = capsys.readouterr().out
    assert "18" in shown
    assert "for 0.01 false alarms" in shown
    assert "for 0.02 out" in shown
    assert "1 cannot be read: torn.png." in shown
    made = Calibration.load(folder / "mine")
    assert made.record.left_out == ["1 cannot be read: torn.png."]
    begun = [
        "--model",
        str(tiny_folder),
        "--design",
        str(folder / "design.json"),
        "--calibration",
        str(folder / "mine"),
    ]
    assert edit(folder, *begun) == 0
    assert ReasonEditor.load(folder / "book").pipeline.statistics.record == made.record
    assert edit(folder, "--calibration", str(folder / "mine")) == 1
    assert "has its calibration already" in capsys.readouterr().err
    assert calibrate(folder, tiny_folder) == 1
    assert "There is a calibration" in capsys.readouterr().err


def test_a_codebook_is_calibrated_later_and_says_of_what_it_knows_nothing(folder, tiny_folder, capsys):
    assert edit(folder, "--model", str(tiny_folder), "--design", str(folder / "design.json")) == 0
    given = ["calibrate", "--pictures", str(folder / "pictures"), "--codebook", str(folder / "book")]
    assert main(given) == 0
    assert "embedded again: 1 of 1 edits" in capsys.readouterr().out
    (name,) = ReasonEditor.load(folder / "book").edits
    assert main(["codebook", "undo", str(folder / "book"), name]) == 0
    assert main(given) == 0
    assert "embedded again: 1 of 1 edits, undone ones included" in capsys.readouterr().out
    assert main(["codebook", "restore", str(folder / "book"), name]) == 0
    capsys.readouterr()
    from PIL import Image

    Image.new("RGB", (64, 64), "white").save(folder / "white.png")
    ask = ["ask", str(folder / "white.png"), "What is it?", "--codebook", str(folder / "book")]
    assert main(ask) == 0
    assert "the picture is unlike all pictures of the calibration" in " ".join(capsys.readouterr().out.split())
    assert main([*ask, "--explain"]) == 0
    assert "only edits of this very picture count for it" in " ".join(capsys.readouterr().out.split())
    assert main([*given, "--layer", "auto"]) == 1
    assert "has its layer already" in capsys.readouterr().err


def test_the_layer_is_chosen_by_the_pictures(folder, tiny_folder, tiny_vlm, capsys):
    assert calibrate(folder, tiny_folder, "--layer", "auto") == 0
    record = Calibration.load(folder / "mine").record
    assert record.layers == found_by(tiny_vlm, folder, "whitened", "mean")
    assert set(record.layers) == set(tiny_vlm.vision_layers)
    assert record.layer == max(record.layers, key=record.layers.__getitem__)
    assert "views that find each other" in capsys.readouterr().out


def test_the_layer_is_chosen_by_tokens_that_are_pooled_as_the_design_says(folder, tiny_folder, tiny_vlm):
    chosen = json.loads((folder / "design.json").read_text())
    chosen["embedding"] |= {"pooling": "last", "transform": "raw"}
    chosen["retrieval"]["query_regions"] = False
    (folder / "design.json").write_text(json.dumps(chosen))
    assert calibrate(folder, tiny_folder, "--layer", "auto") == 0
    layers = Calibration.load(folder / "mine").record.layers
    assert layers == found_by(tiny_vlm, folder, "raw", "last") != found_by(tiny_vlm, folder, "raw", "mean")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "Say where the calibration goes"),
        (["--output", "design.json"], "'design.json' is a file: name a folder"),
        (["--output", "a", "--codebook", "b"], "Say where the calibration goes"),
        (["--output", "a", "--layer", "no.such.layer"], "no.such.layer"),
    ],
)
def test_what_cannot_be_done_is_said(folder, tiny_folder, capsys, monkeypatch, more, message):
    monkeypatch.chdir(folder)
    assert main(["calibrate", "--model", str(tiny_folder), "--pictures", str(folder / "pictures"), *more]) == 1
    assert message in capsys.readouterr().err
