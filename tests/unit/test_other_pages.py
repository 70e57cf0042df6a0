"""Web pages of other sites cannot use the service; those that the settings name can (CORS)."""

from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from captiond.settings.server_settings import ServerSettings
from captiond.store.engine import Engine
from captiond.web.access.other_pages import EXPOSED_HEADERS
from captiond.web.operations import OPERATIONS
from captiond.web.page import STATIC
from captiond.web.schemas import ErrorResponse
from tests.answers import check_type
from tests.unit.webprocess import PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
EVIL = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
PHOTOS = "https://photos.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "POST"}
ALLOW, EXPOSE = "access-control-allow-origin", "access-control-expose-headers"
PROTECTED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path) as process:
        yield process


def check_refused(response: httpx.Response, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["x-request-id"] == response.json()["request_id"]
    assert ALLOW not in response.headers
    check_type(ErrorResponse, response)


async def test_a_form_of_another_site_is_refused(web: WebProcess) -> None:
    for path, field in (("/caption", "image"), ("/async-batch-caption", "images")):
        files = {field: ("a.png", PNG)}
        refused = await web.client.post(path, files=files, headers=EVIL)
        check_refused(refused, 403, "origin_not_allowed")
    assert list(web.spool.iterdir()) == []
    files = {"images": ("a.png", PNG)}
    accepted = await web.client.post("/async-batch-caption", files=files)
    task = f"/async-batch-caption/{accepted.json()['task_id']}"
    check_refused(await web.client.delete(task, headers=EVIL), 403, "origin_not_allowed")
    own = {"Origin": "http://test", "Sec-Fetch-Site": "same-origin"}
    assert (await web.client.delete(task, headers=own)).json()["status"] == "CANCELLED"


@pytest.mark.parametrize("path", ["/", "/version", "/static/page.js", "/nowhere", "/livez"])
async def test_another_host_is_refused_whatever_the_path(web: WebProcess, path: str) -> None:
    for host in ("rebind.evil:8333", "evil.example"):
        refused = await web.client.get(path, headers={"Host": host})
        check_refused(refused, 421, "host_not_allowed")


async def test_the_settings_and_the_address_of_the_service_name_hosts(
    store: Engine, tmp_path: Path
) -> None:
    server = ServerSettings(host="listens.example.com", hosts=("captions.example.com",))
    async with web_process(store, tmp_path, server=server) as web:
        for host in ("captions.example.com", "CAPTIONS.example.com:443", "listens.example.com"):
            assert (await web.client.get("/livez", headers={"Host": host})).status_code == 200
        refused = await web.client.get("/livez", headers={"Host": "evil.example"})
        check_refused(refused, 421, "host_not_allowed")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/static/page.js"), ("GET", "/static/no"), ("GET", "/livez"),
     ("GET", "/livez/"), ("PATCH", "/caption"), ("POST", "/caption"), ("GET", "/nowhere")],
)  # fmt: skip
async def test_every_response_has_the_headers_that_protect_it(
    web: WebProcess, method: str, path: str
) -> None:
    response = await web.client.request(method, path)
    assert PROTECTED.items() <= dict(response.headers).items()
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert ALLOW not in response.headers


