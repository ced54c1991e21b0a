"""The page of one run: what became of each edit, what was not measured, and nothing of what was erased."""

import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from helpers.browsing import PHONE, find_browser, open_browser, visiting
from helpers.commands import write_config
from helpers.tiny import HashEncoder, picture
from PIL import Image

from reasonedit import ReasonEditError
from reasonedit.cli import main
from reasonedit.codebook.stored_edit import picture_name
from reasonedit.embedding import SentenceEncoder
from reasonedit.erasure import erase
from reasonedit.groups import LOCALITIES
from reasonedit.report import write_run_page
from reasonedit.report.locality import find_gaps
from reasonedit.report.run_data import RunData
from reasonedit.report.run_edits import FAILED, LOST, NOT_ASKED, NOT_NEEDED, TOOK, judge_edits, pictured
from reasonedit.report.run_page import _facts, _questions, _shares
from reasonedit.runs import shown


@pytest.fixture(scope="module")
def made(tiny_folder, tmp_path_factory):
    """The folder of a run of six edits, none of which takes, and what was said; it is not changed."""
    folder = tmp_path_factory.mktemp("made")
    config = write_config(folder / "config.json", tiny_folder)
    with pytest.MonkeyPatch.context() as patch:
        encoder = classmethod(lambda cls, name="hash", device=None: HashEncoder())
        patch.setattr(SentenceEncoder, "from_pretrained", encoder)
        patch.setenv("REASONEDIT_CACHE", str(folder / "cache"))
        assert main(["run", "--config", str(config), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def run(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "run"))


def files_with(folder: Path, *texts: str) -> list[str]:
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(text.encode() in path.read_bytes() for text in texts)
    ]


# ---- the page


def test_a_run_ends_with_a_page_that_opens_offline(made):
    html = (made / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert "<script" not in html
    assert "title=" not in html  # definitions are text
    assert "The same questions in other words" in html
    for i in range(6):
        assert f"What is number {i}?" in html
        assert f"Number {i} is round." in html
    pictures = {picture_name(picture(i)) for i in range(6)}
    assert pictures <= {path.stem for path in (made / "shown" / "pictures").iterdir()}
    # The numbers are those of the predictions.
    last = {row["id"]: row for row in pq.read_table(made / "predictions.parquet").to_pylist() if row["group"] == "rel"}
    took = sum(row["right"] for row in last.values())
    assert f"<b>{took} of 6</b> edits hold" in html
    assert html.index('id="did-not-take"') < html.index('id="shares"')


def test_the_command_makes_the_same_page_again(run, capsys):
    before = (run / "report.html").read_text()
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").read_text() == before
    assert str(run / "report.html") in capsys.readouterr().out.replace("\n", "")


def test_without_copies_pictures_come_from_the_codebook(run):
    shutil.rmtree(run / "shown")
    html = write_run_page(run, run / "report.html").read_text()
    cards = html[html.index('id="did-not-take"') : html.index('id="questions"')]
    assert cards.count("data:image/webp") == 6
    assert cards.count('class="reasons"') == 6


def test_without_predictions_it_says_what_to_do(run):
    (run / "predictions.parquet").unlink()
    html = write_run_page(run, run / "report.html").read_text()
    assert "PredictionWriter" in html
    assert "The same questions in other words" in html  # the table is there
    (run / "metrics.json").unlink()
    with pytest.raises(ReasonEditError, match="no results yet: go on with it"):
        write_run_page(run, run / "report.html")


def test_it_says_when_the_edits_were_asked_again(run):
    def when():
        html = write_run_page(run, run / "report.html").read_text()
        return set(re.findall(r"asked again (after [^,]*),", html, re.IGNORECASE))

    assert when() == {"after all edits"}
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "metrics.json").unlink()  # it was cut short
    assert when() == {"after the edits so far"}
    config["data"]["init_args"]["alone"] = True
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert when() == {"after each edit alone"}


