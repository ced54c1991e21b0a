"""``reasonedit app``: what it tells, opens and keeps."""

from __future__ import annotations

import json
import re
import urllib.request
import webbrowser

import pytest
from helpers.waiting import wait_until

import reasonedit.serve.run
from reasonedit.cli import main


@pytest.mark.parametrize("quiet", [False, True], ids=["opened", "only printed"])
def test_the_page_is_opened_once_the_server_listens(quiet, tiny_folder, hash_encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    opened, told = [], {}

    def open_page(url):
        opened.append(url)
        return True

    def run_server(app, host, port, ready):
        """Listens for one question of its own, in place of the real one, which runs until a signal comes."""
        from helpers.browsing import serving

        assert (host, port) == ("127.0.0.1", 0)
        with serving(app) as url:
            ready(url)
            with urllib.request.urlopen(f"{url}/v1/info") as response:
                told.update(json.load(response))
            with urllib.request.urlopen(url) as response:
                told["page"] = response.read().decode()

    monkeypatch.setattr(webbrowser, "open", open_page)
    monkeypatch.setattr(reasonedit.serve.run, "run_server", run_server)
    assert main(["app", "--model", str(tiny_folder), "--dtype", "float32", *(["--no-browser"] if quiet else [])]) == 0
    (url,) = re.findall(r"The page: (http://127\.0\.0\.1:\d+)", capsys.readouterr().err)
    if not quiet:
        wait_until(lambda: opened)
    assert opened == ([] if quiet else [url])
    assert told["codebook"] == "codebook"
    assert told["keeps_questions"]
    assert told["samples"] == []
    assert "<title>ReasonEdit</title>" in told["page"]
    assert (tmp_path / "codebook").is_dir()
