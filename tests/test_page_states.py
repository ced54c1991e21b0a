"""The page when something is wrong, odd or forbidden; and whether everybody can use it."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
from urllib.parse import quote

import pytest
from helpers.browsing import PHONE, expect, open_browser, serving, visiting
from helpers.tiny import design, picture
from helpers.waiting import wait_until
from PIL import Image

from reasonedit import Edit, ReasonEditor
from reasonedit.serve.app import create_app
from reasonedit.serve.page_files import page_samples
from reasonedit.serve.settings import Settings
from reasonedit.traces import KeptQuestions

SCRIPT = '<img src=x onerror="alert(1)"><script>alert(2)</script>\'"&amp;'


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture
def visit(browser):
    with visiting(browser) as come:
        yield come


@pytest.fixture
def editor(tiny_vlm, hash_encoder, tmp_path):
    editor = ReasonEditor(tiny_vlm, design(k=3, percentile=20))
    editor.save(tmp_path / "codebook")
    return editor


@pytest.fixture
def app(editor, tmp_path):
    """Makes servers of the editor."""

    def make(**settings):
        kept = KeptQuestions(tmp_path / "questions", 50)
        return create_app([editor], Settings(**{"model": "tiny", **settings}), kept)

    return make


@pytest.fixture
def url(app):
    with serving(app()) as url:
        yield url


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    picture(0, 96).save(path)
    return path


def correct(visitor, author="Ada"):
    visitor.page.get_by_label("Your name").fill(author)
    visitor.correct("a thing", "It is round.", "It flies.")
    visitor.check()
    visitor.save()


def ask_and_correct(visitor, photo):
    """A correction that is written, and neither checked nor saved."""
    visitor.upload(photo, "What is it?")
    visitor.ask()
    visitor.correct("a thing", "It is round.")


def test_what_rests_on_an_edit_is_named_before_it_is_undone(editor, url, visit):
    editor.edit(picture(0), "Who owns it?", answer="the sailor", reasoning="It is a kettle. A kettle is of the sailor.")
    chain = "An anchor is of the sailor. The sailor lives in the valley."
    editor.edit(picture(1), "Where is its home?", answer="the valley", reasoning=chain)
    page = visit(url).go("edits").page
    row = page.locator(".edit", has_text="Where is its home?")
    row.get_by_role("button", name="Undo", exact=True).click()
    row.get_by_text("Another edit rests on this one, which alone says: The sailor lives in the valley.").wait_for()
    assert len(editor.edits) == 2  # nothing happened yet
    row.get_by_role("button", name="Undo all the same").click()
    row.get_by_role("button", name="Restore").wait_for()
    assert len(editor.edits) == 1
    page.locator(".edit", has_text="Who owns it?").get_by_role("button", name="Undo", exact=True).click()
    page.locator(".edit", has_text="Who owns it?").get_by_role("button", name="Restore").wait_for()
    assert not editor.edits


@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
def test_nobody_is_shut_out(options, url, visit, photo):
    """axe-core finds nothing in any state of the page."""
    visitor = visit(url, bypass_csp=True, **options).go()  # for axe-core's own script alone
    found = {"start": visitor.find_barriers()}
    visitor.button("Ask").click()
    found["nothing chosen"] = visitor.find_barriers()
    visitor.upload(photo, "What is it?")
    visitor.ask()
    found["answer"] = visitor.find_barriers()
    visitor.button("Correct this answer").click()
    visitor.button("Check what it would change").click()
    found["nothing written"] = visitor.find_barriers()
    visitor.write("a thing", "It is round.", "It flies.")
    visitor.draw(1, 0.1, 0.1, 0.5, 0.5)
    found["correction"] = visitor.find_barriers()
    visitor.check()
    found["preview"] = visitor.find_barriers()
    visitor.save()
    visitor.page.locator(".facts summary").click()
    found["facts"] = visitor.find_barriers()
    visitor.go("edits").page.locator(".edit").wait_for()
    found["edits"] = visitor.find_barriers()
    visitor.button("Undo").click()
    visitor.button("Restore").wait_for()
    found["undone"] = visitor.find_barriers()
    visitor.page.locator(".edit .question").click()
    visitor.page.locator(".history").wait_for()
    found["edit"] = visitor.find_barriers()
    visitor.go("review").page.locator(".numbers").wait_for()
    visitor.page.locator(".stage img").wait_for()
    found["review"] = visitor.find_barriers()
    assert {state: barriers for state, barriers in found.items() if barriers} == {}
    assert visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_what_somebody_wrote_is_never_markup(url, visit, photo, editor, tmp_path):
    odd = tmp_path / '<b onclick="alert(3)">&.png'
    odd.write_bytes(photo.read_bytes())
    visitor = visit(url).go()
    visitor.upload(odd, SCRIPT)
    visitor.ask()
    visitor.page.get_by_label("Your name").fill(SCRIPT)
    visitor.correct(SCRIPT, SCRIPT, "It flies.")
    visitor.check()
    visitor.save()
    (edit,) = editor.edits.values()
    assert (edit.question, edit.answer, edit.author, edit.reasoning[0]) == (SCRIPT,) * 4
    visitor.page.locator(".facts summary").click()
    expect(visitor.page.locator(".facts")).to_contain_text(SCRIPT)
    visitor.go("edits").page.get_by_text(SCRIPT, exact=True).first.wait_for()
    visitor.page.locator(".edit .question").click()
    visitor.page.locator(".history").wait_for()
    visitor.go("review").page.locator("h2", has_text=SCRIPT).wait_for()
    visitor.go(f"edits/{quote(SCRIPT, safe='')}").page.get_by_role("alert").wait_for()
    expect(visitor.page.locator("img[onerror], main script, b[onclick]")).to_have_count(0)  # and no dialog: see Visitor


def test_the_page_calls_nobody_but_its_server(url, visit, photo):
    visitor = visit(url).go()
    visitor.upload(photo, "What is it?")
    visitor.ask()
    correct(visitor)
    for place in ("edits", "review"):
        visitor.go(place).page.locator("h1").wait_for()
    assert {called.partition(":")[0] for called in visitor.called if not called.startswith(url)} <= {"data", "blob"}
    answer = visitor.page.request.get(f"{url}/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


def jpeg(mode, **options):
    file = io.BytesIO()
    Image.new(mode, (60, 40), 90 if mode == "L" else None).save(file, "JPEG", **options)
    return file.getvalue()


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter: upright it is 40 wide and 60 high
    return jpeg("RGB", exif=exif)


def animated():
    file = io.BytesIO()
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "ratio"),
    [("turned.jpg", rotated(), 40 / 60), ("print.jpg", jpeg("CMYK"), 60 / 40), ("moving.gif", animated(), 40 / 30)],
    ids=["rotated", "CMYK", "animated"],
)
def test_odd_pictures_are_shown_as_the_library_reads_them(name, data, ratio, url, visit, tmp_path, editor):
    (tmp_path / name).write_bytes(data)
    visitor = visit(url).go()
    visitor.upload(tmp_path / name, "What is it?")
    visitor.ask()
    frame = visitor.page.locator(".stage .frame").bounding_box()
    assert frame["width"] / frame["height"] == pytest.approx(ratio, rel=0.03)
    visitor.correct("a thing", "It is round.")
    visitor.draw(1, 0.1, 0.5, 0.6, 0.9)
    visitor.check()
    visitor.save()
    (edit,) = editor.edits.values()
    image = editor.memory.picture(edit.image)
    assert image.width / image.height == pytest.approx(ratio, rel=0.03)
    assert edit.given[0][0] == pytest.approx((0.1, 0.5, 0.6, 0.9), abs=0.02)


def test_pictures_that_cannot_be_read_are_named_beside_the_picture(app, visit, photo, tmp_path):
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:-200])
    (tmp_path / "no.png").write_bytes(b"no picture")
    (tmp_path / "large.png").write_bytes(bytes(2**20))
    with serving(app(body_mb=1)) as url:
        visitor = visit(url).go()
        for name in ("cut.png", "no.png"):
            visitor.upload(tmp_path / name, "What is it?")
            visitor.button("Ask").click()
            visitor.page.locator(".picture .error", has_text="picture").wait_for()
        visitor.page.locator("#picture-file").set_input_files(tmp_path / "large.png")
        visitor.page.locator(".picture .error", has_text="large.png has 1.0 MB").wait_for()
        visitor.upload(photo, "What is it?")  # and the page lives on
        visitor.ask()


def hand_over(visitor, way, photo):
    """Paste a picture, or drop it."""
    script = """async ([type, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], `${type}.png`, {type: "image/png"}));
      const target = type === "paste" ? document.body : document.querySelector(".picture");
      const event = type === "paste" ? new ClipboardEvent(type, {clipboardData: data, bubbles: true, cancelable: true})
        : new DragEvent(type, {dataTransfer: data, bubbles: true, cancelable: true});
      target.dispatchEvent(event);
    }"""
    visitor.page.evaluate(script, [way, list(photo.read_bytes())])


def test_pictures_are_pasted_and_dropped(url, visit, photo):
    visitor = visit(url).go()
    for way in ("paste", "drop"):
        hand_over(visitor, way, photo)
        visitor.page.locator(".picture .name", has_text=f"{way}.png").wait_for()
    visitor.page.get_by_label("Question", exact=True).fill("What is it?")
    visitor.ask()


def test_choices_are_asked_and_corrected(url, visit, photo, editor):
    visitor = visit(url).go()
    visitor.upload(photo, "What is it?")
    visitor.page.get_by_text("Multiple choice").click()
    visitor.page.get_by_label("Choices, one per line").fill("a bird\n\n a plane ")
    assert visitor.ask() in ("a bird", "a plane")
    visitor.correct("a plane", "It flies.")
    visitor.check()
    visitor.save()
    (edit,) = editor.edits.values()
    assert edit.choices == ["a bird", "a plane"]


def test_an_error_stands_beside_its_field(url, visit, photo):
    visitor = visit(url).go()
    visitor.button("Ask").click()
    visitor.page.locator(".picture .error", has_text="Choose a picture first.").wait_for()
    visitor.upload(photo, " ")
    visitor.button("Ask").click()
    question = visitor.page.get_by_label("Question", exact=True)
    expect(question).to_have_attribute("aria-invalid", "true")
    expect(visitor.page.locator(".field .error:visible")).to_contain_text("Write a question first.")
    question.fill("What is it?")
    expect(visitor.page.locator(".error:visible")).to_have_count(0)
    visitor.ask()
    visitor.correct("", "")
    visitor.button("Check what it would change").click()
    expect(visitor.page.locator(".correction .error:visible")).to_have_count(2)


def test_a_correction_that_was_begun_is_not_lost_by_a_click(url, visit, photo):
    visitor = visit(url).go()
    ask_and_correct(visitor, photo)
    edits = visitor.page.get_by_role("link", name="Edits", exact=True)
    with visitor.page.expect_event("dialog"):  # the page asks after the click, when its address has changed
        edits.click()
    assert len(visitor.told) == 1
    expect(visitor.page.get_by_label("The right answer")).to_have_value("a thing")
    visitor.leaves = True
    edits.click()
    visitor.page.get_by_text("No edit matches.").wait_for()


@pytest.mark.parametrize("way", ["ask", "paste", "drop", "file"])
def test_nothing_takes_the_place_of_a_correction_unasked(way, url, visit, photo):
    visitor = visit(url).go()
    visitor.upload(photo, "What is it?")
    visitor.ask()

    def replace():
        if way == "ask":
            visitor.page.get_by_label("Question", exact=True).press("Enter")
        elif way == "file":
            visitor.page.locator("#picture-file").set_input_files(photo)
        else:
            hand_over(visitor, way, photo)

    visitor.button("Correct this answer").click()
    replace()
    visitor.page.locator(".correction").wait_for(state="detached")  # nothing was begun
    assert visitor.told == []
    visitor.ask()
    visitor.correct("a thing", "It is round.")
    with visitor.page.expect_event("dialog"):
        replace()
    expect(visitor.page.get_by_label("Sentence 1", exact=True)).to_have_value("It is round.")
    visitor.leaves = True
    replace()
    visitor.page.locator(".correction").wait_for(state="detached")
    assert len(visitor.told) == 2
    visitor.ask()


def test_a_correction_of_an_edit_is_begun_by_rewording_and_by_boxes(url, visit, photo, editor):
    boxes = [[(0.2, 0.2, 0.6, 0.6)], None]
    edit = Edit.of(photo, "What is it?", "a thing", ["It is round.", "It flies."], evidence=boxes)
    editor.write(edit)
    visitor = visit(url)
    page = visitor.page
    review = page.get_by_role("link", name="Review", exact=True)
    visitor.go(f"edits/{edit.id}").button("Correct this edit").click()
    review.click()
    page.get_by_role("heading", name="Review", exact=True).wait_for()
    assert visitor.told == []
    for begin in (
        lambda: page.get_by_label("Sentence 2", exact=True).fill("It swims."),
        lambda: visitor.draw(2, 0.1, 0.1, 0.5, 0.5),
        lambda: visitor.button("Remove boxes").first.click(),
    ):
        visitor.go(f"edits/{edit.id}").button("Correct this edit").click()
        begin()
        with page.expect_event("dialog"):
            review.click()
        visitor.button("Cancel").click()
        page.locator(".history").wait_for()


def test_an_edit_that_is_corrected_keeps_what_stays(url, visit, photo, editor):
    box, sentences = (0.2, 0.2, 0.6, 0.6), ["It is round.", "It flies.", "It is red.", "It is old."]
    evidence = [[box], [picture(5)], None, [box]]
    answers = ["a thing", "an object"]
    old = editor.write(Edit.of(photo, "What is it?", "a thing", sentences, evidence=evidence, answers=answers)).edit

    def affirm(route):  # the model is sure of what it found; what a tiny one finds is noise
        edit = route.fetch().json()
        edit["reasoning"][2] |= {"boxes": [[0.1, 0.1, 0.4, 0.4]], "guess": False}
        route.fulfill(json=edit)

    visitor = visit(url)
    visitor.page.route(f"**/v1/edits/{old.id}", affirm)
    visitor.go(f"edits/{old.id}")
    expect(visitor.page.locator(".reasons li").nth(2)).to_contain_text("1 box, found by the model")
    expect(visitor.page.locator(".stage .box.guess")).to_have_count(1)
    visitor.button("Correct this edit").click()
    counts = visitor.page.locator(".sentences .count")
    expect(counts).to_have_text(["1 box", "1 box, found by the model", "1 box"])
    visitor.page.get_by_label("Sentence 3", exact=True).fill("It is green.")
    expect(counts).to_have_text(["1 box", "1 box"])
    visitor.button("Remove boxes").nth(1).click()
    visitor.check()
    visitor.button("Save the correction").click()
    visitor.page.locator(".reasons", has_text="It is green.").wait_for()
    (edit,) = editor.edits.values()
    assert (edit.given, edit.answers) == ([[box], old.given[1], [], []], answers)
    visitor.button("Correct this edit").click()
    visitor.page.get_by_label("The right answer").fill("a bird")
    visitor.check()
    visitor.button("Save the correction").click()
    visitor.page.locator(".said", has_text="a bird").wait_for()
    (edit,) = editor.edits.values()
    assert (edit.given, edit.answers) == ([[box], old.given[1], [], []], [])


def test_what_was_given_for_another_wording_is_kept_and_said_to_be(url, visit, photo, editor):
    box, sentences = (0.2, 0.2, 0.6, 0.6), ["It is round.", "It flies.", "It is red."]
    old = editor.write(Edit.of(photo, "What is it?", "a thing", sentences, evidence=[[box], [picture(5)], None])).edit
    visitor = visit(url).go(f"edits/{old.id}")
    page = visitor.page
    evidence = page.get_by_role("img", name="A picture given for sentence 2")
    evidence.wait_for()
    wait_until(lambda: page.evaluate("document.querySelector('.reasons img').naturalWidth > 0"))
    visitor.button("Correct this edit").click()
    evidence.wait_for()
    rows, notes = page.locator(".sentences li"), page.locator(".sentences .old")
    expect(notes).to_have_count(0)
    page.get_by_label("Sentence 1", exact=True).fill("It is blue.")
    page.get_by_label("Sentence 2", exact=True).fill("It soars.")
    for row, wording in [(0, "It is round."), (1, "It flies.")]:
        expect(rows.nth(row).locator(".old")).to_have_text(f"given for the old wording: “{wording}”")
    page.get_by_label("Sentence 1", exact=True).fill(sentences[0])
    expect(notes).to_have_count(1)
    page.get_by_label("Sentence 1", exact=True).fill("It is blue.")
    visitor.drag((0.4, 0.4), (0.5, 0.4))  # who moves it has looked at it
    expect(notes).to_have_text(["given for the old wording: “It flies.”"])
    visitor.check()
    expect(rows.nth(2).locator(".old")).to_have_count(0)
    visitor.button("Save the correction").click()
    page.locator(".reasons", has_text="It soars.").wait_for()
    (edit,) = editor.edits.values()
    assert edit.given == [[pytest.approx((0.3, 0.2, 0.7, 0.6), abs=0.02)], old.given[1], []]
    visitor.button("Correct this edit").click()
    visitor.button("Remove pictures").click()
    expect(evidence).to_have_count(0)
    visitor.check()
    visitor.button("Save the correction").click()
    page.locator(f"code:has-text('{edit.id}')").wait_for(state="detached")
    page.locator(".history").wait_for()
    (edit,) = editor.edits.values()
    assert edit.given[1] == []


def test_a_sentence_that_goes_on_is_the_one_that_a_box_was_drawn_for(url, visit, photo):
    visitor = visit(url).go()
    visitor.upload(photo, "What is it?")
    visitor.ask()
    visitor.correct("a thing", "It is")
    visitor.draw(1, 0.1, 0.1, 0.5, 0.5)
    for text, notes in [("It is round.", 0), ("That is round.", 1), ("It is red.", 0)]:
        visitor.page.get_by_label("Sentence 1", exact=True).fill(text)
        expect(visitor.page.locator(".sentences .old")).to_have_count(notes)
    visitor.drag((0.6, 0.6), (0.9, 0.9))
    assert len(visitor.boxes()) == 2


def test_no_heat_map_of_another_wording_is_shown(url, visit, photo):
    def see(route):  # what a tiny VLM sees is noise
        found = route.fetch().json()
        found["reasoning"][0]["heat"] = [{"box": [0.1, 0.1, 0.5, 0.5], "p_yes": 0.9}]
        route.fulfill(json=found)

    visitor = visit(url).go()
    visitor.page.route("**/v1/edits/check", see)
    ask_and_correct(visitor, photo)
    visitor.check()
    visitor.page.locator(".stage canvas.heat").wait_for()
    visitor.page.get_by_label("Sentence 1", exact=True).fill("It is flat.")
    expect(visitor.page.locator(".stage canvas.heat")).to_have_count(0)
    assert visitor.boxes() == []


def test_nobody_corrects_a_server_that_is_read_only(app, visit, photo, editor):
    edit = editor.edit(photo, "What is it?", answer="a thing", reasoning="It is round.")
    with serving(app(read_only=True)) as url:
        visitor = visit(url).go()
        visitor.page.locator(".banner", has_text="read-only").wait_for()
        visitor.upload(photo, "What is it?")
        visitor.ask()
        expect(visitor.button("Correct this answer")).to_have_count(0)
        visitor.go("edits").page.locator(".edit").wait_for()
        expect(visitor.button("Undo")).to_have_count(0)
        visitor.go(f"edits/{edit.id}").page.locator(".history").wait_for()
        for name in ("Undo", "Correct this edit"):
            expect(visitor.button(name)).to_have_count(0)


def test_the_key_of_the_server_is_asked_for(app, visit, photo, editor):
    editor.edit(photo, "What is it?", answer="a thing", reasoning="It is round.")
    with serving(app(api_key="sesame")) as url:
        visitor = visit(url)
        visitor.page.goto(url)
        for key in ("wrong", "sesame"):
            visitor.page.get_by_label("API key").fill(key)
            visitor.button("Continue").click()
            if key == "wrong":
                visitor.page.locator(".error", has_text="key").wait_for()
        visitor.upload(photo, "What is it?")
        visitor.ask()
        visitor.go("edits").page.locator(".edit img").wait_for()
        visitor.page.wait_for_function("document.querySelector('.edit img').naturalWidth > 0")  # fetched with the key


def test_a_proxy_may_say_who_is_there(url, visit, photo, editor):
    visitor = visit(url, extra_http_headers={"X-ReasonEdit-Author": quote("Zoë")})
    visitor.page.add_init_script("localStorage.setItem('reasonedit-name', 'Ada')")  # who wrote a name here before
    visitor.go()
    visitor.page.get_by_text("Signed in as Zoë").wait_for()
    expect(visitor.page.get_by_label("Your name")).to_have_count(0)
    ask_and_correct(visitor, photo)
    visitor.check()
    visitor.save()
    assert [edit.author for edit in editor.edits.values()] == ["Zoë"]


def test_the_model_own_reasoning_is_kept_mended_and_struck(url, visit, photo, editor):
    """The server's answer is a fixed one: what a tiny VLM says of itself is noise."""
    visitor = visit(url).go()
    said = {
        "answer": "x",
        "sentences": [{"text": f"Fact {i}.", "confidence": c} for i, c in ((1, 0.9), (2, 0.2), (3, None))],
    }
    visitor.page.route("**/v1/reasoning", lambda route: route.fulfill(json=said))
    visitor.upload(photo, "What is it?")
    visitor.ask()
    visitor.button("Correct this answer").click()
    visitor.draw(1, 0.1, 0.1, 0.5, 0.5)
    visitor.page.get_by_role("button", name="own reasoning").click()
    visitor.page.locator(".sure", has_text="90 % sure").wait_for()
    expect(visitor.page.locator(".sure.low")).to_have_text("20 % sure")
    assert len(visitor.boxes()) == 1  # what was drawn for a sentence to come stays
    for number in (1, 2):
        visitor.button(f"Remove sentence {number}").click()
    visitor.page.get_by_label("Sentence 2", exact=True).fill("Mended.")
    visitor.page.get_by_label("The right answer").fill("a thing")
    visitor.check()
    visitor.save()
    (edit,) = editor.edits.values()
    assert list(edit.reasoning) == ["Fact 1.", "Mended."]