def test_what_people_wrote_is_text(run):
    path = run / "shown" / "edits.jsonl"
    path.write_text(path.read_text().replace("Number 1 is round.", "<script>alert(1)</script>"))
    html = write_run_page(run, run / "report.html").read_text()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_pictures_stay_within_a_bound_and_the_failures_have_theirs_first(monkeypatch):
    images = {str(i): Image.effect_noise((600, 500), 90).convert("RGB") for i in range(4)}
    all_of_them = shown._shrink(images, ["2", "0", "2", "1", "3"])
    assert list(all_of_them) == ["2", "0", "1", "3"]
    monkeypatch.setattr(shown, "_MOST_BYTES", len(all_of_them["2"]) + len(all_of_them["0"]))
    assert list(shown._shrink(images, ["2", "0", "2", "1", "3"])) == ["2", "0"]


# ---- what became of each edit


def answer(edit, phase, right, **changes):
    group = "rel" if phase == "probe" else None
    row = {"id": f"{edit}-{phase}", "edit": edit, "phase": phase, "group": group, "edits": 1, "right": right}
    row |= {"prompt": f"Ask {edit}", "choices": None, "before": "old" if phase == "probe" else None, "answer": "new"}
    row |= {"target": "it", "facts": [], "fact_edits": [], "distances": [], "left_out": []}
    return row | {"nearest": 2.0, "threshold": 1.5, **changes}


def judged(*rows):
    run = RunData(Path("r"), {}, {}, {}, list(rows))
    run.edits = {row["edit"]: {"id": row["edit"], "question": "", "answer": "it", "reasoning": []} for row in rows}
    (outcome,) = judge_edits(run)
    return outcome


def test_an_edit_took_did_not_was_lost_was_not_needed_or_nobody_knows():
    wrong, right = answer("e", "edit", False), answer("e", "edit", True)
    assert judged(wrong, answer("e", "probe", True)).status == TOOK
    assert judged(wrong, answer("e", "probe", False)).status == FAILED
    assert judged(wrong, answer("e", "check", True), answer("e", "probe", False)).status == LOST
    assert judged(right, answer("e", "probe", True)).status == NOT_NEEDED
    outcome = judged(right, answer("e", "probe", False))
    assert outcome.status == FAILED
    assert "nothing was written for it" in outcome.why
    assert judged(wrong).status == NOT_ASKED
    for is_right, how in ((True, "rightly"), (False, "wrongly")):  # right after the edit, which is not the end
        outcome = judged(wrong, answer("e", "check", is_right))
        assert (outcome.status, outcome.asked["right"]) == (NOT_ASKED, is_right)
        assert outcome.why.startswith(f"Right after its turn its question was answered {how}.")
    # What counts is the answer after all edits, and "before" the unedited model's.
    outcome = judged(wrong, answer("e", "probe", True), answer("e", "probe", False, edits=5))
    assert (outcome.status, outcome.before) == (FAILED, "old")
    rounds = [answer("e", "probe", number == 2, round=number) for number in (1, 2)]  # no edit came between them
    assert judged(wrong, *rounds).status == TOOK


def test_probes_of_one_round_are_not_taken_for_each_other():
    rows = [answer("e", "probe", False, group="t_gen", id="", round=1)] * 2
    rows += [answer("e", "probe", right, group="t_gen", id="", round=2) for right in (True, False, True)]
    assert judged(answer("e", "edit", False), *rows).holds == {"T-Gen": (2, 3)}


