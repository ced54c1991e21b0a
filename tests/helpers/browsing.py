"""A real browser at the page, and the server behind it in a thread of this process."""

from __future__ import annotations

import contextlib
import importlib.resources
import importlib.util
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 860}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
PATIENCE = 120_000
"""Milliseconds until something on the page is given up: no test hangs, and none depends on an idle machine."""


def find_browser() -> str:
    """The path of a browser, or a skip that says what is missing; a failure where REASONEDIT_NEEDS_BROWSER is set."""
    missing = next((name for name in ("playwright", "axe_playwright_python") if not _is_there(name)), "")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is not None and not missing:
        return path
    why = f"'{missing}' is not installed" if missing else f"there is no browser ({', '.join(BROWSERS)})"
    if os.environ.get("REASONEDIT_NEEDS_BROWSER"):
        pytest.fail(f"The page is to be tested, but {why}.")
    pytest.skip(f"the page needs a browser: {why}")


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def expect(shown: Any) -> Any:
    """Playwright's assertions, which look again until what is expected is shown: the page draws when it is ready."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)
    return expect(shown)


@contextlib.contextmanager
def open_browser() -> Iterator[Any]:
    """A browser without a window."""
    path = find_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application at a free port of this machine; its URL."""
    import uvicorn

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not begin"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(60)


class Visitor:
    """A person at the page.

    Args:
        page: Playwright's page.
        url: Where the server is.
    """

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        self.called: list[str] = []
        page.on("request", lambda request: self.called.append(request.url))
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.told: list[str] = []
        self.leaves = False
        page.on("dialog", self._answer_dialog)

    def _answer_dialog(self, dialog: Any) -> None:
        """Only one thing is asked in a dialog: whether a correction is left."""
        self.told.append(dialog.message)
        if "not saved" not in dialog.message:
            self.errors.append(f"dialog: {dialog.message}")
        if self.leaves:
            dialog.accept()
        else:
            dialog.dismiss()

    def go(self, place: str = "ask") -> Visitor:
        """Open a part of the page."""
        self.page.goto(f"{self.url}/#/{place}")
        self.page.locator("nav a[aria-current]").wait_for()
        return self

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def choose(self, sample: int) -> None:
        """Take one of the samples with its question."""
        self.page.locator(".sample").nth(sample).click()
        self.page.locator(".stage img").wait_for()

    def upload(self, path: Path, question: str) -> None:
        """Choose a file and write a question."""
        self.page.locator("#picture-file").set_input_files(path)
        self.page.locator(".picture .name", has_text=path.name).wait_for()
        self.page.get_by_label("Question", exact=True).fill(question)

    def ask(self) -> str:
        """Ask; the answer."""
        self.button("Ask").click()
        self.page.locator(".answer").wait_for()
        return str(self.page.locator(".answer .said").first.inner_text())

    def correct(self, answer: str, *reasoning: str) -> None:
        """Begin a correction, and write it."""
        self.button("Correct this answer").click()
        self.write(answer, *reasoning)

    def write(self, answer: str, *reasoning: str) -> None:
        """Write a correction, its sentences by keyboard."""
        self.page.get_by_label("The right answer").fill(answer)
        self.page.get_by_label("Sentence 1", exact=True).fill(reasoning[0])
        for number, text in enumerate(reasoning[1:], 2):
            self.page.get_by_label(f"Sentence {number - 1}", exact=True).press("Enter")
            self.page.get_by_label(f"Sentence {number}", exact=True).fill(text)

    def draw(self, sentence: int, left: float, top: float, right: float, bottom: float) -> None:
        """Draw a box for a sentence, in shares of the picture."""
        self.page.locator(".sentences li").nth(sentence - 1).get_by_role("button", name="Mark on the picture").click()
        self.drag((left, top), (right, bottom))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one point of the picture to another."""
        layer = self.page.locator(".boxes")
        layer.scroll_into_view_if_needed()
        frame = layer.bounding_box()
        points = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in (start, end)]
        if self.page.evaluate("navigator.maxTouchPoints > 0"):
            self._drag_finger(*points)
            return
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        self.page.mouse.move(*points[1], steps=4)
        self.page.mouse.up()

    def _drag_finger(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """As a finger drags: a page that scrolls instead gets no more of it."""
        session = self.page.context.new_cdp_session(self.page)
        between = [tuple(a + (b - a) * step / 4 for a, b in zip(start, end, strict=True)) for step in range(1, 5)]
        for kind, point in [("touchStart", start), *(("touchMove", point) for point in between), ("touchEnd", None)]:
            touches = [] if point is None else [{"x": point[0], "y": point[1]}]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
        session.detach()

    def check(self) -> None:
        """Check what the correction would change."""
        self.button("Check what it would change").click()
        self.page.locator(".changes").wait_for()

    def save(self) -> None:
        """Save the correction."""
        self.button("Save the correction").click()
        self.page.locator(".saved").wait_for()
        self.page.locator(".answer").wait_for()

    def boxes(self) -> list[list[float]]:
        """The boxes on the picture, in shares of it."""
        boxes = self.page.locator(".stage .box")
        script = "b => ['left', 'top', 'width', 'height'].map(n => parseFloat(b.style[n]) / 100)"
        found = [boxes.nth(i).evaluate(script) for i in range(boxes.count())]
        return [[x, y, x + width, y + height] for x, y, width, height in found]

    def find_barriers(self) -> list[str]:
        """What axe-core finds: barriers for people with disabilities."""
        script = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        self.page.evaluate(script)
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [f"{one['impact']}: {one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]


@contextlib.contextmanager
def visiting(browser: Any) -> Iterator[Any]:
    """Lets people come to servers, each with a browser of their own; at the end nothing went wrong in any page."""
    contexts, visitors = [], []

    def come(url: str, **options: Any) -> Visitor:
        contexts.append(browser.new_context(**{**DESKTOP, **options}))
        visitors.append(Visitor(contexts[-1].new_page(), url))
        return visitors[-1]

    yield come
    errors = [error for visitor in visitors for error in visitor.errors]
    for context in contexts:
        context.close()
    assert not errors
