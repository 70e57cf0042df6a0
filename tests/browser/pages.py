"""The web page as a person uses it, in Debian's Chromium. The variable BROWSER names another one.

The pages forbid scripts that are made from text, and so Playwright's `wait_for_function`. `wait`
evaluates expressions instead.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import (
    Browser,
    BrowserContext,
    Locator,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.patience import PATIENCE
from tests.service import DATA, wait_for

BOAT, STAR, NO_IMAGE = (
    DATA / "boat_and_sun.png",
    DATA / "star_inside_circle.png",
    DATA / "scenes.json",
)
A_BOAT, A_STAR = "a red boat to the left of a yellow sun", "a yellow star inside a blue circle"
NOT_AN_IMAGE = "not an image but JSON"
NARROW, WIDE = 360, 1280
TASK_ID = re.compile(r"task_\d+_[0-9a-f]{32}")
# The browser notes each request that a stopped service does not answer, or a starting one refuses.
LOST = re.compile(r"net::ERR_|a status of 503")
NAS = "nas"  # a host of another machine for the browser: it has no TLS and is not trusted
FOCUSED = "document.activeElement === document.body ? '' : document.activeElement.innerText ?? ''"
# Counts the URLs of blobs that were made and not given back.
COUNT_URLS = """
window.liveUrls = new Set();
const make = URL.createObjectURL, free = URL.revokeObjectURL;
URL.createObjectURL = (blob) => {
  const url = make.call(URL, blob);
  liveUrls.add(url);
  return url;
};
URL.revokeObjectURL = (url) => { liveUrls.delete(url); free.call(URL, url); };
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE * 1000)
        program = shutil.which(os.environ.get("BROWSER", "chromium"))
        assert program is not None, "Chromium is not installed; BROWSER names another browser"
        browser = playwright.chromium.launch(
            executable_path=program,
            args=["--disable-dev-shm-usage", f"--host-resolver-rules=MAP {NAS} 127.0.0.1"],
        )
        yield browser
        browser.close()


def profile(browser: Browser, width: int, *, dark: bool, **more: Any) -> BrowserContext:
    """Return a new profile, whose windows have this width."""
    size: ViewportSize = {"width": width, "height": 740}
    return browser.new_context(viewport=size, color_scheme="dark" if dark else "light", **more)


class WebPage:
    """A tab with a page of captiond. `complaints` has what the browser or the page reports."""

    def __init__(self, context: BrowserContext) -> None:
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))

    def open(self, url: str) -> Self:
        self.page.goto(url)
        return self

    def reload(self) -> Self:
        self.page.reload()
        return self

    def __getitem__(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        return self.page.evaluate(expression)

    def wait(self, expression: str) -> Self:
        """Wait until an expression is true in the page."""
        wait_for(lambda: self.value(expression), expression)
        return self

    def wait_here(self, look: Callable[[], bool], what: str) -> Self:
        """Wait for what the tab reports. Its events come while something is asked of it."""
        wait_for(lambda: self.value("true") and look(), what)
        return self

    def wait_for_text(self, text: str, selector: str = "body") -> Self:
        place = f"document.querySelector({json.dumps(selector)})"
        return self.wait(f"{place}?.innerText.includes({json.dumps(text)})")

    def tab_to(self, text: str) -> None:
        """Press Tab until the element with this text has the focus."""
        for _ in range(100):
            self.page.keyboard.press("Tab")
            if text in self.value(FOCUSED):
                return
        raise AssertionError(f"Tab does not reach {text}")

    def overflows(self) -> bool:
        """Whether one has to scroll sideways."""
        return bool(self.value("document.documentElement.scrollWidth > innerWidth"))

    def troubles(self) -> list[str]:
        """Return the complaints that are not about a service that is gone."""
        return [each for each in self.complaints if LOST.search(each) is None]


class CaptionPage(WebPage):
    """The page that captions images."""

    def __init__(self, context: BrowserContext) -> None:
        context.add_init_script(COUNT_URLS)
        super().__init__(context)

    def choose(self, files: Sequence[Path]) -> Self:
        self["#files"].set_input_files([*files])
        return self

    def send(self) -> Self:
        self["#send"].click()
        return self

    def caption(self, *files: Path) -> Self:
        """Caption files, and wait for all results."""
        return self.choose(files).send().finished()

    def finished(self) -> Self:
        """Wait until all images have a result."""
        return self.wait(
            "!document.getElementById('leave').hidden && document.getElementById('cancel').hidden"
            " && document.getElementById('grid').children.length > 0"
        )

    def card(self, number: int) -> Locator:
        """Return the card of an image; the first one has the number 1."""
        return self[f"#grid > :nth-child({number})"]

    def captions(self) -> list[str]:
        """Return the caption of each image, or why it has none."""
        texts: list[str] = self.value(
            "[...document.getElementById('grid').children].map((card) =>"
            " (card.querySelector('.caption, .reason') ?? card.querySelector('.state'))"
            "?.textContent)"
        )
        return texts

    @property
    def task_ids(self) -> list[str]:
        return TASK_ID.findall(self.page.url)

    def colour(self, number: int) -> list[int]:
        """Return the mean colour of a thumbnail, once it is there."""
        self.card(number).scroll_into_view_if_needed()
        picture = f"document.querySelector('#grid > :nth-child({number}) img')"
        self.wait(f"{picture}?.complete && {picture}.naturalWidth > 0")
        colour: list[int] = self.value(
            f"(() => {{ const canvas = new OffscreenCanvas(1, 1), pen = canvas.getContext('2d');"
            f" pen.imageSmoothingQuality = 'high'; pen.drawImage({picture}, 0, 0, 1, 1);"
            " return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3); })()"
        )
        return colour
