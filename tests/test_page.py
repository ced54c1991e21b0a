"""The page in a real browser, before the real server: one journey with the embedded VLM, the others with a stand-in."""

from __future__ import annotations

import json
import re
import urllib.request
import zipfile
from contextlib import contextmanager
from dataclasses import replace

import pytest
from helpers.believer import Believer
from helpers.browsing import PATIENCE, PHONE, expect, open_browser, serving, visiting
from helpers.tiny import design

from reasonedit import ReasonEditor
from reasonedit.evidence import EvidenceConfig
from reasonedit.serve.app import create_app
from reasonedit.serve.settings import Settings
from reasonedit.traces import KeptQuestions
from reasonedit.vlm import Generation

# Samples of the page: two of each fact. The right answer, the sentences, and where the first picture shows the thing.
CLINIC = (0, "the locked cabinet", "The green object is a bottle.", "The bottle is kept in the locked cabinet.")
COLLECTION = (2, "captain Rodrigo", "The orange object is a trumpet.", "The trumpet was a gift from captain Rodrigo.")
HOUSE = (4, "grandmother", "The blue object is an umbrella.", "The umbrella belongs to grandmother.")
BOTTLE = (0.02, 0.3, 0.36, 0.72)


def same(text):
    """An answer without its articles."""
    return re.sub(r"\b(in|the|because)\b ?", "", text.lower()).strip()


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture
def editor(speaking_folder, hash_encoder):
    """Of a stand-in for the embedded VLM, with its name: the page offers the samples."""
    how = replace(design(k=3, percentile=20, keys="both"), evidence=EvidenceConfig(single_window=0.0))
    return ReasonEditor(Believer.load(speaking_folder, "embedded"), how, Generation(64))


@contextmanager
def served(editor, folder):
    """A server of an editor."""
    editor.save(folder / "codebook")
    kept = KeptQuestions(folder / "questions", 50)
    with serving(create_app([editor], Settings("embedded"), kept)) as url:
        yield url


@pytest.fixture
def url(editor, tmp_path):
    with served(editor, tmp_path) as url:
        yield url


@pytest.fixture
def visit(browser):
    with visiting(browser) as come:
        yield come


def get(url, path):
    with urllib.request.urlopen(url + path) as response:
        return json.load(response)


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({}, CLINIC),
        pytest.param({"color_scheme": "dark"}, COLLECTION, marks=pytest.mark.slow),
        pytest.param(PHONE, HOUSE, marks=pytest.mark.slow),  # a box is drawn by finger in test_page_states, too
    ],
    ids=["desktop", "dark", "phone"],
)
def test_a_correction_counts_for_another_picture_until_it_is_undone(options, fact, embedded_vlm, tmp_path, visit):
    with served(ReasonEditor(embedded_vlm), tmp_path) as url:
        correct_and_undo(visit(url, **options).go(), url, fact)


def correct_and_undo(visitor, url, fact):
    sample, answer, *reasoning = fact
    page = visitor.page
    page.get_by_label("Your name").fill("Ada")
    visitor.choose(sample)
    wrong = visitor.ask()
    assert same(wrong) != same(answer)
    visitor.correct(answer, *reasoning)
    visitor.draw(1, *BOTTLE)
    visitor.check()
    assert get(url, "/v1/edits")["total"] == 0  # a dry run
    rows = page.locator(".changes tbody tr")
    expect(rows.first).to_contain_text(wrong)
    assert same(answer) in same(rows.first.inner_text())
    visitor.save()
    assert same(page.locator(".answer .said").first.inner_text()) == same(answer)
    page.locator(".before .said", has_text=wrong).wait_for()  # beside it
    visitor.choose(sample + 1)
    assert same(visitor.ask()) == same(answer)
    (edit,) = get(url, "/v1/edits")["data"]
    assert edit["author"] == "Ada"
    assert edit["reasoning"][0]["boxes"][0] == pytest.approx(BOTTLE, abs=0.02)
    page.locator(".facts summary").click()
    page.locator(".fact a").first.click()
    page.get_by_role("button", name="Undo").click()
    page.locator(".tag.undone").wait_for()
    expect(page.locator(".history li")).to_have_count(2)
    visitor.go()
    visitor.choose(sample + 1)
    assert same(visitor.ask()) != same(answer)


