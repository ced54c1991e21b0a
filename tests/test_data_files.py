"""What results are known to be made of: the content of every file that data are read from."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import benchmarks, datasets
from helpers.tiny import picture

from reasonedit import EditStream
from reasonedit.cli import main
from reasonedit.data import EditFile
from reasonedit.data.benchmarks import VLKEB
from reasonedit.data.source import ReadsFiles
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.experiments import EXPERIMENTS, Lab, run_cell
from reasonedit.runs.data_files import DataFiles

pytestmark = pytest.mark.usefixtures("hash_encoder")


def repaint(path: Path) -> None:
    path.write_bytes(b"")  # a link is written through
    picture(91, 64).save(path)


def config_of(model, data):
    source = {"class_path": "reasonedit.data.EditFile", "init_args": {"path": str(data)}}
    options = {"model": str(model), "dtype": "float32", "max_new_tokens": 3}
    return {
        "model": {"class_path": "reasonedit.VLMModule", "init_args": options},
        "data": {"class_path": "reasonedit.EditStream", "init_args": {"source": source, "batch_size": 4}},
    }


def test_pictures_beside_a_file_count_and_nothing_else_there(tmp_path):
    path = datasets.own(tmp_path)

    def sums():
        return DataFiles().of({"path": str(path), "images": None}, files=EditFile(str(path)).files())

    first = sums()
    assert list(first) == [str(path), f"files in {tmp_path / 'pictures'}"]
    (tmp_path / "pictures" / "notes.txt").write_text("of nobody's concern")
    assert sums() == first
    repaint(tmp_path / "pictures" / "3.png")
    assert sums()[str(path)] == first[str(path)]
    assert sums() != first


def test_a_cell_is_run_again_when_a_picture_beside_its_file_changes(tiny_folder, tmp_path):
    data = datasets.own(tmp_path / "data")
    plan = EXPERIMENTS["main"]
    [cell] = replace(plan, rows=tuple(row for row in plan.rows if row.name == "none")).cells([0])

    def is_run():
        return run_cell(Lab(config_of(tiny_folder, data), 2), cell, tmp_path / "main")

    assert [is_run(), is_run()] == [True, False]
    repaint(tmp_path / "data" / "pictures" / "0.png")
    assert [is_run(), is_run()] == [True, False]


def test_a_run_does_not_go_on_with_another_picture(tiny_folder, tmp_path, monkeypatch, capsys):
    data, out = datasets.own(tmp_path / "data"), tmp_path / "out"
    (tmp_path / "run.yaml").write_text(json.dumps(config_of(tiny_folder, data)))

    def stopped(*_, **__):
        raise SystemExit(130)

    with monkeypatch.context() as patch:
        patch.setattr("lightning.Trainer.predict", stopped)
        assert main(["run", "--config", str(tmp_path / "run.yaml"), "--out", str(out)]) == 130
    repaint(tmp_path / "data" / "pictures" / "5.png")
    capsys.readouterr()
    assert main(["run", "--resume", str(out)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"the content of 'files in {tmp_path / 'data' / 'pictures'}' is another" in said


def test_a_folder_that_is_linked_counts_once_and_loops_end(tmp_path):
    root = benchmarks.vlkeb(tmp_path / "data")
    images, elsewhere = root / "VLKEB_images", tmp_path / "elsewhere"
    images.rename(elsewhere)
    images.symlink_to(elsewhere)
    (root / "again").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)
    (root / "nowhere").symlink_to(tmp_path / "gone")
    files = list(DataFiles()._files_in(root))
    pictures = [path.name for path in (elsewhere / "mmkb_images").rglob("*.*") if path.is_file()]
    assert sorted(path.name for path, _ in files) == sorted(["eval_multihop.json", *pictures])
    assert len(files) == len({(stat.st_dev, stat.st_ino) for _, stat in files})
    first = DataFiles().of(str(root))
    assert DataFiles().of(str(root)) == first
    repaint(elsewhere / "mmkb_images" / "m.0" / "2.jpg")
    assert DataFiles().of(str(root)) != first
    assert DataFiles([elsewhere]).of(str(root)) == DataFiles([elsewhere]).of(str(root)) != first


def test_a_text_that_is_too_long_for_a_name_is_no_file():
    assert DataFiles().of({"template": "Say it " * 100}) == {}


def test_each_file_is_read_once(tmp_path, monkeypatch):
    root = benchmarks.vlkeb(tmp_path)
    source, read, real = VLKEB(str(root)), [], Path.read_bytes
    files = source.files()
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.resolve()) or real(path))
    checksums = DataFiles()
    assert list(checksums.of(str(root), files=files)) == [str(root)]  # all of them are in the folder
    checksums.of(str(root), files=files)
    assert set(files) <= set(read)
    assert len(read) == len(set(read)) == sum(path.is_file() for path in root.rglob("*"))
    beside = checksums.of(files=files)
    assert list(beside) == [f"files in {os.path.commonpath([path.parent for path in files])}"]
    assert checksums.of(files=reversed(files)) == beside


def test_the_world_reads_no_files():
    assert not isinstance(EmbeddedWorld(), ReadsFiles)
    assert DataFiles().of(EditStream("world").source.edits) == {}
