"""A real Chromium without a network, for the pages and the survey.

Where there is none the tests are skipped, unless SFTGAN_BROWSER=required, as in CI.
"""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, driven by playwright."""
    without = pytest.fail if os.environ.get("SFTGAN_BROWSER") == "required" else pytest.skip
    try:
        from playwright import sync_api as api
    except ImportError:
        without("needs playwright: pip install playwright")
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    if not any(found):
        without("needs a Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=next(filter(None, found)), args=FLAGS)
        yield browser
        browser.close()


def _local(request) -> bool:
    return request.url.startswith(("file:", "data:", "blob:", "about:"))


@pytest.fixture
def page(browser):
    """A page in a context of its own that is offline. At the end nothing must have gone wrong in it.

    An error on the console, an exception, a failed request or a request to a network fails the test.
    """
    context = browser.new_context(
        offline=True, accept_downloads=True, viewport={"width": 1200, "height": 900}
    )
    page = context.new_page()
    wrong = []
    page.on(
        "console",
        lambda message: wrong.append(f"console: {message.text}") if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: wrong.append(f"exception: {error}"))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.on("request", lambda request: None if _local(request) else wrong.append(f"network: {request.url}"))
    yield page
    context.close()
    assert wrong == []
