"""A browser for all tests of a file, and a new profile for each test."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.browser.pages import WIDE, CaptionPage, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A profile without anything that an earlier test has left."""
    made = browser.new_context(viewport={"width": WIDE, "height": 900})
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> CaptionPage:
    return CaptionPage(context)
