"""The README is short, what it names exists, and the top level is what was agreed."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "src" / "reasonedit" / "docs").rglob("*.md")}
TEXTS = {"README.md": README, "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")}
NAMED = {
    name
    for text in (*TEXTS.values(), *PAGES.values())
    for name in re.findall(r"`((?:src|callbacks|configs|scripts|tests)/[\w./-]*)`", text)
}


def headings(path):
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_read_in_a_few_minutes():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("named", sorted(NAMED))
def test_files_that_are_named_exist(named):
    assert (ROOT / named).exists()


@pytest.mark.parametrize("page", sorted(TEXTS))
def test_links_between_the_files_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", TEXTS[page])
    assert links
    for file, anchor in links:
        assert (ROOT / file).exists(), file
        assert not anchor or anchor in headings(ROOT / file), f"{file}#{anchor}"


def test_the_top_level_is_what_was_agreed():
    tracked = {
        *("src", "configs", "callbacks", "tests", "scripts", "setup.cfg", "pyproject.toml", "README.md"),
        *("LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "MANIFEST.in"),
        *(".ci", ".github", ".gitignore", ".pre-commit-config.yaml"),
    }
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name.split("/")[0] for name in listed.splitlines()} == tracked


def test_the_citation_and_the_package_are_of_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version"} <= set(citation)
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "2602.02408" in citation["preferred-citation"]["url"]


def test_workflows_and_hooks_call_what_exists():
    """Their scripts are there, and each tool of a hook is one of the extra for development."""
    calls = []
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            calls += [step["run"] for step in job["steps"] if "run" in step]
    for name in re.findall(r"\b((?:scripts|\.ci)/\w+)", "\n".join(calls)):
        assert (ROOT / name).exists(), name
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    for hook in repository["hooks"]:
        words = hook["entry"].split()
        assert words[0] in (".venv/bin/ruff", ".venv/bin/mypy", ".venv/bin/python")
        for name in words:
            assert not name.startswith("tests/") or (ROOT / name).exists(), name


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