def test_a_question_asked_again_while_it_is_answered_is_not_lost(url, visit, photo):
    visitor = visit(url).go()
    question = visitor.page.get_by_label("Question", exact=True)
    asked = []

    def again(route):
        asked.append(route.request)
        question.press("Enter")
        route.continue_()

    visitor.page.route("**/v1/chat/completions", again)
    visitor.upload(photo, "What is it?")
    question.press("Enter")
    visitor.page.locator(".answer").wait_for()
    assert len(asked) == 1


def keep_questions(folder, count):
    """Questions that were asked: number 0 first."""
    kept = KeptQuestions(folder, 50)
    for number in range(count):
        row = {"id": f"q{number}", "question": f"What is number {number}?", "answer": "a thing", "facts": 0}
        kept.add({**row, "time": "2026-05-01T12:00:00+00:00", "mark": None}, picture(number))
    return kept


@pytest.mark.parametrize("read_only", [False, True])
def test_review_goes_on_to_all_questions(app, visit, tmp_path, read_only):
    keep_questions(tmp_path / "questions", 42)
    with serving(app(read_only=read_only)) as url:
        page = visit(url).go("review").page
        for number in reversed(range(42)):
            page.get_by_role("heading", name=f"What is number {number}?").wait_for()
            page.keyboard.press("n")
        page.get_by_text("That was the last one.").wait_for()
        page.get_by_role("button", name="Look again").click()
        page.get_by_role("heading", name="What is number 41?").wait_for()


