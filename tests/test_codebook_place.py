"""Where a codebook cannot be, somebody is told before what takes long."""

from __future__ import annotations

import os

import lightning as L
import pytest
from helpers.toy import ToySource

from reasonedit import EditStream, VLMModule
from reasonedit.callbacks import Codebook, Retriever
from reasonedit.cli import main
from reasonedit.codebook import check_place
from reasonedit.errors import InputError, UnavailableError


def test_a_codebook_is_begun_in_any_folder_that_can_be_made(tmp_path):
    check_place(tmp_path)
    check_place(tmp_path / "new" / "codebook")


@pytest.mark.parametrize("name", ["file.txt", "file.txt/codebook"])
def test_a_file_is_no_place(name, tmp_path, tiny_vlm, monkeypatch):
    (tmp_path / "file.txt").write_text("mine")
    with pytest.raises(InputError, match=r"file\.txt' is no folder"):
        check_place(tmp_path / name)
    asked = []
    monkeypatch.setattr(EditStream, "base_pass", lambda *_, **__: asked.append(1))
    trainer = L.Trainer(callbacks=[Codebook(tmp_path / name), Retriever()], logger=False, enable_checkpointing=False)
    with pytest.raises(InputError, match=r"file\.txt' is no folder"):
        trainer.predict(VLMModule(tiny_vlm), datamodule=EditStream(ToySource(2)), return_predictions=False)
    assert not asked
    assert (tmp_path / "file.txt").read_text() == "mine"


def test_a_folder_that_may_not_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    with pytest.raises(UnavailableError, match="permission denied"):
        check_place(tmp_path / "codebook")


@pytest.mark.parametrize("words", [["app", "--no-browser"], ["serve"]])
def test_a_server_loads_no_model_for_it(words, tmp_path, monkeypatch, capsys):
    (tmp_path / "file.txt").write_text("mine")
    monkeypatch.setattr("reasonedit.commands.serving.load_vlm", lambda *_, **__: pytest.fail("a model is loaded"))
    assert main([*words, "--codebook", str(tmp_path / "file.txt")]) == 1
    assert "is no folder, and a codebook is one: name another." in capsys.readouterr().err