@pytest.mark.parametrize("parts", [True, False])
def test_shares_of_answers_that_are_partly_right_have_an_interval(parts):
    """Where ten people answered, a third of an answer may count; predictions of earlier versions do not say so."""
    scores = [(1.0, 1 / 3, 0.0)[i % 3 if parts else i % 2 * 2] for i in range(24)]
    rows = [answer(f"e{i}", "probe", score == 1, accuracy=score) for i, score in enumerate(scores)]
    if not parts:
        rows = [{name: value for name, value in row.items() if name != "accuracy"} for row in rows]
    share = sum(scores) / 24
    shares = _shares(RunData(Path("r"), {}, {}, {}, rows), {"rel": share, "rel_samples": 24})
    (shown,) = (row for row in shares if row["label"] == "Rel")
    assert shown["interval"].mean == pytest.approx(share)
    assert shown["interval"].low < share < shown["interval"].high


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "the nearest key is 2.00 away, and only what is within 1.50 counts"),
        ({"nearest": 1.0, "left_out": ["f"]}, "all were left out again"),
        ({"facts": ["f"], "fact_edits": ["other"], "distances": [0.1]}, "none of them is this edit's"),
        ({"facts": ["f"], "fact_edits": ["e"], "distances": [0.1]}, "the model did not follow it"),
    ],
)
def test_an_edit_that_did_not_take_says_why(changes, why):
    outcome = judged(answer("e", "edit", False), answer("e", "probe", False, **changes))
    assert why in outcome.why
    assert outcome.advice


def test_a_question_without_a_picture_is_said_to_be_one(run):
    table = pq.read_table(run / "predictions.parquet")
    lost = {**table.to_pylist()[-1], "id": "text", "phase": "probe", "group": "text_loc", "right": False, "round": 1}
    pq.write_table(pa.Table.from_pylist([*table.to_pylist(), lost], table.schema), run / "predictions.parquet")
    html = write_run_page(run, run / "report.html").read_text()
    (card,) = re.findall(r'<article class="card">\s*<span class="tag">text Loc</span>.*?</article>', html, re.DOTALL)
    assert "Asked without a picture." in card
    assert "No copy of its picture" not in card


def test_nothing_is_said_of_evidence_that_nobody_sought():
    """As of an edit that was not needed, or of an editor that has no codebook."""
    run, known = RunData(Path("r"), {}, {}, {}, []), {"boxes": [[]], "given": [False], "crops": [0], "picture": ""}
    for guessed, note in (([], ""), ([False], "no part of the picture was found for it")):
        (sentence,) = pictured(run, {"reasoning": ["It is red."], "guessed": guessed, **known})["sentences"]
        assert sentence["note"] == note


def test_what_two_edits_say_alike_is_a_fact_of_each(run):
    """Predictions name the edit whose key was nearest."""
    table, edit = pq.read_table(run / "predictions.parquet"), RunData.read(run).edits["toy-1"]
    rows = table.to_pylist()
    for fact in ("Number 1 is round.", f"The answer to '{edit['question']}' is {edit['answer']}."):
        for row in rows:
            if row["edit"] == "toy-1" and row["group"] == "rel":
                row |= {"facts": [fact], "fact_edits": ["toy-2"], "distances": [0.1]}
        pq.write_table(pa.Table.from_pylist(rows, table.schema), run / "predictions.parquet")
        outcome = next(outcome for outcome in judge_edits(RunData.read(run)) if outcome.id == "toy-1")
        assert "the model did not follow it" in outcome.why
        assert _facts(outcome.asked) == [{"text": fact, "distance": 0.1, "own": True}]


def test_of_an_editor_without_facts_no_fact_is_blamed():
    nothing = {"nearest": None, "threshold": None}
    rows = [answer("e", "edit", False, **nothing), answer("e", "probe", False, **nothing)]
    rows += [answer("e", "probe", False, id=group, group=group, **nothing) for group in ("t_gen", "loc", "hard_loc")]
    assert "fact" not in judged(*rows).why
    found = _questions(RunData(Path("r"), {}, {}, {}, rows))
    assert [(one["cause"], one["count"]) for one in found] == [("right before, wrong now", 2), ("not put right", 1)]


def test_what_was_harmed_is_counted_beside_all_that_was_asked(run):
    """A few rows that the model gets right are asked for many edits: these are more answers than questions."""
    table = pq.read_table(run / "predictions.parquet")
    rest = [row for row in table.to_pylist() if row["group"] not in LOCALITIES]
    asked = {**rest[-1], "phase": "probe", "round": 1, "question": "Who is it?"}
    right = ((0, "loc", False), (1, "loc", False), (1, "word_loc", True), (2, "hard_loc", None))
    local = [{**asked, "id": f"{i}-{g}", "edit": f"toy-{i}", "group": g, "right": is_right} for i, g, is_right in right]
    pq.write_table(pa.Table.from_pylist([*rest, *local], table.schema), run / "predictions.parquet")
    html = write_run_page(run, run / "report.html").read_text()
    assert 'Of 3 answers about other things that were right before <b class="no">2</b> are wrong now;' in html


