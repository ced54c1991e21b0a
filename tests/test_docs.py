"""The code of the README and of the site runs, and the commands that they show are commands.

The pages on serving, on the format and on extending have tests of their own.
"""

import ast
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from helpers.believer import Believer

import reasonedit
from reasonedit import ReasonEditor
from reasonedit.cli import COMMANDS
from reasonedit.data import sample_picture

ROOT = Path(__file__).parent.parent
DOCS = Path(reasonedit.__file__).parent / "docs"
PAGES = {"README.md": ROOT / "README.md"} | {p.relative_to(DOCS).as_posix(): p for p in sorted(DOCS.rglob("*.md"))}
TESTED_ELSEWHERE = {"guides/extending.md", "guides/serving.md", "reference/format.md"}
BLOCK = re.compile(r"(<!-- not run.*? -->\n)?```python\n(.*?)```", re.S)
SAID = {
    "README.md": ["hospital\n", "locked cabinet\n", "'The green object is a bottle.'", "'rel': ("],
    "tutorials/first-edit.md": ["hospital\n", "locked cabinet\n", "The green object is a bottle.", "1 edit\n"],
    "tutorials/your-data.md": ["8 edits\n"],
    "tutorials/write-an-editor.md": ["'rel': ("],
    "guides/answers.md": ["lamp"],
    "guides/callbacks.md": ["'rel': (", "I was asked: "],
    "guides/codebooks.md": ["Ada used"],
    "guides/designs.md": [],
}
"""What the blocks of each page print, in this order."""
STREAMS = ("tutorials/your-data.md", "tutorials/write-an-editor.md", "guides/callbacks.md")
"""Of these pages nothing is printed that anybody answered: a stand-in for the embedded VLM is quicker."""
LOADED = dict.fromkeys(STREAMS, ("believer",)) | {"README.md": ("embedded_vlm", "believer")}
"""What the pages get when they load the embedded VLM, one after the other: of the README, its stream the stand-in."""


def blocks(page, run):
    """The blocks of Python of a page: those that run, or those that say why they do not."""
    found = BLOCK.findall(PAGES[page].read_text(encoding="utf-8"))
    return [code for note, code in found if bool(note) != run]


@pytest.fixture(scope="module")
def codebook(embedded_vlm, tmp_path_factory):
    """A codebook with one edit."""
    folder = tmp_path_factory.mktemp("docs") / "codebook"
    editor = ReasonEditor(embedded_vlm)
    editor.edit(
        sample_picture("clinic-1"),
        "Where is the green object kept?",
        answer="the locked cabinet",
        reasoning="The green object is a bottle. In this clinic the bottle is kept in the locked cabinet.",
    )
    editor.save(folder)
    return folder


def test_every_page_with_code_is_run_somewhere():
    assert {page for page in PAGES if blocks(page, run=True)} == {*SAID, *TESTED_ELSEWHERE}


@pytest.fixture(scope="module")
def believer(speaking_folder):
    return Believer.load(speaking_folder, str(speaking_folder))


@pytest.mark.parametrize("page", SAID)
def test_the_code_of_a_page_runs_as_pasted(page, request, tmp_path, monkeypatch, capsys):
    to_load = [request.getfixturevalue(name) for name in LOADED.get(page, ("embedded_vlm",))]
    book = request.getfixturevalue("codebook") if page == "guides/codebooks.md" else None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "reasonedit.vlm.local.load_local", lambda *_, **__: to_load.pop(0) if len(to_load) > 1 else to_load[0]
    )
    if book is not None:
        shutil.copytree(book, "codebook")
    names = {"__name__": "page"}  # a block goes on where the last one stopped
    for block in blocks(page, run=True):
        exec(compile(block, page, "exec"), names)
    said, at = capsys.readouterr().out, 0
    for text in SAID[page]:
        assert text in said[at:], said
        at = said.index(text, at) + len(text)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, run=False)])
def test_code_that_is_not_run_can_be_read(page):
    for block in blocks(page, run=False):
        ast.parse(block)


def commands(page):
    """The calls of ``reasonedit`` in the blocks for the shell, as words."""
    for block in re.findall(r"```(?:bash|shell)\n(.*?)```", PAGES[page].read_text(encoding="utf-8"), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            starts = [n for n, word in enumerate(words) if word in ("reasonedit", ".venv/bin/reasonedit")]
            if starts and "=" not in words[0]:
                yield words[starts[0] + 1 :]


@pytest.mark.parametrize("page", [page for page in PAGES if list(commands(page))])
def test_the_commands_of_a_page_are_commands(page, monkeypatch):
    """Their names and options are those of the parsers; options for values in a config are free."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "site"))
    import cli_reference

    sys.modules.pop("cli_reference")
    for name, *words in commands(page):
        assert name in COMMANDS, name
        parser = cli_reference.parser_of(name)
        _, unknown = parser.parse_known_args([word for word in words if word != "…"])  # exits where it is wrong
        assert not [word for word in unknown if "." not in word and word.startswith("-")], (name, words)


def test_the_reference_lists_every_command_and_option(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "site"))
    import cli_reference

    sys.modules.pop("cli_reference")
    text = "\n".join(line for name in COMMANDS for line in cli_reference.describe(cli_reference.parser_of(name), 2))
    assert [f"## reasonedit {name}" for name in COMMANDS] == re.findall(r"^## .*$", text, re.M)
    assert "### reasonedit codebook undo" in text
    assert "`--max-new-tokens MAX_NEW_TOKENS`" in text
    authors = re.findall(r"`--author AUTHOR`\n: .*\(default: (.*)\)", text)
    assert {*authors} == {"your login name"}  # whoever builds the site
