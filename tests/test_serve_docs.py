"""The page on serving: its examples run, its paths are those of the server, and the containers use flags that exist."""

import re
from pathlib import Path

import pytest
import yaml
from helpers.served import serving_app
from helpers.tiny import design, picture

import reasonedit
from reasonedit import ReasonEditor
from reasonedit.commands.serve import parser
from reasonedit.serve.app import create_app
from reasonedit.serve.settings import Settings
from reasonedit.traces import KeptQuestions

PAGE = (Path(reasonedit.__file__).parent / "docs" / "guides" / "serving.md").read_text(encoding="utf-8")
DOCKER = Path(reasonedit.__file__).parents[2] / "scripts" / "docker"


@pytest.fixture
def app(tiny_vlm, hash_encoder, tmp_path):
    editor = ReasonEditor(tiny_vlm, design(k=2, keys="both"))
    editor.save(tmp_path / "codebook")
    return create_app([editor], Settings("embedded"), KeptQuestions(tmp_path / "codebook.questions"))


def test_the_examples_run_one_after_the_other(app, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture(0).save("kettle.png")
    names = {}
    with serving_app(app) as server:
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
            exec(block.replace("http://localhost:8000", server.url), names)
        stats = names["server"].get("stats").json()
        paths = set(names["server"].get(f"{server.url}/openapi.json").json()["paths"])
    said = capsys.readouterr().out
    assert "there are no edits" in said
    assert "['edit', 'undo', 'restore']" in said
    assert stats["edits"] == {"active": 1, "undone": 1}
    assert any(key["used"] for key in names["why"]["considered"])
    named = {"GET", "POST", "DELETE"} & set(re.findall(r"[A-Z]+", PAGE))
    assert len(named) == 3
    for path in paths:  # the page tells of every path
        assert re.sub(r"\{\w+(:path)?\}", "{…}", path) in re.sub(
            r"\{\w+\}", "{…}", PAGE.replace("`…/", "`/v1/edits/{id}/")
        ), path


def words_of(service):
    return [re.sub(r"\$\{(\w+):-(.*?)\}", r"\2", word) for word in service["command"]]


def test_the_containers_use_flags_that_exist():
    entry = re.search(r"ENTRYPOINT (\[.*\])", (DOCKER / "Dockerfile").read_text())
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    begins = yaml.safe_load(entry[1])
    assert begins[:2] == ["reasonedit", "serve"]
    arguments = parser().parse_args([*begins[2:], *words_of(services["gateway"])])
    assert arguments.model.startswith("openai:")
    assert arguments.model.removeprefix("openai:") == words_of(services["vlm"])[1]
    assert arguments.base_url == "http://vlm:8000/v1"
    assert (arguments.host, arguments.keep_questions) == ("0.0.0.0", 10_000)
    assert (DOCKER / services["gateway"]["build"]["context"]).resolve() == DOCKER.parents[1]


def test_the_commands_of_the_page_are_commands():
    shell = re.search(r"```shell\n(.*?)```", PAGE, re.DOTALL)[1].replace("\\\n", " ")
    commands = [line.partition("#")[0].split() for line in shell.splitlines() if line.startswith("reasonedit")]
    assert len(commands) == 2
    for command in commands:
        parser().parse_args(command[2:])
    flags = set(re.findall(r"`(--[a-z-]+)", PAGE))
    known = {option for action in parser()._actions for option in action.option_strings}
    assert flags <= known
