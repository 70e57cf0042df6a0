"""A page of another origin, and the page of the API, in a real browser.

`make browser-check` runs the tests of this folder. `make test` leaves them out, because they need
Chromium on the machine.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.browser.pages import A_BOAT, BOAT, NARROW, NO_IMAGE, STAR, WIDE, WebPage, profile
from tests.service import Service, running

BOAT_LINE = f"boat_and_sun.png: {A_BOAT} (boat, red boat, sun, yellow sun)\n"
STAR_LINE = (
    "star_inside_circle.png: a yellow star inside a blue circle"
    " (blue circle, circle, star, yellow star)\n"
)
NO_IMAGE_LINE = "scenes.json: not an image but JSON\n"


@contextmanager
def pages() -> Iterator[str]:
    """A web server with the files of this folder. It is another origin than the service."""
    handler = partial(SimpleHTTPRequestHandler, directory=Path(__file__).parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def click(page: WebPage, button: str) -> str:
    """Click a button of the old page, and return what the page shows at the end."""
    page[f"#{button}"].click()
    page.wait("/^(done|failed)/m.test(document.getElementById('output').textContent)")
    text: str = page.value("document.getElementById('output').textContent")
    return text


def test_the_page_of_the_replaced_service_works(context: BrowserContext, data: Path) -> None:
    with pages() as origin, running(data, CAPTIOND_SERVER__CORS_ORIGINS=origin) as service:
        page = WebPage(context).open(f"{origin}/old_page.html?service={service.url}")
        page["#files"].set_input_files([BOAT, STAR])
        assert click(page, "one") == f"{BOAT_LINE}done\n"
        page["#files"].set_input_files([BOAT, NO_IMAGE, STAR])
        assert click(page, "batch") == f"{BOAT_LINE}{NO_IMAGE_LINE}{STAR_LINE}done\n"
        task = click(page, "task")
        assert task == (
            "Batch captioning task accepted. 3 files queued. Check status for details.\n"
            "COMPLETED: Processing complete. 2/3 images captioned successfully in background."
            f" Total results: 3.\n{BOAT_LINE}{NO_IMAGE_LINE}{STAR_LINE}done\n"
        )


def test_a_page_that_the_settings_do_not_name_gets_nothing(
    context: BrowserContext, service: Service
) -> None:
    with pages() as origin:
        page = WebPage(context).open(f"{origin}/old_page.html?service={service.url}")
        page["#files"].set_input_files([BOAT])
        for button in ("one", "batch", "task"):
            assert click(page, button) == "failed: Failed to fetch\n"


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_an_operation_can_be_tried_by_keyboard(
    browser: Browser, service: Service, width: int
) -> None:
    context = profile(browser, width, dark=width == NARROW)
    page = WebPage(context).open(f"{service.url}/docs")
    page.wait_for_text("/batch-caption", "#operations")
    page.tab_to("Caption one image.")
    page.page.keyboard.press("Enter")
    page.wait_for_text("Try it", ".operation[open]")
    command = f"curl -F image=@boat_and_sun.png {service.url}/caption"
    page.wait_for_text(command, ".operation[open]")
    page[".operation[open] input[type=file]"].set_input_files([BOAT])
    page.tab_to("Send")
    page.page.keyboard.press("Enter")
    page.wait_for_text(f'"caption": "{A_BOAT}"', ".operation[open] .answer")
    page.wait("document.activeElement.innerText === 'Send'")
    assert not page.overflows()
    assert page.complaints == []
    context.close()
