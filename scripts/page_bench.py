"""What a person waits for at the page: its first paint, and an answer beside that of the API alone, in one run."""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from bench_tools import describe_machine, print_ratio, time_sides
from serve_bench import body_of, serving

from reasonedit import Query, ReasonEditor
from reasonedit.serve.page_files import FOLDER, page_samples

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPENINGS = 10
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def open_anew(browser: Any, url: str) -> tuple[Any, float]:
    """Open the page in a browser that has never been there; the page, and milliseconds until something is painted."""
    page = browser.new_context(viewport={"width": 1280, "height": 860}).new_page()
    page.goto(url)
    page.locator(".sample").first.wait_for()
    page.wait_for_function(FIRST_PAINT)
    return page, page.evaluate(FIRST_PAINT)


def ask_by(page: Any) -> Callable[[], object]:
    """Press the button and wait until the answer is there; the sample and its question are chosen already."""
    page.locator(".sample").first.click()
    page.locator(".stage img").wait_for()
    script = """() => new Promise((done) => {
      const result = document.querySelector(".result");
      new MutationObserver((_, watch) => {
        const said = result.querySelector(".answer .said");
        if (said) { watch.disconnect(); done(said.textContent); }
      }).observe(result, {childList: true, subtree: true});
      document.querySelector("form .button.main").click();
    })"""
    return lambda: page.evaluate(script)


def run(args: argparse.Namespace) -> None:
    """Compare an answer on the page with the API's, in turns."""
    from playwright.sync_api import sync_playwright

    editor = ReasonEditor.from_pretrained(args.model)
    sample = page_samples("embedded")[0]
    body = body_of(Query.of(FOLDER / "samples" / sample["name"], sample["question"]), edits=True)
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise SystemExit(f"There is no browser: install one of {', '.join(BROWSERS)}.")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        editor.save(Path(folder) / "codebook")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with serving(editor) as api, httpx2.Client(timeout=600) as http:
            began = time.perf_counter()
            openings = [open_anew(browser, api.removesuffix("/v1")) for _ in range(OPENINGS)]
            opened = 1e3 * (time.perf_counter() - began) / OPENINGS
            paints = sorted(paint for _, paint in openings)
            sides = {
                "page": ask_by(openings[-1][0]),
                "API": lambda: http.post(f"{api}/chat/completions", json=body).raise_for_status(),
            }
            seconds = time_sides(sides, args.repeats, editor.vlm)
        browser.close()
    print(f"{describe_machine(editor.vlm)}")
    print(
        f"first paint: median {statistics.median(paints):.0f} ms, worst of {OPENINGS} {paints[-1]:.0f} ms (aim <= 1000); "
        f"all there after {opened:.0f} ms"
    )
    print_ratio("an answer on the page / of the API", seconds["page"], seconds["API"], "<= 1.2")