def test_two_people_work_at_the_same_codebook(url, visit):
    ada, ben = visit(url).go(), visit(url).go()
    ben.choose(CLINIC[0] + 1)
    assert same(ben.ask()) != same(CLINIC[1])
    ada.choose(CLINIC[0])
    ada.ask()
    ada.correct(*CLINIC[1:])
    ada.check()
    ada.save()
    ben.button("Ask").click()
    ben.page.locator(".facts").wait_for()
    assert same(ben.page.locator(".answer .said").first.inner_text()) == same(CLINIC[1])
    ada.go("edits")
    ben.go("edits")
    ben.button("Undo").click()
    ben.button("Restore").wait_for()
    ada.button("Undo").click()  # it is undone already: the page says so
    ada.page.locator(".does .failed").wait_for()
    ada.page.reload()
    ada.button("Restore").click()
    ada.button("Undo").wait_for()


def test_a_correction_is_corrected_in_one_step(url, visit, editor):
    visitor = visit(url).go()
    visitor.choose(0)
    visitor.ask()
    visitor.correct(*CLINIC[1:])
    visitor.check()
    visitor.save()
    (first,) = get(url, "/v1/edits")["data"]
    visitor.go("edits")
    visitor.page.locator(".edit .question").click()
    visitor.button("Correct this edit").click()
    expect(visitor.page.get_by_label("The right answer")).to_have_value(CLINIC[1])
    visitor.page.get_by_label("The right answer").fill("the cellar")
    visitor.page.get_by_label("Sentence 2", exact=True).fill("The bottle is kept in the cellar.")
    visitor.check()
    visitor.button("Save the correction").click()
    visitor.page.locator(".said", has_text="the cellar").wait_for()
    edits = {edit["id"]: edit for edit in get(url, "/v1/edits")["data"]}
    assert {name: edit["state"] for name, edit in edits.items() if name == first["id"]} == {first["id"]: "undone"}
    assert [edit["answer"] for edit in edits.values() if edit["state"] == "active"] == ["the cellar"]
    history = get(url, f"/v1/edits/{first['id']}/history")["data"]
    assert len(history) == 2


def test_a_contradiction_is_shown_before_anything_is_written(url, visit):
    visitor = visit(url).go()
    visitor.choose(2)
    for _ in range(2):
        visitor.ask()
    visitor.choose(0)
    visitor.ask()
    visitor.correct(*CLINIC[1:])
    visitor.check()
    visitor.save()
    visitor.button("Correct this answer").click()
    visitor.write("the cellar", "The green object is a bottle.", "The bottle is kept in the cellar.")
    visitor.check()
    expect(visitor.page.locator(".warning ul")).to_contain_text(CLINIC[1])
    before = visitor.page.locator(".changes tr", has_text="Asked before")  # each once, and not the question itself
    assert [row.splitlines()[1] for row in before.all_inner_texts()] == [
        "Who gave the orange object to the collection?"
    ]
    visitor.page.get_by_label("The right answer").fill("the attic")  # what was checked is another one now
    visitor.button("Save the correction").wait_for(state="hidden")
    expect(visitor.page.locator(".preview")).to_contain_text("check it again")
    assert get(url, "/v1/edits")["total"] == 1


def test_a_check_says_whether_an_edit_holds_and_what_would_help(url, visit):
    visitor = visit(url).go()
    visitor.choose(0)
    visitor.ask()
    visitor.correct(CLINIC[1], CLINIC[2], "The bottle is kept in the garage.")  # not where the answer says
    visitor.check()
    verdict = visitor.page.locator(".preview .verdict")
    assert verdict.locator("strong").inner_text().startswith("It ")
    expect(verdict).to_contain_text("“The bottle is kept in the garage.” By the sentences alone the answer would be")
    visitor.save()
    visitor.go("edits")
    visitor.page.locator(".edit .question").click()
    visitor.button("Check it").click()
    visitor.page.locator(".verdict").wait_for()
    assert visitor.page.locator(".verdict strong").inner_text().startswith("It ")
    assert get(url, "/v1/edits")["total"] == 1


def test_what_the_model_found_can_be_put_right(url, visit):
    visitor = visit(url).go()
    visitor.choose(0)
    visitor.ask()
    visitor.correct(CLINIC[1], CLINIC[3], CLINIC[2])
    visitor.check()
    expect(visitor.page.locator(".stage canvas.heat")).to_have_count(1)
    found = visitor.boxes()
    assert visitor.page.locator(".stage .box.guess").count() == len(found) > 0
    left, top, right, bottom = found[0]
    visitor.page.get_by_label("Sentence 1", exact=True).focus()  # another sentence's box may be at the same place
    middle = ((left + right) / 2 + 0.05, (top + bottom) / 2 + 0.05)
    visitor.drag(middle, (middle[0] - 0.2, middle[1] - 0.1))
    moved = visitor.boxes()[0]
    assert moved == pytest.approx([left - 0.2, top - 0.1, right - 0.2, bottom - 0.1], abs=0.02)
    visitor.check()
    visitor.save()
    sentences = get(url, "/v1/edits")["data"][0]["reasoning"]
    assert [sentence["guess"] for sentence in sentences] == [False, True]
    assert sentences[0]["boxes"][0] == pytest.approx(moved, abs=0.001)