async def test_an_internal_error_is_protected_too(
    web: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> bytes:
        raise RuntimeError("a fault")

    monkeypatch.setattr(type(web.services.statuses), "status", fail)
    response = await web.client.get("/async-batch-caption/status/x")
    assert response.status_code == 500
    assert PROTECTED.items() <= dict(response.headers).items()


class Resources(HTMLParser):
    """Collects what a page loads, and the attributes and elements that a strict policy blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.blocked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag != "a":
            self.loaded += [value for key in ("src", "href") if (value := given.get(key))]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.blocked.append(tag)
        self.blocked += [key for key in given if key == "style" or key.startswith("on")]


@pytest.mark.parametrize("name", [path.name for path in sorted(STATIC.glob("*.html"))])
def test_a_page_loads_nothing_that_its_policy_blocks(name: str) -> None:
    page = Resources()
    page.feed((STATIC / name).read_text("utf-8"))
    assert page.blocked == []
    assert page.loaded
    for each in page.loaded:
        address = urlsplit(each)
        assert (address.netloc, address.scheme) in {("", ""), ("", "data")}, each


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/livez/", "/livez"),
        ("/livez/?a=b", "/livez?a=b"),
        ("/async-batch-caption/status/x/", "/async-batch-caption/status/x"),
        ("/static", "/static/"),
    ],
)
@pytest.mark.parametrize("host", ["test", "10.0.0.9:1"])
async def test_a_redirect_names_no_host(
    web: WebProcess, path: str, location: str, host: str
) -> None:
    response = await web.client.get(path, headers={"Host": host})
    assert (response.status_code, response.headers["location"]) == (307, location)


@pytest.mark.parametrize("path", ["//evil.example/", "//evil.example", "/\\evil.example/"])
async def test_a_path_that_looks_like_a_host_is_no_redirect(web: WebProcess, path: str) -> None:
    request = httpx.Request("GET", f"http://test{path}")
    response = await web.client.send(request)
    assert response.status_code == 404
    assert "location" not in response.headers


# ---------------------------------------------------------------- CORS


async def test_cors_is_off_by_default(web: WebProcess) -> None:
    for headers in (EVIL, {"Origin": PHOTOS}):
        preflight = await web.client.options("/caption", headers=headers | PREFLIGHT)
        check_refused(preflight, 403, "origin_not_allowed")
        response = await web.client.get("/version", headers=headers)
        assert response.status_code == 200
        assert ALLOW not in response.headers


async def answer_to(
    web: WebProcess, origin: str, method: str, path: str, **request: Any
) -> httpx.Response:
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site", **request.pop("headers", {})}
    return await web.client.request(method, path, headers=headers, **request)


async def test_a_page_that_the_settings_name_may_use_the_service(
    store: Engine, tmp_path: Path
) -> None:
    server = ServerSettings(cors_origins=(PHOTOS,))
    async with web_process(store, tmp_path, server=server) as web:
        asked = {**PREFLIGHT, "Access-Control-Request-Headers": "authorization,idempotency-key"}
        preflight = await answer_to(web, PHOTOS, "OPTIONS", "/async-batch-caption", headers=asked)
        assert preflight.status_code == 204
        assert preflight.headers[ALLOW] == PHOTOS
        assert preflight.headers["vary"] == "Origin"
        assert "POST" in preflight.headers["access-control-allow-methods"]
        allowed = preflight.headers["access-control-allow-headers"]
        assert allowed == "authorization,idempotency-key"
        files = {"images": ("a.png", PNG)}
        accepted = await answer_to(web, PHOTOS, "POST", "/async-batch-caption", files=files)
        assert (accepted.status_code, accepted.headers[ALLOW]) == (202, PHOTOS)
        assert "Location" in accepted.headers[EXPOSE]
        assert "Task-Status" in accepted.headers[EXPOSE]
        error = await answer_to(web, PHOTOS, "GET", "/nowhere")
        assert (error.status_code, error.headers[ALLOW]) == (404, PHOTOS)
        for origin in ("http://evil.example", "null", f"{PHOTOS}.evil.example"):
            refused = await answer_to(web, origin, "OPTIONS", "/caption", headers=PREFLIGHT)
            check_refused(refused, 403, "origin_not_allowed")
            assert refused.headers["vary"] == "Origin"
            refused = await answer_to(web, origin, "POST", "/caption")
            check_refused(refused, 403, "origin_not_allowed")


def test_pages_of_other_origins_can_read_every_header_of_the_api() -> None:
    own = {name for each in OPERATIONS for response in each.responses for name in response.headers}
    assert {"Task-Status", "ETag"} < own <= set(EXPOSED_HEADERS.split(", "))


async def test_every_page_may_use_a_service_that_is_open(store: Engine, tmp_path: Path) -> None:
    """This is what the replaced service did."""
    server = ServerSettings(cors_origins=("*",))
    async with web_process(store, tmp_path, server=server) as web:
        for origin in (PHOTOS, "null"):
            preflight = await answer_to(web, origin, "OPTIONS", "/caption", headers=PREFLIGHT)
            assert (preflight.status_code, preflight.headers[ALLOW]) == (204, "*")
            files = {"images": ("a.png", PNG)}
            accepted = await answer_to(web, origin, "POST", "/async-batch-caption", files=files)
            assert (accepted.status_code, accepted.headers[ALLOW]) == (202, "*")


async def test_a_header_of_a_preflight_is_returned_only_if_it_is_one(
    store: Engine, tmp_path: Path
) -> None:
    async with web_process(store, tmp_path, server=ServerSettings(cors_origins=("*",))) as web:
        for asked in ("x\x01y", "a" * 2000, "a;b"):
            headers = {**PREFLIGHT, "Access-Control-Request-Headers": asked}
            preflight = await answer_to(web, PHOTOS, "OPTIONS", "/caption", headers=headers)
            assert "access-control-allow-headers" not in preflight.headers
        assert (await web.client.options("/caption")).status_code == 405
