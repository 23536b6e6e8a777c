"""The status page as a person sees it: in Debian's Chromium, without a network beyond this machine."""

import json
import os
import sys
import time
from functools import reduce
from pathlib import Path

import pytest
from npm_folder import npm_folder

from streamtrain.ops.board import Activity, Board, Challenge

sys.path.append(str(Path(__file__).parent))
from page_case import free_port, front, published

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
AXE = "axe-core@4.10.3"

pytestmark = [pytest.mark.needs_browser, pytest.mark.needs_npm]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    board, port, began = Board(), free_port(), time.time()
    shown = front(published(tmp_path_factory.mktemp("page")), f"127.0.0.1:{port}", board=board)
    board.sit_down("", lambda: Activity("reading", "train", "scratch, epoch 3", began, began, ready=True))
    board.note_epoch("", Challenge("scratch", 3, 25))
    board.note_epoch("", Challenge("fine-tuned", 10, 15))
    yield f"http://127.0.0.1:{port}"
    shown.close()


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS, headless=True)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def axe(unavailable):
    return (npm_folder(unavailable, AXE) / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture
def watched(chromium, address):
    """Open a page; at the end nothing was complained of and nobody else was asked."""
    opened, complaints, asked = [], [], []

    def open_(path, width=1280, scheme="light", **options):
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: asked.append(request.url))
        assert page.goto(address + path).status == 200
        opened.append(context)
        return page

    yield open_
    for context in opened:
        context.close()
    assert complaints == []
    assert all(url.startswith(f"{address}/") for url in asked), asked


def version_page(address, watched):
    return watched("/").locator("tbody a").first.get_attribute("href")


def test_every_figure_is_that_of_status_json(watched, address):
    page = watched("/", java_script_enabled=False)
    for _ in range(20):
        shown = [
            (one.get_attribute("data-key"), json.loads(one.get_attribute("value")))
            for one in page.locator("data").all()
        ]
        state = page.request.get(f"{address}/status.json").json()
        if dict(shown)["time"] == state["time"]:
            break
        page.reload()
    assert len(shown) > 20
    for key, value in shown:
        found = reduce(lambda part, name: part[int(name) if isinstance(part, list) else name], key.split("."), state)
        assert value == found, key
    for key, text in (("ingested.lines", "6,003"), ("window.samples", "6,000"), ("doing.epochs.most", "40")):
        assert page.locator(f'data[data-key="{key}"]').inner_text() == text
    accuracy = state["current"]["holdout_accuracy"]
    assert page.locator('data[data-key="current.holdout_accuracy"]').inner_text() == f"{accuracy:.3f}"
    assert page.locator("svg circle").count() == len([one for one in state["history"] if one["accuracy"] is not None])


@pytest.mark.parametrize("path", ["/", "/receipts", "/quarantine", "version"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_has_to_be_scrolled_sideways(watched, address, path, width):
    page = watched(version_page(address, watched) if path == "version" else path, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_markup_stays_text(watched):
    for path in ("/receipts", "/quarantine"):
        page = watched(path)
        assert page.locator("main img, main script").count() == 0
        assert "<img src=x onerror=alert(1)>" in page.locator("main").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/receipts", "/quarantine", "version"])
def test_axe_finds_no_violation(watched, address, axe, path, scheme):
    # The page's own policy keeps scripts out: the test's is let in beside it.
    page = watched(version_page(address, watched) if path == "version" else path, scheme=scheme, bypass_csp=True)
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


def test_light_and_dark_are_two_looks(watched):
    looks = {
        watched("/", scheme=one).evaluate("getComputedStyle(document.body).backgroundColor")
        for one in ("light", "dark")
    }
    assert len(looks) == 2


@pytest.mark.skipif("STREAMTRAIN_SCREENSHOTS" not in os.environ, reason="only to renew the pictures in docs/")
def test_pictures_for_the_manual(watched):
    folder = Path(os.environ["STREAMTRAIN_SCREENSHOTS"])
    for name, width, scheme in (("light", 1100, "light"), ("dark", 1100, "dark"), ("phone", 360, "light")):
        watched("/", width, scheme).screenshot(path=folder / f"status-{name}.png")
