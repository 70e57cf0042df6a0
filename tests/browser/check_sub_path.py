"""The web pages behind a reverse proxy that serves captiond under a path."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.pages import A_BOAT, BOAT, NO_IMAGE, NOT_AN_IMAGE, CaptionPage
from tests.proxies import proxy
from tests.service import Service, running

PREFIX = "/photos/captions"


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that knows the path under which a proxy serves it."""
    data = tmp_path_factory.mktemp("prefix") / "data"
    with running(data, CAPTIOND_SERVER__ROOT_PATH=PREFIX) as service:
        yield service


def use(page: CaptionPage, address: str) -> None:
    """Caption images and try a call, from this address on."""
    page.open(address).caption(BOAT, NO_IMAGE)
    assert page.captions() == [A_BOAT, NOT_AN_IMAGE]
    page.reload().finished()
    assert page.captions() == [A_BOAT, NOT_AN_IMAGE]
    page["#snippets > summary"].click()
    base = address.rstrip("/")
    expect(page["#snippet"]).to_contain_text(f"{base}/async-batch-caption")
    page["nav a"].click()
    page.page.wait_for_url(f"{base}/docs")
    page.wait_for_text("/batch-caption", "#operations")
    page[".operation[id=version] > summary"].click()
    page[".operation[open] button[type=submit]"].click()
    page.wait_for_text('"service": "captiond"', ".operation[open] .answer")
    page.page.get_by_role("link", name="Caption images").click()
    page.page.wait_for_url(f"{base}/")
    expect(page["#recent-list a"]).to_have_count(1)
    assert page.complaints == []


def test_a_proxy_of_which_the_service_knows_nothing(page: CaptionPage, service: Service) -> None:
    with proxy(service.url, PREFIX) as address:
        use(page, f"{address}/")


@pytest.mark.parametrize("removes", [True, False], ids=["removes", "passes-on"])
@pytest.mark.parametrize("slash", ["/", ""], ids=["slash", "no-slash"])
def test_a_proxy_that_the_settings_name(
    page: CaptionPage, prefixed: Service, removes: bool, slash: str
) -> None:
    with proxy(prefixed.url, PREFIX, removes=removes) as address:
        use(page, address + slash)


def test_the_service_itself_can_be_used_beside_the_proxy(
    page: CaptionPage, prefixed: Service
) -> None:
    page.open(f"{prefixed.url}/").caption(BOAT)
    assert page.captions() == [A_BOAT]