def test_a_correction_whose_question_cannot_be_marked_is_saved_once(url, visit, editor, tmp_path):
    kept = keep_questions(tmp_path / "questions", 2)
    visitor = visit(url).go("review")
    page = visitor.page
    page.get_by_role("heading", name="What is number 1?").wait_for()
    page.keyboard.press("c")
    visitor.write("a thing", "It is round.")
    visitor.check()
    page.route("**/v1/questions/*/mark", lambda route: route.abort())
    visitor.button("Save the correction").click()
    page.get_by_text("The correction is saved, but the question is not marked.").wait_for()
    page.locator(".status.failed", has_text="The server does not answer.").wait_for()
    expect(visitor.button("Save the correction")).to_have_count(0)
    page.locator(".numbers div", has_text="edits active").get_by_text("1", exact=True).wait_for()
    page.unroute("**/v1/questions/*/mark")
    visitor.button("Mark it as corrected").click()
    page.get_by_role("heading", name="What is number 0?").wait_for()
    (edit,) = editor.edits.values()
    assert kept.find("q1")["corrected_by"] == edit.id


def test_questions_that_went_meanwhile_are_looked_for_again(url, visit, tmp_path):
    kept = keep_questions(tmp_path / "questions", 21)
    page = visit(url).go("review").page
    for number in range(20, 0, -1):
        page.get_by_role("heading", name=f"What is number {number}?").wait_for()
        if number == 1:
            kept._rewrite([kept.find("q20")])
        page.keyboard.press("n")
    page.locator(".status.failed", has_text="is not kept").wait_for()
    page.get_by_role("button", name="Look again").click()
    page.get_by_role("heading", name="What is number 20?").wait_for()