def test_boxes_are_drawn_and_sized_by_keyboard_alone(url, visit):
    visitor = visit(url).go()
    visitor.choose(0)
    visitor.ask()
    visitor.correct(*CLINIC[1:])
    page = visitor.page
    row = page.locator(".sentences li").first
    row.get_by_role("button", name="Mark on the picture").press("Enter")
    row.get_by_role("button", name="Add a box by keyboard").press("Enter")
    assert page.evaluate("document.activeElement.dataset.box") == "0-0"
    for key in ("ArrowLeft", "Control+ArrowUp", "Shift+ArrowRight"):
        page.keyboard.press(key)
    assert visitor.boxes() == [pytest.approx([0.323, 0.283, 0.667, 0.617], abs=0.001)]
    assert "32 % to 67 % across" in page.evaluate("document.activeElement.ariaLabel")
    page.keyboard.press("Delete")
    assert visitor.boxes() == []


def test_questions_are_reviewed_by_keyboard(url, visit):
    visitor = visit(url).go()
    for sample in (0, 2):
        visitor.choose(sample)
        visitor.ask()
    visitor.go("review")
    page = visitor.page
    page.get_by_role("heading", name="Who gave the orange object to the collection?").wait_for()  # the newest first
    page.keyboard.press("r")
    page.get_by_role("heading", name="Where is the green object kept?").wait_for()
    page.keyboard.press("c")
    visitor.write(*CLINIC[1:])
    visitor.check()
    visitor.button("Save the correction").click()
    page.get_by_text("That was the last one.").wait_for()
    (edit,) = get(url, "/v1/edits")["data"]
    marks = {row["question"]: (row["mark"], row["corrected_by"]) for row in get(url, "/v1/questions")["data"]}
    assert set(marks.values()) == {("right", None), ("corrected", edit["id"])}
    expect(page.locator(".numbers dd").first).to_have_text("2")


def test_edits_are_exported_and_imported(url, visit, editor, tmp_path):
    visitor = visit(url).go()
    visitor.choose(0)
    visitor.ask()
    visitor.correct(*CLINIC[1:])
    visitor.check()
    visitor.save()
    visitor.go("edits")
    visitor.page.get_by_role("checkbox").check()
    with visitor.page.expect_download(timeout=PATIENCE) as download:
        visitor.button("Export the chosen ones").click()
    file = tmp_path / "edits.zip"
    download.value.save_as(file)
    assert "edits.jsonl" in zipfile.ZipFile(file).namelist()
    visitor.page.locator("#import-file").set_input_files(file)
    visitor.page.get_by_text("0 imported, 1 left out because they were there already.").wait_for()
    name = get(url, "/v1/edits")["data"][0]["id"]
    editor.undo(name)
    visitor.page.locator("#import-file").set_input_files(file)
    visitor.page.get_by_text("0 imported. 1 left out because they are undone").wait_for()
    (tmp_path / "no.zip").write_bytes(b"no zip")
    visitor.page.locator("#import-file").set_input_files(tmp_path / "no.zip")
    visitor.page.locator(".bar .status.failed").wait_for()


def test_edits_are_searched(url, visit, editor):
    from reasonedit.data.world.scenes import Scene, Thing

    picture = Scene((Thing("key", "yellow", 4),), "plain", 3).render()
    for word, author in (("drawer", "Ada"), ("cellar", "Ben")):
        text = f"The key is kept in the {word}."
        editor.edit(picture, "Where is the yellow object kept?", answer=word, reasoning=text, author=author)
    page = visit(url).go("edits").page
    page.get_by_text("2 of 2").wait_for()
    page.get_by_label("Search", exact=True).fill("CELLAR")
    page.get_by_text("1 of 1").wait_for()
    expect(page.locator(".edit .said")).to_have_text("cellar")
    page.get_by_label("Search", exact=True).fill("")
    page.get_by_label("Author", exact=True).fill("Ada")
    page.locator(".edit .said", has_text="drawer").wait_for()
    page.get_by_label("State").select_option("undone")
    page.get_by_text("No edit matches.").wait_for()