def test_a_question_that_is_asked_for_several_edits_is_shown_once():
    about = {"question": "Who?", "target": "Ada", "fact_edits": [], "facts": [], "distances": []}
    rows = [
        answer(edit, "probe", False, id=f"{edit}-{group}-{sample}", group=group, **about)
        for edit in ("a", "b", "c")
        for sample in ("s1", "s2")
        for group in ("loc", "t_gen")
    ]
    found = _questions(RunData(Path("r"), {}, {}, {}, rows))
    assert [(one["count"], one["different"], len(one["shown"])) for one in found] == [(6, 2, 2), (6, 6, 6)]
    assert [row["id"] for row in found[0]["shown"]] == ["a-loc-s1", "a-loc-s2"]


def test_what_locality_was_not_measured_is_said_with_what_to_do():
    measured = {f"{g}_samples": 30 for g in ("loc", "hard_loc", "word_loc", "t_gen", "i_gen", "r_gen", "coe_gen")}
    assert find_gaps(measured) == []
    gaps = find_gaps({**measured, "loc_samples": 0, "loc_not_made": 9, "hard_loc_samples": 0, "hard_loc_not_made": 9})
    assert [gap.label for gap in gaps] == ["Loc and hard Loc"]
    assert "already answers rightly" in gaps[0].how
    (wrong,) = find_gaps({**measured, "word_loc_samples": 0, "word_loc_wrong_before": 5})
    assert "All 5 questions" in wrong.why
    (few,) = find_gaps({**measured, "loc_samples": 3, "loc_wrong_before": 2})
    assert "Only 3 questions" in few.why
    (built,) = find_gaps({**measured, "r_gen_samples": 0})
    assert "build-probes" in built.how


# ---- erasing


def test_an_erased_edit_is_in_no_page(run):
    texts = ["toy-1", "What is number 1?", "Number 1 is round.", "It is thing 1.", picture_name(picture(1))]
    assert {"report.html", "shown/edits.jsonl"} <= {*files_with(run, *texts)}
    probe = next(row for row in RunData.read(run).questions.values() if row["edit"] == "toy-1")
    done = erase(run / "codebook", ["toy-1"])
    assert f"'{run / 'report.html'}'" in done.here
    assert not (run / "report.html").exists()
    assert files_with(run / "shown", *texts, probe["id"]) == []
    copies = {path.stem for path in (run / "shown" / "pictures").iterdir()}
    assert picture_name(picture(1)) not in copies
    assert picture_name(picture(2)) in copies
    assert main(["report", str(run)]) == 0
    assert files_with(run, *texts) == []
    assert "What is number 2?" in (run / "report.html").read_text()


def test_a_picture_of_an_erased_edit_goes_from_the_questions_of_others_too(run):
    path, name = run / "shown" / "questions.jsonl", picture_name(picture(1))
    path.write_text(
        path.read_text() + json.dumps({"id": "q", "edit": "toy-2", "question": "?", "picture": name}) + "\n"
    )
    erase(run / "codebook", ["toy-1"])
    assert files_with(run, name) == []
    assert RunData.read(run).questions["q"]["picture"] == ""


# ---- in a browser


@pytest.fixture(scope="module")
def browser():
    find_browser()
    with open_browser() as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1100])
def test_everything_fits_and_nobody_meets_a_barrier(made, browser, width, scheme):
    options = PHONE if width == 390 else {"viewport": {"width": width, "height": 900}}
    with visiting(browser) as come:
        visitor = come("", color_scheme=scheme, **options)
        visitor.page.goto((made / "report.html").as_uri())
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width
        visitor.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width
        assert visitor.find_barriers() == []