def test_days_are_those_of_the_readers_clock(url, visit, editor):
    times = {"eve": "2026-05-01T21:59:59.500000", "night": "2026-05-01T22:30:00", "next": "2026-05-02T22:00:00"}
    for number, (name, time) in enumerate(times.items()):
        editor.write(Edit(picture(number), f"What is {name}?", name, ["It is round."], time=f"{time}+00:00"))
    page = visit(url, timezone_id="Etc/GMT-2").go("edits").page  # two hours before UTC
    page.locator(".edit", has_text="2 May 2026, 00:30").wait_for()

    for since, until, names in [
        ("2026-05-02", "", ["next", "night"]),
        ("2026-05-02", "2026-05-02", ["night"]),
        ("", "2026-05-01", ["eve"]),
    ]:
        page.get_by_label("From").fill(since)
        page.get_by_label("Until").fill(until)
        for name in times:
            said = page.locator(".edit .said", has_text=name)
            said.wait_for(state="attached" if name in names else "detached")
        expect(page.locator(".edit .said")).to_have_text(names)


def test_a_server_that_is_gone_is_named_and_found_again(visit, photo, tmp_path, tiny_folder):
    """Killed between the save and the reload: what was acknowledged is there."""
    script = f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from helpers.tiny import HashEncoder, design
