"""The report as a person sees it: no complaint, nothing asked of anybody, nothing wider than a telephone."""

import sys
from pathlib import Path

import pytest
from npm_folder import npm_folder

from streamtrain.ops.page.report import report_of

sys.path.append(str(Path(__file__).parent))
from test_page_in_browser import AXE, chromium  # noqa: F401 - a fixture
from test_report import models  # noqa: F401 - a fixture

pytestmark = [pytest.mark.needs_browser, pytest.mark.needs_npm]


@pytest.mark.parametrize("javascript", [True, False])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")])
def test_it_opens_from_the_disk(chromium, models, tmp_path, width, scheme, javascript):  # noqa: F811
    file = tmp_path / "report.html"
    file.write_bytes(report_of(models[1], models[1].names()[-1]))
    complaints, asked = [], []
    context = chromium.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=javascript, offline=True
    )
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert page.locator("h1").inner_text() == models[1].names()[-1]
    assert page.locator("svg.plot").count() == 5
    if javascript:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.emulate_media(media="print")
    assert page.locator("h1").is_visible()
    assert complaints == []
    assert asked == [file.as_uri()]
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(chromium, models, tmp_path, unavailable, scheme):  # noqa: F811
    file = tmp_path / "report.html"
    file.write_bytes(report_of(models[1], "refused"))
    axe = (npm_folder(unavailable, AXE) / "node_modules" / "axe-core" / "axe.min.js").read_text()
    # Axe itself is a script, which the report's own policy would not let in.
    context = chromium.new_context(color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(file.as_uri())
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []
    context.close()
