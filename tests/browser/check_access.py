"""The web page with keys, with the small model in place of another one, and for everybody."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, expect

from captiond.keys import new_secret
from tests.browser.pages import (
    A_BOAT,
    BOAT,
    NARROW,
    NO_IMAGE,
    STAR,
    WIDE,
    CaptionPage,
    WebPage,
    profile,
)
from tests.service import Service, running

ABSENT = "Salesforce/blip-image-captioning-base"
MENDS = f"captiond pull {ABSENT}"
# As Chromium does where a person forbids all cookies.
NO_STORAGE = """
for (const name of ["sessionStorage", "localStorage", "indexedDB"]) {
  Object.defineProperty(window, name, {
    get() { throw new DOMException("Access is denied for this document.", "SecurityError"); },
  });
}
"""
FALLBACK = {"CAPTIOND_MODEL__FALLBACK": "captiond/scenes", "CAPTIOND_MODEL__DOWNLOAD": "false"}


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    return {name: new_secret() for name in ("user", "writer")}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, secrets: dict[str, str]) -> Iterator[Service]:
    """A service with two keys, of which one may not read, and with a model that is not there."""
    data = tmp_path_factory.mktemp("keys") / "data"
    named = {"user": {"key": secrets["user"]},
             "writer": {"key": secrets["writer"], "scopes": ["caption"]}}  # fmt: skip
    environ = {"CAPTIOND_KEYS__NAMED": json.dumps(named), **FALLBACK}
    with running(data, "--model", ABSENT, **environ) as service:
        yield service


def enter(page: CaptionPage, key: str) -> None:
    page["#key"].fill(key)
    page["#key"].press("Enter")


def test_a_key_is_asked_for_and_remembered_by_the_tab(
    browser: Browser, page: CaptionPage, closed: Service, secrets: dict[str, str]
) -> None:
    page.open(f"{closed.url}/")
    expect(page["#key-title"]).to_have_text("This service needs a key")
    enter(page, "wrong")
    expect(page["#key-problem"]).to_have_text("The service does not know this key.")
    enter(page, "schlüssel")
    expect(page["#key-problem"]).to_have_text("A key has only letters, digits and simple signs.")
    enter(page, secrets["user"])
    expect(page["#key"]).to_be_hidden()
    page.caption(BOAT, NO_IMAGE)
    assert page.captions()[0] == A_BOAT
    page["#snippets > summary"].click()
    for language in ("curl", "Python", "JavaScript"):
        page["#snippet-tabs"].get_by_role("tab", name=language).click()
        expect(page["#snippet"]).to_contain_text("CAPTIOND_KEY")
    assert secrets["user"] not in page.page.content()
    page.reload().finished()
    assert page.captions()[0] == A_BOAT
    address = page.page.url
    page["#key-forget"].click()
    expect(page["#key"]).to_be_visible()
    context = browser.new_context()
    other = CaptionPage(context).open(address)
    expect(other["#batch-problem"]).to_have_text("The results wait for a key.")
    enter(other, secrets["user"])
    other.finished()
    assert other.captions()[0] == A_BOAT
    context.close()


def test_an_upload_waits_for_a_key(
    page: CaptionPage, closed: Service, secrets: dict[str, str]
) -> None:
    page.open(f"{closed.url}/").choose([BOAT]).send()
    expect(page["#batch-problem"]).to_have_text("The upload waits for a key.")
    enter(page, secrets["user"])
    page.finished()
    assert page.captions() == [A_BOAT]


def test_a_browser_that_keeps_nothing_can_caption(
    page: CaptionPage, context: BrowserContext, closed: Service, secrets: dict[str, str]
) -> None:
    context.add_init_script(NO_STORAGE)
    page.open(f"{closed.url}/")
    enter(page, secrets["user"])
    page.caption(BOAT)
    assert page.captions() == [A_BOAT]
    page["#key-forget"].click()
    expect(page["#key"]).to_be_visible()


def test_a_key_that_may_not_read_is_explained(
    page: CaptionPage, closed: Service, secrets: dict[str, str]
) -> None:
    page.open(f"{closed.url}/")
    enter(page, secrets["writer"])
    page.choose([BOAT]).send()
    expect(page["#batch-problem"]).to_contain_text("It needs the scope “read”")


def test_a_service_without_keys_asks_for_none(page: CaptionPage, service: Service) -> None:
    page.open(f"{service.url}/").wait_for_text("Ready", "#health")
    expect(page["#key-panel"]).to_be_hidden()


# ---------------------------------------------------------------- the small model


def test_the_small_model_in_place_of_another_one_is_unmissable(
    page: CaptionPage, context: BrowserContext, closed: Service, secrets: dict[str, str]
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.open(f"{closed.url}/")
    enter(page, secrets["user"])
    expect(page["#fallback-title"]).to_have_text(
        "captiond/scenes knows drawn scenes, no photographs"
    )
    expect(page["#fallback code"]).to_have_text(MENDS)
    page["#fallback"].get_by_role("button", name="Copy the command").click()
    assert page.value("navigator.clipboard.readText()") == MENDS
    for selector in ("#fallback", "#health"):
        red, green, blue = colour_of(page, selector)
        assert red > green > blue, selector  # amber, not green


def colour_of(page: CaptionPage, selector: str) -> list[int]:
    """Return the background of an element."""
    text = page[selector].evaluate("(element) => getComputedStyle(element).backgroundColor")
    return [int(part) for part in text[text.index("(") + 1 : -1].split(",")][:3]


def test_the_small_model_is_named_when_it_is_the_wanted_one(
    page: CaptionPage, service: Service
) -> None:
    page.open(f"{service.url}/")
    expect(page["#health"]).to_have_attribute("data-state", "fallback")
    expect(page["#fallback code"]).to_have_text(f"captiond serve --model {ABSENT}")


# ---------------------------------------------------------------- accessibility


def check_accessible(page: WebPage, what: str) -> None:
    """axe-core finds nothing, by the rules of WCAG 2.2 A and AA and by its own best practices."""
    page.wait("document.getAnimations().length === 0")
    found = Axe().run(page.page)
    assert found.violations_count == 0, f"{what}: {found.generate_report()}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_nothing_keeps_anybody_out(
    browser: Browser, closed: Service, secrets: dict[str, str], width: int, scheme: str
) -> None:
    # axe-core is a script of the test: the policy of the page would refuse it.
    context = profile(browser, width, dark=scheme == "dark", bypass_csp=True)
    page = CaptionPage(context).open(f"{closed.url}/")
    expect(page["#key"]).to_be_visible()
    enter(page, "wrong")
    expect(page["#key-problem"]).not_to_be_empty()
    check_accessible(page, "a key is asked for")
    enter(page, secrets["user"])
    expect(page["#fallback code"]).to_have_text(MENDS)
    page.choose([BOAT, NO_IMAGE, STAR])
    page["#options > summary"].click()
    check_accessible(page, "images are chosen")
    page.send().finished()
    page["#with-score"].check()
    page["#snippets > summary"].click()
    page["#download > summary"].click()
    check_accessible(page, "results")
    page["#filter-words"].fill("boat")
    for number in (1, 2):
        page.card(number).locator(".thumb").evaluate("(button) => button.click()")
        check_accessible(page, f"details of image {number}")
        page["#details-close"].click()
    assert not page.overflows()
    page["#leave"].click()
    check_accessible(page, "nothing is chosen")
    docs = WebPage(context).open(f"{closed.url}/docs").wait_for_text("/batch-caption")
    docs["#caption > summary"].click()
    check_accessible(docs, "the page of the API")
    context.close()


def test_a_narrow_page_does_not_scroll_sideways(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    """Neither long names nor long reasons, in any state, make it wider than a phone."""
    context = profile(browser, NARROW, dark=False)
    page = CaptionPage(context).open(f"{service.url}/").wait_for_text("Ready", "#health")
    assert not page.overflows()
    long = tmp_path / f"{'long-name' * 20}.png"
    long.write_bytes(BOAT.read_bytes())
    page.choose([long, NO_IMAGE, STAR])
    page["#options > summary"].click()
    page["[name=prompt]"].fill("a photograph of " * 8)
    assert not page.overflows()
    page.send().finished()
    page["#with-score"].check()
    page["#snippets > summary"].click()
    page["#download > summary"].click()
    assert not page.overflows()
    page.card(1).locator(".thumb").evaluate("(button) => button.click()")
    assert page.value("document.getElementById('details').scrollWidth") <= NARROW
    context.close()
