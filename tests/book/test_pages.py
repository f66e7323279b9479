"""Every page of the book, as a reader's browser shows it without a network."""

import pytest
import yaml

from .conftest import ROOT

HTML = ROOT / "_build" / "html"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [TOC["root"], *[chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]]

pytestmark = pytest.mark.skipif(not (HTML / "index.html").exists(), reason="needs the pages: make book")


@pytest.fixture(params=PAGES)
def opened(request, page):
    page.goto((HTML / f"{request.param}.html").as_uri(), wait_until="load")
    return page


def test_the_page_is_whole(opened):
    """No error, no request to a network (see the fixture), every picture there and described, all maths set."""
    pictures = opened.eval_on_selector_all(
        "main img",
        "nodes => nodes.map(n => ({src: n.src.slice(0, 80), alt: n.alt.trim(), width: n.naturalWidth}))",
    )
    assert [p["src"] for p in pictures if not p["width"]] == [], "missing pictures"
    described = [p for p in pictures if len(p["alt"]) > 4 and not p["alt"].endswith((".png", ".svg"))]
    assert described == pictures, "pictures without an alternative text"
    formulas = opened.locator("main .math")
    if formulas.count():
        opened.wait_for_selector("main .math mjx-container", timeout=30_000)
        opened.wait_for_function(
            "() => [...document.querySelectorAll('main .math')].every(n => n.querySelector('mjx-container'))",
            timeout=30_000,
        )
    assert opened.locator("mjx-merror").count() == 0
    text = opened.locator("main").inner_text()
    assert "Traceback (most recent call last)" not in text and "[object Object]" not in text
    assert opened.locator("main article h1").count() == 1


def test_nothing_hangs_over_on_a_phone(opened):
    """At 360 pixels wide tables and formulas may scroll by themselves, the page may not."""
    opened.set_viewport_size({"width": 360, "height": 740})
    wide = opened.evaluate("document.scrollingElement.scrollWidth")
    assert wide <= 361, f"the page is {wide} pixels wide"
    opened.wait_for_timeout(300)  # formulas are set anew
    cut = opened.eval_on_selector_all(
        "main div.math mjx-math",
        "nodes => nodes.filter(n => n.getBoundingClientRect().left < -1).map(n => n.closest('div.math').id)",
    )
    assert cut == [], "formulas that begin left of the page cannot be scrolled to"


def test_every_link_inside_the_book_leads_somewhere(opened):
    hrefs = opened.eval_on_selector_all("main a[href]", "nodes => nodes.map(n => n.href)")
    for href in {href.partition("#")[0] for href in hrefs if href.startswith("file:")}:
        path = href.removeprefix("file://")
        assert (HTML / path).exists(), href
