"""What somebody else wrote reaches the terminal as text, whatever command shows it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata

import pytest
from helpers.tiny import design, picture

from reasonedit import ReasonEditError, ReasonEditor
from reasonedit.cli import COMMANDS, main
from reasonedit.codebook import EditMemory, Store
from reasonedit.commands.fitting import Column, print_table
from reasonedit.commands.screen import Screen, waiting
from reasonedit.report.charts import Line, draw_bars, draw_lines, draw_scatter
from reasonedit.safe_text import to_safe_text
from reasonedit.types import Edit

ARABIC = "مرحبا"
FORGED = "reasonedit: all is well"
EVIL = f"\x1b]52;c;cm0=\x07\x1b[2J\x9b31m \u202eabc\u2066 \u200f\u200b\u2028\x85\n{FORGED} {ARABIC}"
OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ud800-\udfff]"
)


@pytest.mark.parametrize(
    "text",
    [
        "What is it?",
        "ما هذا؟ إنه قارب",
        "מה זה?",
        "می\u200cخواهم",  # noqa: RUF001 - the joiner that Persian is written with
        "क्\u200dष",
        "👨\u200d👩\u200d👧 👩🏽\u200d🔬 🏳️\u200d🌈",
        "e\u0301 ṩ \u00a0 naïve 中文 ไทย",
        "\u0601 \u06dd",
    ],
)
def test_letters_of_any_script_and_emoji_stay(text):
    assert to_safe_text(text) == text


def test_what_a_terminal_obeys_is_written_out():
    for code in range(0x110000):
        character = chr(code)
        shown = to_safe_text(f"a{character}b")
        if unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs"):
            assert shown.isascii(), code
        assert not OBEYED.search(shown), code
    assert to_safe_text("pay\u200dpal a\u200c \u200d") == r"pay\u200dpal a\u200c \u200d"
    assert to_safe_text("\x1b[2J\n\t\\") == r"\x1b[2J\n\t" + "\\"
    assert to_safe_text("\x1b[2J\n\t", lines=True) == "\\x1b[2J\n\t"
    assert to_safe_text(to_safe_text(EVIL)) == to_safe_text(EVIL)


def test_a_text_that_looks_like_a_sign_or_a_style_is_shown_as_it_is(capsys):
    text = "edit :key:, [b]1[/b] of :100:"
    for show in (Screen().say, Screen().tell, lambda said: Screen().print(said, markup=False)):
        show(text)
    print_table(Screen(width=100), text, [text], [[Column(text, [text])]], text)
    assert capsys.readouterr().out.count(text) == 8
    with waiting("Mine [/b] [v2] :key:") as status:
        assert str(status.status) == "Mine [/b] [v2] :key:"


def test_an_error_is_one_plain_line():
    assert str(ReasonEditError(f"There is no '{EVIL}'.")) == f"There is no '{to_safe_text(EVIL)}'."


@pytest.fixture
def book(tiny_folder, tmp_path, hash_encoder):
    """A codebook in which every text is hostile; its first two edits contradict each other."""
    editor = ReasonEditor.from_pretrained(str(tiny_folder), design(keys="both", merge=True), dtype="float32")
    editor.save(tmp_path / "book")
    for i in range(2):
        answer, name = f"{EVIL} {i}", f"{i}{EVIL}"
        editor.write(
            Edit(picture(0), f"What {EVIL}?", answer, [f"It is {EVIL}."], id=name, author=EVIL, choices=[answer, EVIL])
        )
    picture(0).save(tmp_path / "a.png")
    return tmp_path / "book"


def test_no_command_that_shows_a_codebook_lets_it_reach_the_terminal(book, tmp_path, capsys, tiny_folder):
    calls = [
        ["codebook", "list", book, "--all"],
        ["codebook", "show", book, "0"],
        ["codebook", "show", book, "1"],
        ["codebook", "undo", book, "1"],
        ["codebook", "list", book, "--all"],
        ["codebook", "restore", book, "1"],
        ["codebook", "export", book, tmp_path / "all.jsonl"],
        ["codebook", "import", book, tmp_path / "all.jsonl", "--dtype", "float32"],
        ["codebook", "show", book, EVIL],
        ["codebook", "undo", book, EVIL],
        ["data", "check", tmp_path / "all.jsonl"],
        ["codebook", "verify", book],
        ["codebook", "repair", book],
        ["codebook", "compact", book],
        ["codebook", "backup", book, tmp_path / "backup"],
        ["ask", tmp_path / "a.png", f"What {EVIL}?", "--codebook", book, "--dtype", "float32"],
        ["ask", tmp_path / "a.png", f"What {EVIL}?", "--codebook", book, "--dtype", "float32", "--explain"],
        ["edit", tmp_path / "a.png", f"What {EVIL}?", "--answer", "a", "--reasoning", f"It {EVIL}.",
         "--codebook", book, "--dtype", "float32"],
        ["codebook", "erase", book, "0", "--yes"],
    ]  # fmt: skip
    shown = ""
    for call in calls:
        main([str(c) for c in call])
        told = "".join(capsys.readouterr())
        assert not OBEYED.search(told), call
        assert not any(line.lstrip().startswith(FORGED) for line in told.splitlines()), call
        shown += told
    assert ARABIC in shown
    assert r"\x1b]52;c;cm0=\x07\x1b[2J\x9b31m \u202eabc\u2066" in shown
    assert "contradicts" in shown


def test_an_import_that_contradicts_says_so_plainly(book, tmp_path, tiny_folder, capsys):
    assert main(["codebook", "export", str(book), str(tmp_path / "all.jsonl")]) == 0
    editor = ReasonEditor.from_pretrained(str(tiny_folder), design(keys="both", merge=True), dtype="float32")
    editor.save(tmp_path / "new")
    assert main(["codebook", "import", str(tmp_path / "new"), str(tmp_path / "all.jsonl"), "--dtype", "float32"]) == 0
    told = capsys.readouterr()
    assert "contradicts" in told.out
    assert not OBEYED.search(told.out + told.err)
    assert len(EditMemory.open(Store.open(tmp_path / "new")).edits) == 2


@pytest.mark.parametrize(
    "row",
    [
        {"image": EVIL},
        {"image": "a.png", EVIL: 1},
        {"image": "a.png", "choices": [EVIL, "b"]},
        {"image": "a.png", "reasoning": "\x1b[2J."},
        {"image": "a.png", "choices": {EVIL: EVIL}},
        {"image": f"http://{EVIL}"},
        {"image": "a.png", "evidence": [[EVIL]]},
    ],
)
def test_what_is_said_of_a_row_is_plain(row, book, tmp_path, capsys):
    whole = {"question": "What?", "answer": f"a {EVIL}", "reasoning": "It is.", **row}
    (tmp_path / "rows.jsonl").write_text(json.dumps(whole) + "\n" + '{"\\u001b[2J": 1, "\\u001b[2J": 2}')
    for call in (["data", "check"], ["codebook", "import", str(book)]):
        main([*call, str(tmp_path / "rows.jsonl")])
        told = "".join(capsys.readouterr())
        assert not OBEYED.search(told)
        assert told


def test_who_writes_is_named_plainly(book, capsys):
    """The file that says who writes may have come with the folder."""
    with Store.open(book).writing():
        owner = {"user": EVIL, "host": EVIL, "pid": EVIL, "since": EVIL, "command": EVIL}
        (book / ".writer.json").write_text(json.dumps(owner))
        other = Store.open(book)
        other._lock._patience = 0.0
        with pytest.raises(ReasonEditError) as raised, other.writing():
            pass
    assert not OBEYED.search(str(raised.value))


LOGGED = (
    "import logging; from reasonedit import cli, quiet; quiet.quieten(); "
    "logging.getLogger('any').warning('of %s', '\\x1b[2J\\u202e'); cli._fail('no \\x1b[2J'); "
)


def test_what_is_logged_on_the_command_line_is_plain():
    told = subprocess.run([sys.executable, "-c", LOGGED], capture_output=True, text=True, timeout=100, check=True)
    assert told.stderr == "of \\x1b[2J\\u202e\nreasonedit: no \\x1b[2J\n"


@pytest.mark.parametrize("title", ["from $5 to $6", r"an $\unheard$ of one"])
def test_the_charts_of_a_report_are_no_mathematics(title):
    for svg in (
        draw_lines({title: [Line(title, [1, 2], [0.1, 0.2])]}, x_label=title),
        draw_scatter({title: (0.5, 0.5)}, x_label="x", y_label="y"),
        draw_bars({title: 0.5}, x_label="x"),
    ):
        assert f">{title}</text>" in svg


def test_the_charts_of_a_report_are_no_html():
    script = "<script>alert(1)</script>"
    for svg in (
        draw_lines({script: [Line(script, [0.0, 1.0], [0.0, 1.0])]}, x_label=script),
        draw_bars({script: 0.5}, x_label=script),
        draw_scatter({script: (0.5, 0.5)}, x_label=script, y_label=script),
    ):
        assert "<svg" in svg
        assert "<script" not in svg


def test_every_command_has_been_thought_of():
    """Commands that show what others wrote are above; these show figures, and names that whoever calls them gave.

    What a server and its page show is tested with them.
    """
    assert set(COMMANDS) - {"codebook", "ask", "edit", "data"} == {
        *(
            "demo",
            "run",
            "experiment",
            "report",
            "train-mend",
            "train-serac",
            "select",
            "calibrate",
            "build-probes",
            "world",
        ),
        *("app", "serve"),
    }
