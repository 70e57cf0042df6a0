"""A service behind a real reverse proxy that serves it under a path."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.proxies import proxy
from tests.service import Service, http_client, running_without_model, upload

PREFIX = "/photos/captions"
LINKS = re.compile(r'(?:href|src)="([^"#]+)"')
BOAT = "boat_and_sun.png"


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that knows the path under which a proxy serves it."""
    data = tmp_path_factory.mktemp("prefix") / "data"
    with running_without_model(data, CAPTIOND_SERVER__ROOT_PATH=PREFIX) as service:
        yield service
        assert service.stop() == 0


@contextmanager
def behind(service: Service, *, removes: bool) -> Iterator[httpx.Client]:
    with proxy(service.url, PREFIX, removes=removes) as address, http_client() as client:
        client.base_url = httpx.URL(address.removesuffix(PREFIX))
        yield client


def check_page(client: httpx.Client, path: str) -> None:
    """Follow the links of a page as a browser does."""
    page = client.get(path, follow_redirects=True)
    assert page.status_code == 200
    links = LINKS.findall(page.text)
    assert len(links) >= 4
    for link in links:
        if not link.startswith("data:"):
            assert client.get(page.url.join(link)).status_code == 200, link


@pytest.mark.parametrize("removes", [True, False], ids=["removes", "passes-on"])
def test_all_addresses_lead_through_the_proxy(prefixed: Service, removes: bool) -> None:
    with behind(prefixed, removes=removes) as client:
        for path in ("", "/", "/docs"):
            check_page(client, PREFIX + path)
        answer = client.post(f"{PREFIX}/async-batch-caption", files={"images": upload(BOAT)})
        assert answer.status_code == 202
        task = client.get(answer.headers["location"])
        assert task.json()["task_id"] == answer.json()["task_id"]
        (server,) = client.get(f"{PREFIX}/openapi.json").json()["servers"]
        assert client.get(f"{server['url']}/version").json()["service"] == "captiond"
        redirect = client.get(f"{PREFIX}/version/")
        assert redirect.headers["location"] == f"{PREFIX}/version"
        events = answer.headers["location"].replace("/status/", "/events/")
        assert client.get(f"{events}?follow=false").text.startswith("retry: ")
        assert client.get("/version").status_code == 404  # it is not the proxy's


def test_a_client_may_leave_the_proxy_out(prefixed: Service) -> None:
    answer = prefixed.client.post("/async-batch-caption", files={"images": upload(BOAT)})
    location = answer.headers["location"]
    assert location.startswith(f"{PREFIX}/")
    assert prefixed.client.get(location).json()["task_id"] == answer.json()["task_id"]


def test_the_pages_need_no_setting_behind_a_proxy_that_removes_its_path(service: Service) -> None:
    with behind(service, removes=True) as client:
        for path in ("/", "/docs"):
            check_page(client, PREFIX + path)


def test_the_log_has_the_path_without_the_prefix(prefixed: Service, tmp_path: Path) -> None:
    with behind(prefixed, removes=False) as client:
        client.get(f"{PREFIX}/nowhere/seen")
    prefixed.wait_for_entries("request", 1)
    paths = [entry["path"] for entry in prefixed.logged("request")]
    assert "/nowhere/seen" in paths
    assert not any(path.startswith(PREFIX) for path in paths)
