"""Web pages in a real browser: captiond's own, and one of another origin.

`make browser-check` runs these tests. `make test` leaves them out, because they need Chromium on
the machine.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium, Page, chromium
from tests.service import DATA, Service, running

BOAT, STAR, NO_IMAGE = (
    DATA / "boat_and_sun.png",
    DATA / "star_inside_circle.png",
    DATA / "scenes.json",
)
A_BOAT = "a red boat to the left of a yellow sun"
BOAT_LINE = f"boat_and_sun.png: {A_BOAT} (boat, red boat, sun, yellow sun)\n"
STAR_LINE = (
    "star_inside_circle.png: a yellow star inside a blue circle"
    " (blue circle, circle, star, yellow star)\n"
)
NO_IMAGE_LINE = "scenes.json: not an image of a known type\n"
NARROW, WIDE = 360, 1280


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium(tmp_path_factory.mktemp("browser")) as started:
        yield started


@contextmanager
def pages() -> Iterator[str]:
    """A web server with the files of this folder. It is another origin than the service."""
    handler = partial(SimpleHTTPRequestHandler, directory=Path(__file__).parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def click(page: Page, button: str) -> str:
    """Click a button of the old page, and return what the page shows at the end."""
    page.value(f"document.getElementById('{button}').click()")
    page.wait("/^(done|failed)/m.test(document.getElementById('output').textContent)")
    text: str = page.value("document.getElementById('output').textContent")
    return text


def test_the_page_of_the_replaced_service_works(browser: Chromium, data: Path) -> None:
    with pages() as origin, running(data, CAPTIOND_SERVER__CORS_ORIGINS=origin) as service:
        page = browser.open(f"{origin}/old_page.html?service={service.url}")
        page.choose("#files", [BOAT, STAR])
        assert click(page, "one") == f"{BOAT_LINE}done\n"
        page.choose("#files", [BOAT, NO_IMAGE, STAR])
        assert click(page, "batch") == f"{BOAT_LINE}{NO_IMAGE_LINE}{STAR_LINE}done\n"
        task = click(page, "task")
        assert task == (
            "Batch captioning task accepted. 3 files queued. Check status for details.\n"
            "COMPLETED: Processing complete. 2/3 images captioned successfully in background."
            f" Total results: 3.\n{BOAT_LINE}{NO_IMAGE_LINE}{STAR_LINE}done\n"
        )


def test_a_page_that_the_settings_do_not_name_gets_nothing(
    browser: Chromium, service: Service
) -> None:
    with pages() as origin:
        page = browser.open(f"{origin}/old_page.html?service={service.url}")
        page.choose("#files", [BOAT])
        for button in ("one", "batch", "task"):
            assert click(page, button) == "failed: Failed to fetch\n"
    browser.complaints.clear()  # the browser says why it has refused the answers


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_the_web_page_captions_by_keyboard(browser: Chromium, service: Service, width: int) -> None:
    page = browser.open(f"{service.url}/", width=width, dark=width == NARROW)
    page.wait_for_text("healthy", "#health")
    page.choose("#files", [BOAT, NO_IMAGE])
    page.tab_to("Caption now")
    page.press("Enter")
    page.wait_for_text(A_BOAT, "#results").wait_for_text("not an image", "#results")
    page.wait("document.querySelectorAll('#results .no-preview').length === 1")
    page.wait("document.activeElement.innerText === 'Caption now'")
    page.tab_to("Caption as a task")
    page.press("Space")
    page.wait_for_text("Processing complete. 1/2", "#message").wait_for_text(A_BOAT, "#results")
    assert not page.overflows()
    page.tab_to("The page of the HTTP API")
    page.press("Enter")
    page.wait("location.pathname === '/docs'")
    assert browser.complaints == []


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_an_operation_can_be_tried_by_keyboard(
    browser: Chromium, service: Service, width: int
) -> None:
    page = browser.open(f"{service.url}/docs", width=width, dark=width == NARROW)
    page.wait_for_text("/batch-caption", "#operations")
    page.tab_to("Caption one image.")
    page.press("Enter")
    page.wait_for_text("Try it", ".operation[open]")
    assert f"curl -F image=@boat_and_sun.png {service.url}/caption" in page.text(".operation[open]")
    page.choose(".operation[open] input[type=file]", [BOAT])
    page.tab_to("Send")
    page.press("Enter")
    page.wait_for_text(f'"caption": "{A_BOAT}"', ".operation[open] .answer")
    page.wait("document.activeElement.innerText === 'Send'")
    assert not page.overflows()
    assert browser.complaints == []