from reasonedit import Edit, ReasonEditor
from reasonedit.embedding import SentenceEncoder
from reasonedit.serve.app import create_app
from reasonedit.serve.run import run_server
from reasonedit.serve.settings import Settings
SentenceEncoder.from_pretrained = classmethod(lambda cls, name="hash", device=None: HashEncoder())
folder, port = {str(tmp_path / "codebook")!r}, int(sys.argv[1])
if port == 0:
    editor = ReasonEditor.from_pretrained({str(tiny_folder)!r}, design(k=3, percentile=20), dtype="float32")
    editor.save(folder)
else:
    editor = ReasonEditor.load(folder, dtype="float32")
def ready(url):
    open(sys.argv[2] + ".part", "w").write(url)
    __import__("os").replace(sys.argv[2] + ".part", sys.argv[2])
run_server(create_app([editor], Settings(model="tiny")), "127.0.0.1", port, ready)
"""

    def begin(name, port):
        said = tmp_path / name
        process = subprocess.Popen([sys.executable, "-c", script, str(port), str(said)], stdout=subprocess.DEVNULL)
        wait_until(said.exists, process)
        return process, said.read_text()

    process, url = begin("first", 0)
    try:
        visitor = visit(url).go()
        ask_and_correct(visitor, photo)
        visitor.check()
        visitor.save()
        process.send_signal(signal.SIGKILL)
        process.wait()
        visitor.button("Ask").click()
        visitor.page.locator(".status.failed", has_text="The server does not answer.").wait_for()
        process, _ = begin("second", int(url.rpartition(":")[2]))
        visitor.button("Ask").click()
        visitor.page.locator(".answer").wait_for()
        visitor.page.reload()
        visitor.go("edits").page.locator(".edit .said", has_text="a thing").wait_for()
    finally:
        process.kill()
        process.wait()


# ---- what comes late, twice or out of turn


class Held:
    """Requests of a page that are answered when it is said."""

    def __init__(self, page, path):
        self.page, self.routes = page, []
        page.route(path, lambda route: self.routes.append(route))

    def wait_for(self, count):
        while len(self.routes) < count:
            self.page.wait_for_timeout(10)

    def go_on(self):
        for route in self.routes:
            route.continue_()
        self.routes.clear()


def test_a_correction_is_asked_about_once_where_the_address_names_no_part(url, visit, photo):
    visitor = visit(url)
    page = visitor.page
    page.goto(url)
    page.locator("nav a[aria-current]").wait_for()
    ask_and_correct(visitor, photo)
    for part, told in [("Edits", 1), ("Ask", 1)]:
        page.get_by_role("link", name=part, exact=True).click()
        wait_until(lambda: page.evaluate("location.hash === '#/ask'"))
        page.evaluate("() => new Promise((done) => setTimeout(done, 50))")  # what the address brings about
        assert len(visitor.told) == told
    expect(page.get_by_label("The right answer")).to_have_value("a thing")


def test_what_is_asked_is_there_again_however_often_it_is_left(url, visit, photo):
    visitor = visit(url).go()
    visitor.upload(photo, "What is it?")
    visitor.page.get_by_text("Multiple choice").click()
    visitor.page.get_by_label("Choices, one per line").fill("a bird\na plane")
    visitor.ask()
    for _ in range(2):
        for part in ("Edits", "Ask"):
            visitor.page.get_by_role("link", name=part, exact=True).click()
            visitor.page.locator(f"nav a[aria-current]:has-text('{part}')").wait_for()
        expect(visitor.page.get_by_label("Question", exact=True)).to_have_value("What is it?")
        expect(visitor.page.get_by_label("Choices, one per line")).to_have_value("a bird\na plane")


HOLD_SLOW = """() => {
  const read = FileReader.prototype.readAsDataURL;
  const late = [];
  FileReader.prototype.readAsDataURL = function (file) {
    if (file.name === "slow.png") late.push(() => read.call(this, file));
    else read.call(this, file);
  };
  window.goOn = () => late.forEach((one) => one());
}"""
"""Files of this name are read when it is said."""


def test_the_picture_that_was_taken_last_counts(url, visit, photo, tmp_path):
    (tmp_path / "slow.png").write_bytes(photo.read_bytes())
    visitor = visit(url).go()
    page = visitor.page
    page.evaluate(HOLD_SLOW)
    page.locator("#picture-file").set_input_files(tmp_path / "slow.png")
    visitor.upload(photo, "What is it?")
    page.evaluate("goOn(); new Promise((done) => setTimeout(done, 200))")
    expect(page.locator(".picture .name")).to_have_text("photo.png")


def test_a_question_is_asked_about_the_picture_that_was_chosen_last_however_fast(url, visit, photo, tmp_path):
    picture(5, 96).save(tmp_path / "slow.png")
    visitor = visit(url).go()
    page = visitor.page
    visitor.upload(photo, "What is it?")
    page.evaluate(HOLD_SLOW)
    page.locator("#picture-file").set_input_files(tmp_path / "slow.png")
    for _ in range(2):
        page.get_by_label("Question", exact=True).press("Enter")
    with page.expect_request("**/v1/chat/completions") as asked:
        page.evaluate("goOn()")
    page.locator(".answer").wait_for()
    content = json.loads(asked.value.post_data)["messages"][0]["content"]
    data = base64.b64decode(content[1]["image_url"]["url"].partition(",")[2])
    assert data == (tmp_path / "slow.png").read_bytes()
    assert len([called for called in visitor.called if called.endswith("/chat/completions")]) == 1


def test_a_text_is_pasted_as_a_text_where_a_picture_of_it_lies_beside_it(url, visit, photo):
    visitor = visit(url).go()
    ask_and_correct(visitor, photo)
    taken = visitor.page.get_by_label("Sentence 1", exact=True).evaluate("""(area) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(9)], "image.png", {type: "image/png"}));
      data.setData("text/plain", "It flies.");
      return !area.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
    }""")
    assert (taken, visitor.told) == (False, [])


def test_a_question_is_corrected_with_its_own_picture_however_fast_one_goes_on(url, visit, tmp_path):
    keep_questions(tmp_path / "questions", 2)
    page = visit(url).go("review").page
    page.get_by_role("heading", name="What is number 1?").wait_for()
    wait_until(lambda: page.evaluate("document.querySelector('.stage img').naturalWidth > 0"))
    held = Held(page, "**/v1/questions/q1/image")
    page.keyboard.press("c")
    page.keyboard.press("c")
    held.wait_for(1)
    page.keyboard.press("n")
    page.get_by_role("heading", name="What is number 0?").wait_for()
    held.go_on()
    page.evaluate("() => new Promise((done) => setTimeout(done, 200))")
    expect(page.locator(".correction")).to_have_count(0)
    page.keyboard.press("c")
    page.locator(".correction").wait_for()
    expect(page.get_by_role("heading", name="What is number 0?")).to_have_count(1)


def test_a_second_click_begins_no_second_correction(url, visit, photo, editor):
    edit = editor.edit(photo, "What is it?", answer="a thing", reasoning="It is round.")
    visitor = visit(url).go(f"edits/{edit.id}")
    page = visitor.page
    wait_until(lambda: page.evaluate("document.querySelector('.stage img')?.naturalWidth > 0"))
    held = Held(page, "**/image")
    for _ in range(2):
        visitor.button("Correct this edit").click(force=True)
    held.wait_for(1)
    page.wait_for_timeout(100)
    first, *more = held.routes
    first.continue_()
    page.get_by_label("The right answer").fill("a bird")
    for route in more:
        route.continue_()
    page.wait_for_timeout(200)
    expect(page.get_by_label("The right answer")).to_have_value("a bird")


def test_a_key_that_is_held_marks_one_question(url, visit, tmp_path):
    kept = keep_questions(tmp_path / "questions", 3)
    page = visit(url).go("review").page
    page.get_by_role("heading", name="What is number 2?").wait_for()
    page.keyboard.down("r")
    page.get_by_role("heading", name="What is number 1?").wait_for()
    page.keyboard.down("r")  # as a keyboard repeats it
    page.keyboard.up("r")
    page.wait_for_timeout(200)
    assert [row["mark"] for row in kept.rows().values()] == [None, None, "right"]


def test_what_comes_of_a_correction_that_is_gone_is_not_shown(url, visit, photo):
    visitor = visit(url).go()
    page = visitor.page
    visitor.upload(photo, "What is it?")
    visitor.ask()
    found = {"keys": 1, "reasoning": [{"text": "It is round.", "boxes": [[0.1, 0.1, 0.5, 0.5]], "given": False}]}
    held = Held(page, "**/v1/edits/check")
    visitor.correct("a thing", "It is round.")
    for leave in (True, False):
        visitor.button("Check what it would change").click()
        page.locator(".correction .working").wait_for()
        if leave:
            visitor.button("Cancel").click()
        else:
            page.get_by_label("The right answer").fill("a bird")
        held.wait_for(1)
        held.routes.pop().fulfill(json=found)
        if leave:
            page.wait_for_timeout(200)
            assert visitor.boxes() == []
            visitor.ask()
            visitor.correct("a thing", "It is round.")
    page.locator(".preview", has_text="You changed the correction: check it again").wait_for()


def test_nothing_is_changed_or_cancelled_while_it_is_saved(url, visit, photo, editor):
    visitor = visit(url).go()
    page = visitor.page
    ask_and_correct(visitor, photo)
    visitor.check()
    held = Held(page, "**/v1/edits")
    visitor.button("Save the correction").click()
    held.wait_for(1)
    locked = [
        page.get_by_label("The right answer"),
        page.get_by_label("Sentence 1", exact=True),
        visitor.button("Cancel"),
    ]
    assert [one.is_disabled() for one in locked] == [True] * 3
    held.routes.pop().abort()
    page.locator(".correction .failed").wait_for()
    assert [one.is_disabled() for one in locked] == [False] * 3
    page.route("**/v1/chat/completions", lambda route: route.abort())
    visitor.button("Save the correction").click()
    held.wait_for(1)
    held.go_on()
    page.locator(".status.failed", has_text="The server does not answer.").wait_for()
    expect(page.locator(".saved")).to_have_text("Saved. See the edit")
    assert len(editor.edits) == 1


def test_a_correction_whose_answer_is_lost_is_saved_once(url, visit, photo, editor):
    visitor = visit(url).go()
    page = visitor.page
    ask_and_correct(visitor, photo)

    def lose_the_answer(route):
        if route.request.method == "POST":
            route.fetch()
            route.abort()
        else:
            route.fallback()

    page.route("**/v1/edits", lose_the_answer)
    visitor.check()
    visitor.button("Save the correction").click()
    page.locator(".correction .failed", has_text="The server does not answer.").wait_for()
    page.unroute("**/v1/edits")
    page.get_by_label("The right answer").fill("a bird")
    visitor.check()
    visitor.button("Save the correction").click()
    page.locator(".correction .failed", has_text="was saved after all").wait_for()  # and is not what stands here
    page.get_by_label("The right answer").fill("a thing")
    visitor.check()
    visitor.save()
    assert [edit.answer for edit in editor.edits.values()] == ["a thing"]


def test_a_page_of_another_server_in_between_is_said_to_be_one(url, visit, photo):
    visitor = visit(url).go()
    page = visitor.page
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body="<html>Sign in</html>"))
    visitor.upload(photo, "What is it?")
    visitor.button("Ask").click()
    page.locator(".status.failed", has_text="What came is no answer of the server.").wait_for()


def test_one_file_is_imported_at_a_time(url, visit, tmp_path):
    (tmp_path / "edits.zip").write_bytes(b"no zip")
    visitor = visit(url).go("edits")
    file = visitor.page.locator("#import-file")
    held = Held(visitor.page, "**/v1/edits/import")
    file.set_input_files(tmp_path / "edits.zip")
    held.wait_for(1)
    expect(file).to_be_disabled()
    held.go_on()
    visitor.page.locator(".bar .status.failed", has_text="not a zip").wait_for()
    expect(file).to_be_enabled()


def test_an_edit_whose_id_has_a_slash_is_undone_on_the_page(url, visit, editor):
    editor.write(Edit(picture(0), "What is it?", "a thing", ["It is round."], id="coco/12"))
    visitor = visit(url).go("edits")
    visitor.page.locator(".edit .question").click()
    visitor.page.locator(".history").wait_for()
    visitor.button("Undo").click()
    visitor.button("Restore").wait_for()
    assert not editor.edits


def test_whoever_works_by_keyboard_goes_on_where_an_edit_was_undone(url, visit, photo, editor):
    edit = editor.edit(photo, "What is it?", answer="a thing", reasoning="It is round.")
    visitor = visit(url)
    for place in ("edits", f"edits/{edit.id}"):
        visitor.go(place)
        for name, then in (("Undo", "Restore"), ("Restore", "Undo")):
            visitor.button(name).press("Enter")
            visitor.button(then).wait_for()
            wait_until(lambda then=then: visitor.page.evaluate("document.activeElement.textContent") == then)


def test_samples_are_there_for_the_embedded_model_alone():
    samples = page_samples("embedded")
    assert len(samples) == 8
    assert all(sample["question"].endswith("?") and sample["fact"] for sample in samples)
    assert page_samples("another/model") == []
