"""The README's code runs, and what it names exists."""

import re
from pathlib import Path

import pytest

from reasonedit.data.world.scenes import Scene, Thing

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def test_the_three_ways_in_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Scene((Thing("kettle", "red", 4),), "plain", 1).render().save("photo.png")
    assert len(BLOCKS) == 6
    said, names = [], {"__name__": "readme"}  # one goes on where the last one stopped
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
        said.append(capsys.readouterr().out)
    assert "sailing [(" in said[0]
    assert "'rel': (" in said[2]
    assert "I was asked: " in said[3]
    assert "The answer to" in said[3]
    assert said[4].splitlines()[0].endswith(" used")


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`((?:src|callbacks|configs|scripts|tests)/[\w./]*)`", TEXT))))
def test_files_that_are_named_exist(named):
    assert (ROOT / named).exists()


def test_the_top_level_is_what_was_agreed():
    tracked = {
        *("src", "configs", "callbacks", "tests", "scripts", "setup.cfg", "pyproject.toml", "README.md"),
        *("LICENSE", "CHANGELOG.md", "MANIFEST.in", ".ci", ".gitignore"),
    }
    import subprocess

    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    assert {name.split("/")[0] for name in listed if name} == tracked


def test_the_packages_that_setup_cfg_lists_are_all_there():
    import configparser

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {"reasonedit"}
    found.add("reasonedit.configs")
    for init in (ROOT / "callbacks").rglob("__init__.py"):
        found.add(".".join(["reasonedit", *init.parent.relative_to(ROOT).parts]))
    for init in (ROOT / "src" / "reasonedit").rglob("__init__.py"):
        parts = init.parent.relative_to(ROOT / "src").parts
        found.add(".".join(parts))
    assert listed == found
